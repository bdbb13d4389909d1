//! One stream of messages towards a client: numbered and kept while it may be resumed, bounded always.
//!
//! Answers and questions are not dropped to make room. When a client does not read, progress and log lines go first,
//! oldest first; then its connection is closed, so that it resumes or asks again. Notices wait once per subject. Where
//! a second keeps a copy, a numbered event leaves only after the second has it; notices are not copied.

mod reader;
mod state;
#[cfg(test)]
mod tests;

use crate::copy::{Confirm, CopyChange, OpenCall, StreamCopy, answered};
use crate::gate::Gate;
use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use state::State;
use std::fmt;
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

pub use reader::EventStream;
pub(crate) use state::{Kept, shed};

/// Bytes that one stream keeps for a client that does not read, or may resume; one message may be larger.
pub const STREAM_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of answers and questions beyond which a stream takes no more.
pub const STREAM_BYTES_HARD_MAX: usize = 64 * 1024 * 1024;
/// Most events that one stream keeps for resumption once they were sent.
pub const STREAM_EVENTS_KEPT: usize = 1024;
/// Most notices of different subjects that wait for a reader, and their bytes.
pub const NOTICES_MAX: usize = 256;
/// Bytes of waiting notices.
pub const NOTICES_BYTES_MAX: usize = 1024 * 1024;
/// Complete streams of one session that are kept at most.
pub(crate) const FINISHED_KEPT: usize = 16;

/// Names one event of one stream: `stream.term.seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The stream within its session.
    pub stream: u64,
    /// The term of the slot's owner that opened the stream.
    pub term: u64,
    /// Its number within the stream, from 0.
    pub seq: u64,
}

impl EventId {
    /// Reads the text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.').map(|part| part.parse::<u64>().ok());
        Some(Self { stream: parts.next()??, term: parts.next()??, seq: parts.next()?? })
    }

    /// True for events of the stream of messages that belong to no call.
    #[must_use]
    pub fn is_general(&self) -> bool {
        self.stream == 0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stream, self.term, self.seq)
    }
}

/// What an edge writes for one step of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event id, on resumable streams; notices have none.
    pub id: Option<EventId>,
    /// The JSON message; empty for a priming event.
    pub data: Bytes,
}

/// What may be done with a stream when its reader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Events carry ids and are kept; `priming` opens the stream with an empty event.
    Resumable {
        /// 2025-11-25 only.
        priming: bool,
    },
    /// Nothing is kept: the reader's end is the stream's end (modern calls).
    Ephemeral,
}

/// The writing side; shared by whoever has something to say to this client.
pub struct Stream {
    id: u64,
    term: u64,
    kind: Kind,
    state: Mutex<State>,
    waker: AtomicWaker,
    /// Cancelled when it has lost its reader; none where the reader may come back.
    abandoned: Option<CancellationToken>,
    /// What its events pass; none for streams of no session.
    gate: Option<Arc<Gate>>,
    /// Held while an event is taken in and told to the second, so that both have one order.
    order: Mutex<()>,
    me: Weak<Stream>,
}

impl Stream {
    /// A stream without a reader yet, of no session.
    #[must_use]
    pub fn new(id: u64, term: u64, kind: Kind) -> Arc<Self> {
        let stream = Self::build(id, term, kind, State::new(Vec::new(), u64::MAX), None);
        stream.begin();
        stream
    }

    /// A stream of a session that will answer these calls. [`Stream::begin`] follows, once the session has it.
    pub(crate) fn of(gate: &Arc<Gate>, id: u64, kind: Kind, calls: Vec<OpenCall>) -> Arc<Self> {
        let copied = gate.copies() && kind != Kind::Ephemeral;
        let mut state = State::new(calls, if copied { 0 } else { u64::MAX });
        // A stream that answers calls is told of also while it says nothing.
        state.told = !state.calls.is_empty();
        Self::build(id, gate.term().0, kind, state, Some(gate.clone()))
    }

    /// A stream that an earlier owner had opened, as the second holds it. Nobody waits for its events to be confirmed.
    pub(crate) fn restored(gate: &Arc<Gate>, id: u64, kind: Kind, copy: StreamCopy) -> Arc<Self> {
        let confirmed = if gate.copies() { copy.next_seq } else { u64::MAX };
        let mut state = State::new(copy.calls, confirmed);
        (state.events, state.bytes, state.next_seq) = (copy.events, copy.bytes, copy.next_seq);
        // Nobody knows how far it was read: whoever has no event to go on after gets what comes from now on.
        (state.read, state.kept_from, state.done) = (copy.next_seq, copy.kept_from, copy.closed);
        // This node's own second knows nothing yet: it is told of what there is when it becomes the second.
        state.told = true;
        let term = copy.term.unwrap_or(gate.term().0);
        Self::build(id, term, kind, state, Some(gate.clone()))
    }

