//! One side of one exchange: what arrived and is not read, what may still be sent, and whether it is over.
//! It has no task and no channel of its own: a hundred thousand of them lie idle at a few hundred bytes each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{Credit, Data, ResetReason};
use enfilade_registry::Run;
use parking_lot::Mutex;

use crate::link::Link;
use crate::outbox::cost;
use crate::{Broken, Message};

pub(crate) struct Flow {
    pub(crate) id: u64,
    /// The node at the other end; behind a relay not the link's.
    pub(crate) peer: Run,
    link: Arc<Link>,
    state: Mutex<State>,
}

struct State {
    inbox: VecDeque<Message>,
    heard_last: bool,
    said_last: bool,
    broken: Option<Broken>,
    /// Bytes that may still be sent; a message may take it below zero.
    window: i64,
    /// Bytes that the other side may still send.
    room: i64,
    /// Bytes that were read and are not credited yet.
    owed: u32,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What became of an exchange after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Goes,
    /// Both sides said `last`.
    Done,
    /// The other side sent more than it had credit for, or after its last message.
    Violation,
}

impl Flow {
    pub(crate) fn new(id: u64, peer: Run, link: Arc<Link>, said_last: bool, heard_last: bool) -> Self {
        let state = State {
            inbox: VecDeque::new(),
            heard_last,
            said_last,
            broken: None,
            window: i64::from(link.peer_credit),
            room: i64::from(link.credit_bytes),
            owed: 0,
            reader: None,
            writer: None,
        };
        Self { id, peer, link, state: Mutex::new(state) }
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.link.message_bytes_max
    }

    /// A message from the other side.
    pub(crate) fn deliver(&self, message: Message, last: bool) -> After {
        let mut state = self.state.lock();
        if state.broken.is_some() {
            return After::Goes;
        }
        if state.heard_last || state.room <= 0 {
            return After::Violation;
        }
        state.room -= cost(message.len()) as i64;
        state.heard_last = last;
        if !(last && message.is_empty()) {
            state.inbox.push_back(message);
        }
        let after = if last && state.said_last { After::Done } else { After::Goes };
        // Who waits for the end of a finished exchange is told too.
        let writer = if after == After::Done { state.writer.take() } else { None };
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        after
    }

    /// Credit from the other side.
    pub(crate) fn grant(&self, bytes: u32) {
        let writer = {
            let mut state = self.state.lock();
            state.window = state.window.saturating_add(i64::from(bytes));
            if state.window > 0 { state.writer.take() } else { None }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The exchange is over. What has arrived can still be read.
    pub(crate) fn end(&self, broken: Broken) {
        let (reader, writer) = {
            let mut state = self.state.lock();
            if state.broken.is_none() {
                state.broken = Some(broken);
            }
            (state.reader.take(), state.writer.take())
        };
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    /// Sends when there is credit and room in the link's queue.
    pub(crate) fn poll_send(
        &self,
        message: &mut Option<(Message, bool)>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let Some((payload, last)) = message else { return Poll::Ready(Ok(())) };
        let (cost, last) = (cost(payload.len()), *last);
        if let Poll::Ready(result) = self.poll_window(cx) {
            result?;
        } else {
            return Poll::Pending;
        }
        match self.link.outbox.poll_reserve(cost, cx) {
            Poll::Pending => return self.poll_end(cx).map(Err),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.lost())),
            Poll::Ready(Ok(())) => {}
        }
        let Message { head, body } = message.take().map(|(message, _)| message).unwrap_or_default();
        // Counted before it is queued: the answer may be here before this function returns.
        let done = {
            let mut state = self.state.lock();
            state.window -= cost as i64;
            state.said_last = last;
            last && state.heard_last
        };
        let pushed =
            self.link.outbox.push(Kind::Data(Data { exchange: self.id, payload: head, body, last, also: Vec::new() }));
        if done {
            self.link.forget(self.id);
        }
        Poll::Ready(pushed.map_err(|_| self.lost()))
    }

    fn poll_window(&self, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.state.lock();
        if let Some(broken) = state.broken {
            return Poll::Ready(Err(broken));
        }
        if state.said_last {
            return Poll::Ready(Err(Broken::Finished));
        }
        if state.window <= 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// While the link's queue is full the exchange may break, which ends the waiting.
    fn poll_end(&self, cx: &Context<'_>) -> Poll<Broken> {
        let mut state = self.state.lock();
        match state.broken {
            Some(broken) => Poll::Ready(broken),
            None => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Why this side cannot send: the link ended, and perhaps it was known before that the exchange never left.
    fn lost(&self) -> Broken {
        self.state.lock().broken.unwrap_or(Broken::Lost)
    }

    /// The next message; gives credit as messages are read.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Result<Message, Broken>>> {
        let (message, credit) = {
            let mut state = self.state.lock();
            let Some(message) = state.inbox.pop_front() else {
                return match (state.heard_last, state.broken) {
                    (true, _) => Poll::Ready(None),
                    (false, Some(broken)) => Poll::Ready(Some(Err(broken))),
                    (false, None) => {
                        state.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                };
            };
            let credit = state.credit(cost(message.len()), self.link.credit_bytes);
            (message, credit)
        };
        if let Some(bytes) = credit {
            // A link that has ended needs no credit; the reader is told by `broken`.
            let _ = self.link.outbox.push(Kind::Credit(Credit { exchange: self.id, bytes }));
        }
        Poll::Ready(Some(Ok(message)))
    }

    /// Waits for the end of the exchange.
    pub(crate) fn poll_broken(&self, cx: &Context<'_>) -> Poll<Broken> {
        {
            let state = self.state.lock();
            if state.broken.is_none() && state.said_last && state.heard_last {
                return Poll::Ready(Broken::Finished);
            }
        }
        self.poll_end(cx)
    }

    /// The user lost interest in what it would send.
    pub(crate) fn drop_sending(&self) {
        if !self.state.lock().said_last {
            self.reset(ResetReason::Dropped);
        }
    }

    /// The user lost interest in what it would receive.
    pub(crate) fn drop_receiving(&self) {
        let heard_last = {
            let mut state = self.state.lock();
            state.inbox = VecDeque::new();
            state.heard_last
        };
        if !heard_last {
            self.reset(ResetReason::Dropped);
        }
    }

    /// Ends the exchange at both ends, unless it has ended.
    pub(crate) fn reset(&self, reason: ResetReason) {
        {
            let state = self.state.lock();
            if state.broken.is_some() || (state.said_last && state.heard_last) {
                return;
            }
        }
        self.end(Broken::Reset);
        self.link.forget(self.id);
        self.link.push_reset(self.id, reason);
    }
}

impl State {
    /// Credit is given in large pieces: a small exchange costs no frame for it.
    fn credit(&mut self, cost: usize, credit_bytes: u32) -> Option<u32> {
        if self.heard_last || self.broken.is_some() {
            return None;
        }
        self.owed = self.owed.saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        if self.owed < credit_bytes / 2 {
            return None;
        }
        let bytes = std::mem::take(&mut self.owed);
        self.room += i64::from(bytes);
        Some(bytes)
    }
}
