//! Reads a link until it ends: one task per link, which also watches the deadlines of its exchanges.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{self as proto, Frame};
use futures::Stream;
use tokio::time::{Instant, sleep_until};
use tonic::Streaming;

use crate::link::{Link, Received, Violation};

/// Frames that are taken before other tasks get their turn; one for several exchanges counts as that many.
const FRAMES_PER_TURN: usize = 256;
/// The timer's rest, when there is no deadline.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Either side closed it.
    #[error("the link was closed")]
    Closed,
    #[error("the connection was lost: {0}")]
    Lost(#[from] Box<tonic::Status>),
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Closes the link however its reader ends: also by a panic of who serves, or when the task is dropped.
struct CloseAtEnd<'a>(&'a Link);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Reads until the end. `open` takes the exchanges that the other node opens.
pub(crate) async fn read(
    link: &Arc<Link>,
    mut frames: Streaming<Frame>,
    mut open: impl FnMut(proto::Open) -> Result<(), Violation>,
) -> Ended {
    let _close = CloseAtEnd(link);
    let mut timer = pin!(sleep_until(Instant::now() + FAR));
    poll_fn(|cx| {
        link.register(cx);
        if link.is_closed() {
            return Poll::Ready(Ended::Closed);
        }
        let mut taken_in = 0;
        loop {
            if taken_in >= FRAMES_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            let frame = match Pin::new(&mut frames).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(Ended::Closed),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Ended::Lost(Box::new(status))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            taken_in += 1 + also(&frame);
            let taken = link.receive(frame).and_then(|received| match received {
                Received::Nothing => Ok(()),
                Received::Open(frame) => open(frame),
            });
            if let Err(violation) = taken {
                return Poll::Ready(violation.into());
            }
        }
        link.poll_deadlines(timer.as_mut(), cx);
        Poll::Pending
    })
    .await
}

/// How many further exchanges a frame is for.
fn also(frame: &Frame) -> usize {
    match &frame.kind {
        Some(Kind::Data(data)) => data.also.len(),
        _ => 0,
    }
}