    fn build(id: u64, term: u64, kind: Kind, state: State, gate: Option<Arc<Gate>>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            id,
            term,
            kind,
            state: Mutex::new(state),
            waker: AtomicWaker::new(),
            abandoned: (kind == Kind::Ephemeral).then(CancellationToken::new),
            gate,
            order: Mutex::new(()),
            me: me.clone(),
        })
    }

    /// Tells the second of the calls that it will answer, and primes the client. Whoever begins a copy meanwhile finds it
    /// in its session by now: what is said here before the copy begins is told again, what is said later goes there.
    pub(crate) fn begin(&self) {
        if let Some(gate) = self.copied() {
            let _order = self.order.lock();
            let calls = self.state.lock().calls.clone();
            if !calls.is_empty() {
                gate.append(CopyChange::Open { stream: self.id, term: self.term, calls }, Confirm::nobody());
            }
        }
        if self.kind == (Kind::Resumable { priming: true }) {
            self.send(Bytes::new());
        }
    }

    /// Its number within the session.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The term in which it was opened.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Appends a question, or anything else that must arrive. False when the stream has ended and the message goes
    /// nowhere.
    pub fn send(&self, message: impl Into<Bytes>) -> bool {
        self.push(message.into(), false, false)
    }

    /// Appends the response to one of the stream's calls.
    pub(crate) fn send_answer(&self, message: Bytes) -> bool {
        self.push(message, false, true)
    }

    /// Appends progress or a log line, which may be dropped when the client does not read.
    pub fn send_droppable(&self, message: impl Into<Bytes>) -> bool {
        self.push(message.into(), true, false)
    }

    fn push(&self, message: Bytes, droppable: bool, answers: bool) -> bool {
        let Some(gate) = self.copied() else { return self.put(message, droppable, answers).is_some() };
        if gate.is_away() {
            // The new owner numbers it.
            let event = CopyChange::Event { stream: self.id, seq: u64::MAX, droppable, answers, data: message };
            gate.append(event, Confirm::nobody());
            return true;
        }
        let _order = self.order.lock();
        let Some(put) = self.put(message.clone(), droppable, answers) else { return false };
        if let Some(calls) = put.open {
            gate.append(CopyChange::Open { stream: self.id, term: self.term, calls }, Confirm::nobody());
        }
        let event = CopyChange::Event { stream: self.id, seq: put.seq, droppable, answers, data: message };
        gate.append(event, Confirm::event(self.me.clone(), put.seq));
        self.tell_trim(put.trim);
        true
    }

    fn put(&self, message: Bytes, droppable: bool, answers: bool) -> Option<Put> {
        let mut state = self.state.lock();
        if state.done || state.bytes > STREAM_BYTES_HARD_MAX {
            return None;
        }
        let open = (!std::mem::replace(&mut state.told, true)).then(|| state.calls.clone());
        if answers {
            answered(&mut state.calls, &message);
        }
        let seq = state.put(message, droppable, answers, self.kind);
        let trim = state.untold_trim();
        // One message may be of any size: only what waits before it shows that nobody reads.
        let closed = state.bytes > STREAM_BYTES_MAX && state.waiting() > STREAM_BYTES_MAX && state.close_reader();
        drop(state);
        if closed {
            self.abandon();
        }
        self.waker.wake();
        Some(Put { seq, open, trim })
    }

    /// Where a second is told of this stream.
    fn copied(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref().filter(|gate| self.kind != Kind::Ephemeral && gate.copies())
    }

    fn tell_trim(&self, trim: Option<u64>) {
        if let Some((gate, before)) = self.copied().zip(trim) {
            gate.append(CopyChange::Trim { stream: self.id, before }, Confirm::nobody());
        }
    }

    /// The second has every event up to this one.
    pub(crate) fn confirmed(&self, seq: u64) {
        let mut state = self.state.lock();
        state.confirmed = state.confirmed.max(seq.saturating_add(1));
        drop(state);
        self.waker.wake();
    }

    /// Tells everything that a second must know of this stream, in order with what is appended meanwhile.
    pub(crate) fn tell(&self, tell: impl Fn(CopyChange)) {
        let _order = self.order.lock();
        self.tell_in_order(tell);
    }

    /// Nothing is taken in as long as what is returned lives.
    pub(crate) fn quiet(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// As [`Stream::tell`], for who keeps the stream quiet.
    pub(crate) fn tell_in_order(&self, tell: impl Fn(CopyChange)) {
        let state = self.state.lock();
        if !state.told {
            return;
        }
        let (calls, done) = (state.calls.clone(), state.done);
        let events: Vec<Kept> = state.events.iter().cloned().collect();
        let before = state.kept_from;
        drop(state);
        tell(CopyChange::Open { stream: self.id, term: self.term, calls });
        tell(CopyChange::Trim { stream: self.id, before });
        for Kept { seq, message, droppable, answers } in events {
            tell(CopyChange::Event { stream: self.id, seq, droppable, answers, data: message });
        }
        if done {
            tell(CopyChange::Close { stream: self.id });
        }
    }

    /// Appends a notice; a waiting one of the same subject is replaced.
    pub fn notice(&self, subject: impl Into<Arc<str>>, message: Bytes) -> Noticed {
        let mut state = self.state.lock();
        if state.done {
            return Noticed::default();
        }
        let noticed = state.notice(subject.into(), message);
        drop(state);
        self.waker.wake();
        noticed
    }

    /// No more will come; the reader gets what is there, then the end.
    pub fn finish(&self) {
        self.state.lock().done = true;
        self.waker.wake();
    }

    /// As [`Stream::finish`], and the second is told.
    pub(crate) fn close(&self) {
        let _order = self.order.lock();
        self.finish();
        if let Some(gate) = self.copied().filter(|_| self.state.lock().told) {
            gate.append(CopyChange::Close { stream: self.id }, Confirm::nobody());
        }
    }

    /// The stream, which is complete, is not kept any more. Whoever is telling everything there is tells nothing of it
    /// after this, or a copy that begins would hold it on.
    pub(crate) fn forgotten(&self) {
        let _order = self.order.lock();
        let told = std::mem::take(&mut self.state.lock().told);
        if let Some(gate) = self.copied().filter(|_| told) {
            gate.append(CopyChange::Forget { stream: self.id }, Confirm::nobody());
        }
    }

    /// Requests that it has not answered.
    pub(crate) fn unanswered(&self) -> Vec<OpenCall> {
        self.state.lock().calls.clone()
    }

    /// The slot is another node's: the reader ends at once, and what it has not got is the new owner's to send.
    fn is_lost(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_gone())
    }

    /// The slot was moved to another node, where the stream goes on.
    fn is_moved(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_away())
    }

    /// A reader that waits looks again whether its slot is still this node's.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether its events have numbers, so that it can be gone on with elsewhere.
    pub(crate) fn is_kept(&self) -> bool {
        self.kind != Kind::Ephemeral
    }

    /// True after [`Stream::finish`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.lock().done
    }

    /// True while somebody reads.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.state.lock().reader != 0
    }

    /// Progress, log lines and notices that were dropped because nobody read them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Resolves when an ephemeral stream has lost its reader.
    pub async fn abandoned(&self) {
        match &self.abandoned {
            Some(abandoned) => abandoned.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The reader of an ephemeral stream is gone.
    fn abandon(&self) {
        self.abandoned.iter().for_each(CancellationToken::cancel);
    }

    /// Attaches a reader; an older one ends. It continues after event `after`, or with what nobody has read yet;
    /// `u64::MAX` stands before the first event. Nothing when `after` was never sent, or what follows it is no longer kept.
    #[must_use]
    pub fn attach(self: &Arc<Self>, after: Option<u64>) -> Option<EventStream> {
        let mut state = self.state.lock();
        let from = after.map_or(state.read, |seq| seq.wrapping_add(1));
        if after.is_some() && (from > state.next_seq || from < state.kept_from) {
            return None;
        }
        state.readers += 1;
        state.reader = state.readers;
        state.read = from;
        let number = state.reader;
        drop(state);
        self.waker.wake();
        Some(EventStream::here(self.clone(), number))
    }
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    /// It waits for the reader; false when the stream has ended.
    pub waits: bool,
    /// It took the place of an unread one of the same subject.
    pub coalesced: bool,
    /// So many older ones had to go.
    pub dropped: u64,
}

/// What came of an event that was taken in.
struct Put {
    seq: u64,
    /// The calls of a stream that the second does not know yet.
    open: Option<Vec<OpenCall>>,
    /// The first event that is kept, when the second should give up those before it.
    trim: Option<u64>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}
