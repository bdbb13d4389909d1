//! Frames that wait to be written to one link. Bounded in bytes: who has more waits for room.
//! Whatever is still here when the link ends was never written, which the caller is told.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{Data, Frame, Open};
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

/// Most further exchanges that one frame of data is for.
pub(crate) const ALSO_MAX: usize = 512;

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
    /// What was queued since then.
    queued: usize,
    /// What it was the last time.
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
            inner.queued += 1;
            if let Some(kind) = inner.join(kind) {
                inner.frames.push_back(Frame { kind: Some(kind) });
            }
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
                inner.seen = inner.queued;
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
                (inner.turns, inner.queued, inner.seen) = (TURNS_MAX, 0, 0);
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
        self.turns > 0 && self.queued > self.seen && self.bytes < WRITE_BYTES && self.state == State::Open
    }

    /// Makes the newest frame one for this exchange too when both say the same bytes, by their address: an announcement
    /// costs a link one copy of its text. Gives back what needs a frame of its own.
    fn join(&mut self, kind: Kind) -> Option<Kind> {
        let Kind::Data(data) = kind else { return Some(kind) };
        match self.frames.back_mut().and_then(|frame| frame.kind.as_mut()) {
            Some(Kind::Data(newest)) if can_join(newest, &data) => {
                newest.also.push(data.exchange);
                None
            }
            _ => Some(Kind::Data(data)),
        }
    }
}

fn can_join(newest: &Data, data: &Data) -> bool {
    let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
    let is_shared = !data.body.is_empty() && same(&newest.body, &data.body) && newest.payload == data.payload;
    is_shared && !newest.last && !data.last && newest.also.len() < ALSO_MAX
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
        Kind::Data(data) => cost(data.payload.len() + data.body.len()) * (1 + data.also.len()),
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

    fn data(exchange: u64, body: &Bytes, last: bool) -> Kind {
        let payload = Bytes::copy_from_slice(b"head");
        Kind::Data(Data { exchange, payload, body: body.clone(), last, also: Vec::new() })
    }

    fn written(outbox: &Outbox) -> Vec<(u64, Vec<u64>)> {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut all = Vec::new();
        while let Poll::Ready(Some(frame)) = outbox.poll_frame(&mut cx) {
            match frame.kind {
                Some(Kind::Data(data)) => all.push((data.exchange, data.also)),
                _ => all.push((0, Vec::new())),
            }
        }
        all
    }

    #[test]
    fn one_text_for_many_exchanges_is_one_frame_and_nothing_changes_places() {
        let (outbox, text, other) = (Outbox::new(1 << 20), Bytes::from(vec![1; 100]), Bytes::from(vec![1; 100]));
        let waker = noop_waker();
        let send = |exchange, body: &Bytes, last| {
            assert!(outbox.poll_reserve(cost(4 + body.len()), &Context::from_waker(&waker)).is_ready());
            outbox.push(data(exchange, body, last)).expect("open");
        };
        (1..4).for_each(|exchange| send(exchange, &text, false));
        send(4, &other, false);
        send(1, &text, false);
        push(&outbox);
        send(2, &text, false);
        send(3, &text, true);
        send(5, &text, false);
        send(6, &Bytes::new(), false);
        send(7, &Bytes::new(), false);
        let frames = written(&outbox);
        let alone = |exchange| (exchange, vec![]);
        let rest = [4, 1, 0, 2, 3, 5, 6, 7].map(alone);
        assert_eq!((&frames[0], &frames[1..]), (&(1, vec![2, 3]), &rest[..]));
        assert_eq!(outbox.bytes(), 0, "what was reserved is given back");
        (0..=ALSO_MAX as u64 + 1).for_each(|exchange| send(exchange, &text, false));
        assert_eq!(written(&outbox).len(), 2, "a frame is for so many at most");
    }

    #[test]
    fn among_many_exchanges_others_go_first_as_long_as_they_have_more() {
        assert_eq!([turns(CROWD, 0), turns(CROWD, 1), turns(CROWD, 2)], [1, 2, 3]);
        assert_eq!(turns(CROWD, 1000), usize::from(TURNS_MAX));
        assert_eq!(turns(CROWD - 1, 1000), 0, "with few there is nobody to wait for");
    }
}
