//! Reads one message: counted while it arrives, never after, and without a copy when it comes in one piece.

use crate::hold::hold_back;
use bytes::{Bytes, BytesMut};
use enfilade_runtime::Permit;
use http_body::Body;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// Room that is made ahead of the bytes, at most: a client's word alone must not cost memory.
const RESERVE_BYTES_MAX: u64 = 64 * 1024;

/// From this size on there is room for the largest message: pages of it cost memory once they are written, while growing
/// by doubling would keep the old copy beside the new one.
const GROWING_BYTES_MAX: usize = 1024 * 1024;

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the message did not arrive within {0} ms")]
    TimedOut(u128),
    #[error("too many messages are being read; try again")]
    Overloaded,
    #[error("the message broke off")]
    Broken,
}

/// Reads `body` up to `bytes_max`; its bytes are taken from `budget`.
pub(crate) async fn read<B>(body: B, bytes_max: usize, wait: Duration, budget: &mut Permit) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLarge(bytes_max));
    }
    let mut collected = pin!(collect(body, bytes_max, budget));
    let mut turns = 0;
    // hyper hands over what came with the head when the task runs again. Only what is still missing then gets a
    // timer, so most requests need none.
    let soon = poll_fn(|context| match collected.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if turns == 1 => Poll::Ready(None),
        Poll::Pending => {
            turns += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match soon.await {
        Some(done) => done,
        None => match tokio::time::timeout(wait, collected).await {
            Ok(done) => done,
            Err(_) => Err(BodyError::TimedOut(wait.as_millis())),
        },
    }
}

async fn collect<B>(mut body: B, bytes_max: usize, budget: &mut Permit) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let first = next(&mut body, 0, bytes_max, budget).await?.unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = next(&mut body, first.len(), bytes_max, budget).await? else { return Ok(first) };
    let expected = body.size_hint().lower().min(RESERVE_BYTES_MAX);
    let mut all = BytesMut::with_capacity(first.len() + second.len() + usize::try_from(expected).unwrap_or(0));
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    drop((first, second));
    while let Some(data) = next(&mut body, all.len(), bytes_max, budget).await? {
        if all.len() > GROWING_BYTES_MAX {
            all.reserve(bytes_max - all.len());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// The next piece, with `so_far` bytes before it.
async fn next<B>(body: &mut B, so_far: usize, bytes_max: usize, budget: &mut Permit) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = poll_fn(|context| {
            let (frame, woken) = hold_back(|| Pin::new(&mut *body).poll_frame(context));
            // The connection has nothing more to do for a body that is all there.
            if woken && !(frame.is_ready() && body.is_end_stream()) {
                context.waker().wake_by_ref();
            }
            frame
        })
        .await;
        let Some(frame) = frame else { return Ok(None) };
        // What is no data is a trailer, and says nothing here.
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if data.len() > bytes_max - so_far {
            return Err(BodyError::TooLarge(bytes_max));
        }
        if !budget.grow(data.len()) {
            return Err(BodyError::Overloaded);
        }
        return Ok(Some(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_runtime::Limit;
    use futures::StreamExt;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    const WAIT: Duration = Duration::from_secs(5);

    fn pieces(sizes: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; *size])))).collect();
        StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn the_limit_is_exact_whatever_the_pieces() {
        let limit = Limit::new(usize::MAX >> 1);
        for (sizes, good) in [
            (vec![], true),
            (vec![8], true),
            (vec![9], false),
            (vec![3, 5], true),
            (vec![3, 5, 1], false),
            (vec![0, 8, 0], true),
        ] {
            let read = read(pieces(&sizes), 8, WAIT, &mut limit.empty()).await;
            let total: usize = sizes.iter().sum();
            assert_eq!(read.map(|bytes| bytes.len()), if good { Ok(total) } else { Err(BodyError::TooLarge(8)) });
        }
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let message = Bytes::from(vec![b'x'; 100]);
        let read = read(Full::new(message.clone()), 100, WAIT, &mut Limit::new(100).empty()).await.expect("read");
        assert_eq!(read.as_ptr(), message.as_ptr());
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() {
        let limit = Limit::new(1000);
        let mut budget = limit.empty();
        assert_eq!(read(Full::new(Bytes::from(vec![0; 9])), 8, WAIT, &mut budget).await, Err(BodyError::TooLarge(8)));
        assert!(limit.empty().grow(1000), "nothing was taken from the budget");
    }

    #[tokio::test]
    async fn the_budget_is_shared_and_comes_back() {
        let limit = Limit::new(10);
        let mut first = limit.empty();
        assert!(read(pieces(&[6]), 8, WAIT, &mut first).await.is_ok());
        assert_eq!(read(pieces(&[3, 3]), 8, WAIT, &mut limit.empty()).await, Err(BodyError::Overloaded));
        drop(first);
        assert!(read(pieces(&[3, 3]), 8, WAIT, &mut limit.empty()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_times_out() {
        let some = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))]);
        let slow = StreamBody::new(some.chain(futures::stream::pending()));
        let started = tokio::time::Instant::now();
        let read = read(slow, 8, WAIT, &mut Limit::new(10).empty()).await;
        assert_eq!(read, Err(BodyError::TimedOut(5000)));
        assert_eq!(started.elapsed(), WAIT);
    }
}
