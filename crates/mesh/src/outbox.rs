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

/// With so many open exchanges the writer lets others go first, once for each time that it found something: what they
/// send leaves in the same write. With fewer there is nobody to wait for.
const CROWD: usize = 8;

/// How far back one who waits for room is looked for.
const WAITING_SEARCHED: usize = 16;

/// What a message costs in queues and credit.
pub(crate) fn cost(payload: &[u8]) -> usize {
    payload.len() + MESSAGE_COST
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
    /// The writer found nothing the last time, and has let nobody go first since.
    is_fresh: bool,
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
            if std::mem::take(&mut inner.is_fresh)
                && !inner.frames.is_empty()
                && inner.state == State::Open
                && self.exchanges.load(Ordering::Relaxed) >= CROWD
            {
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
                inner.is_fresh = true;
                return Poll::Pending;
            };
            inner.bytes -= frame.kind.as_ref().map_or(0, reserved);
            let room = inner.bytes <= self.bytes_max / 2 && !inner.waiting.is_empty();
            (frame, if room { std::mem::take(&mut inner.waiting) } else { Vec::new() })
        };
        woken.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(frame))
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
        Kind::Open(open) => cost(&open.payload),
        Kind::Data(data) => cost(&data.payload),
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
