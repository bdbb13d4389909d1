//! Frames that wait to be written to one link. Bounded in bytes: who has more waits for room.
//! Whatever is still here when the link ends was never written, which the caller is told.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{Frame, Open};
use futures::Stream;
use parking_lot::Mutex;
use tonic::Status;

/// What a message costs besides its payload, so that empty ones are bounded too.
pub(crate) const MESSAGE_COST: usize = 64;

/// With so many open exchanges the writer lets others go first when it finds something: what they send leaves in the
/// same write. With fewer there is nobody to wait for.
const CROWD: usize = 8;

/// It does so again for as long as there is more each time: so often, and up to so many bytes.
const TURNS_MAX: u8 = 4;
const WRITE_BYTES: usize = 32 * 1024;

/// How far back one who waits for room is looked for.
const WAITING_SEARCHED: usize = 16;

/// What a message costs in queues and credit.
pub(crate) fn cost(bytes: usize) -> usize {
    bytes + MESSAGE_COST
}

/// The link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    bytes_max: usize,
    /// Open exchanges of the link.
    exchanges: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<Frame>,
    bytes: usize,
    state: State,
    /// Those who wait for room.
    waiting: Vec<Waker>,
    /// The writer, when it found nothing.
    writer: Option<Waker>,
    /// How often the writer may let others go first, since it found nothing.
    turns: u8,
    /// The frames that there were the last time.
    seen: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// What is queued is still written.
    Finishing,
    Closed,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), bytes_max, exchanges: AtomicUsize::new(0) }
    }

    /// How many exchanges the link has.
    pub(crate) fn set_exchanges(&self, count: usize) {
        self.exchanges.store(count, Ordering::Relaxed);
    }

    /// Takes room for a message that is pushed right afterwards.
    pub(crate) fn poll_reserve(&self, cost: usize, cx: &Context<'_>) -> Poll<Result<(), Closed>> {
        let mut inner = self.inner.lock();
        if inner.state != State::Open {
            return Poll::Ready(Err(Closed));
        }
        if inner.bytes >= self.bytes_max {
            // One who polls again is found among the last; a long list is not searched for it.
            if !inner.waiting.iter().rev().take(WAITING_SEARCHED).any(|waker| waker.will_wake(cx.waker())) {
                inner.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        inner.bytes += cost;
        Poll::Ready(Ok(()))
    }

    /// Queues a message for which room was reserved, or a small frame that needs none (credit, reset, roster).
    pub(crate) fn push(&self, kind: Kind) -> Result<(), Closed> {
        let writer = {
            let mut inner = self.inner.lock();
            if inner.state != State::Open {
                return Err(Closed);
            }
            inner.frames.push_back(Frame { kind: Some(kind) });
            inner.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// What is queued.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    /// Takes no more; what is queued is still written.
    pub(crate) fn finish(&self) {
        self.end(State::Finishing);
    }

    /// Ends the queue. Returns the exchanges whose opening was never written.
    pub(crate) fn close(&self) -> Vec<u64> {
        self.end(State::Closed).into_iter().filter_map(opened).collect()
    }

    fn end(&self, state: State) -> VecDeque<Frame> {
        let (unsent, waiting, writer) = {
            let mut inner = self.inner.lock();
            if inner.state != State::Closed {
                inner.state = state;
            }
            let closed = inner.state == State::Closed;
            let unsent = if closed { std::mem::take(&mut inner.frames) } else { VecDeque::new() };
            (unsent, std::mem::take(&mut inner.waiting), inner.writer.take())
        };
        waiting.into_iter().chain(writer).for_each(Waker::wake);
        unsent
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let (frame, woken) = {
            let mut inner = self.inner.lock();
            if inner.has_more_to_come() && self.exchanges.load(Ordering::Relaxed) >= CROWD {
                inner.seen = inner.frames.len();
                inner.turns -= 1;
                drop(inner);
                // It is woken once all that is ready has had its turn.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            let Some(frame) = inner.frames.pop_front() else {
                if inner.state != State::Open {
                    return Poll::Ready(None);
                }
                inner.writer = Some(cx.waker().clone());
                (inner.turns, inner.seen) = (TURNS_MAX, 0);
                return Poll::Pending;
            };
            inner.turns = 0;
            inner.bytes -= frame.kind.as_ref().map_or(0, reserved);
            let room = inner.bytes <= self.bytes_max / 2 && !inner.waiting.is_empty();
            (frame, if room { std::mem::take(&mut inner.waiting) } else { Vec::new() })
        };
        woken.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(frame))
    }
}

impl Inner {
    /// There is more than the last time, and others may have more.
    fn has_more_to_come(&self) -> bool {
        self.turns > 0 && self.frames.len() > self.seen && self.bytes < WRITE_BYTES && self.state == State::Open
    }
}

fn opened(frame: Frame) -> Option<u64> {
    match frame.kind {
        Some(Kind::Open(Open { exchange, .. })) => Some(exchange),
        _ => None,
    }
}

/// The room that a frame had reserved.
fn reserved(kind: &Kind) -> usize {
    match kind {
        Kind::Open(open) => cost(open.payload.len() + open.body.len()),
        Kind::Data(data) => cost(data.payload.len() + data.body.len()),
        Kind::Hello(_) | Kind::Credit(_) | Kind::Reset(_) | Kind::Roster(_) => 0,
    }
}

/// The queue as the transport reads it: all that is ready goes into one write.
pub(crate) struct Drain(pub(crate) Arc<Outbox>);

impl Stream for Drain {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.0.poll_frame(cx)
    }
}

/// [`Drain`] at the side that was dialled.
pub(crate) struct Answer(pub(crate) Arc<Outbox>);

impl Stream for Answer {
    type Item = Result<Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_frame(cx).map(|frame| frame.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_proto::mesh::Credit;
    use futures::task::noop_waker;

    fn push(outbox: &Outbox) {
        outbox.push(Kind::Credit(Credit::default())).expect("open");
    }

    /// Turns that the writer gives to others before its first frame, when there is one more in each of `more` turns.
    fn turns(exchanges: usize, more: usize) -> usize {
        let outbox = Outbox::new(1024);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        outbox.set_exchanges(exchanges);
        assert!(outbox.poll_frame(&mut cx).is_pending(), "nothing yet");
        push(&outbox);
        let mut turns = 0;
        while outbox.poll_frame(&mut cx).is_pending() {
            turns += 1;
            assert!(turns < 100, "it writes some time");
            if turns <= more {
                push(&outbox);
            }
        }
        for _ in 0..more.min(turns) {
            assert!(outbox.poll_frame(&mut cx).is_ready(), "what is there is written without another turn");
        }
        turns
    }

    #[test]
    fn among_many_exchanges_others_go_first_as_long_as_they_have_more() {
        assert_eq!([turns(CROWD, 0), turns(CROWD, 1), turns(CROWD, 2)], [1, 2, 3]);
        assert_eq!(turns(CROWD, 1000), usize::from(TURNS_MAX));
        assert_eq!(turns(CROWD - 1, 1000), 0, "with few there is nobody to wait for");
    }
}
