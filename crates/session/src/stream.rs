//! One stream of messages towards a client: numbered and kept while it may be resumed, bounded always.
//!
//! Answers and questions are not dropped to make room. When a client does not read, progress and log lines go first,
//! oldest first; then its connection is closed, so that it resumes or asks again. Notices wait once per subject.

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;

/// Bytes that one stream keeps for a client that does not read, or may resume; one message may be larger.
pub const STREAM_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of answers and questions beyond which a stream takes no more.
pub const STREAM_BYTES_HARD_MAX: usize = 64 * 1024 * 1024;
/// Most events that one stream keeps for resumption once they were sent.
pub const STREAM_EVENTS_KEPT: usize = 256;
/// Most notices of different subjects that wait for a reader, and their bytes.
pub const NOTICES_MAX: usize = 256;
/// Bytes of waiting notices.
pub const NOTICES_BYTES_MAX: usize = 1024 * 1024;

/// Names one event of one stream: `stream.term.seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The stream within its session.
    pub stream: u64,
    /// The term of the slot's owner that sent it.
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
    /// Nothing is kept: the reader's end is the stream's end (modern calls, 2024-11-05).
    Ephemeral,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    message: Bytes,
    /// Progress and log lines: they may go when there is no room.
    droppable: bool,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Kept>,
    bytes: usize,
    next_seq: u64,
    /// Sequence number of the next event for a reader.
    read: u64,
    /// Sequence number of the oldest event that is still kept, or was only dropped to make room.
    kept_from: u64,
    notices: VecDeque<(Box<str>, Bytes)>,
    notices_bytes: usize,
    /// The attached reader; 0 for none.
    reader: u64,
    readers: u64,
    done: bool,
    dropped: u64,
}

/// The writing side; shared by whoever has something to say to this client.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    term: u64,
    kind: Kind,
    state: Mutex<State>,
    waker: AtomicWaker,
    abandoned: CancellationToken,
}

impl Stream {
    /// A stream without a reader yet.
    #[must_use]
    pub fn new(id: u64, term: u64, kind: Kind) -> Arc<Self> {
        let stream = Self {
            id,
            term,
            kind,
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            abandoned: CancellationToken::new(),
        };
        if kind == (Kind::Resumable { priming: true }) {
            stream.send(Bytes::new());
        }
        Arc::new(stream)
    }

    /// Its number within the session.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Appends an answer or a question. False when the stream has ended and the message goes nowhere.
    pub fn send(&self, message: impl Into<Bytes>) -> bool {
        self.push(message.into(), false)
    }

    /// Appends progress or a log line, which may be dropped when the client does not read.
    pub fn send_droppable(&self, message: impl Into<Bytes>) -> bool {
        self.push(message.into(), true)
    }

    fn push(&self, message: Bytes, droppable: bool) -> bool {
        let mut state = self.state.lock();
        if state.done || state.bytes > STREAM_BYTES_HARD_MAX {
            return false;
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        state.bytes += message.len();
        state.events.push_back(Kept { seq, message, droppable });
        state.trim(self.kind);
        state.shed();
        // One message may be of any size: only what waits before it shows that nobody reads.
        let closed = state.bytes > STREAM_BYTES_MAX && state.waiting() > STREAM_BYTES_MAX && state.close_reader();
        drop(state);
        if closed && self.kind == Kind::Ephemeral {
            self.abandoned.cancel();
        }
        self.waker.wake();
        true
    }

    /// Appends a notice; a waiting one of the same subject is replaced.
    pub fn notice(&self, subject: &str, message: Bytes) {
        let mut state = self.state.lock();
        if state.done {
            return;
        }
        if let Some(at) = state.notices.iter().position(|(waiting, _)| **waiting == *subject) {
            let old = std::mem::replace(&mut state.notices[at].1, message.clone());
            state.notices_bytes = state.notices_bytes + message.len() - old.len();
        } else {
            state.notices_bytes += message.len();
            state.notices.push_back((subject.into(), message));
        }
        while state.notices.len() > NOTICES_MAX || (state.notices_bytes > NOTICES_BYTES_MAX && state.notices.len() > 1)
        {
            state.take_notice();
            state.dropped += 1;
        }
        drop(state);
        self.waker.wake();
    }

    /// No more will come; the reader gets what is there, then the end.
    pub fn finish(&self) {
        self.state.lock().done = true;
        self.waker.wake();
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
        self.abandoned.cancelled().await;
    }

    /// Attaches a reader; an older one ends. It continues after event `after`, or with what nobody has read yet.
    /// Nothing when `after` was never sent, or what follows it is no longer kept.
    #[must_use]
    pub fn attach(self: &Arc<Self>, after: Option<u64>) -> Option<EventStream> {
        let mut state = self.state.lock();
        let from = after.map_or(state.read, |seq| seq.saturating_add(1));
        if after.is_some() && (from > state.next_seq || from < state.kept_from) {
            return None;
        }
        state.readers += 1;
        state.reader = state.readers;
        state.read = from;
        let reader = state.reader;
        drop(state);
        self.waker.wake();
        Some(EventStream { stream: self.clone(), reader })
    }
}

impl State {
    /// Index of the next event for a reader.
    fn next(&self) -> usize {
        self.events.partition_point(|kept| kept.seq < self.read)
    }

    /// Bytes of unread events, the newest not counted.
    fn waiting(&self) -> usize {
        let unread = self.events.range(self.next()..);
        unread.take(self.events.len().saturating_sub(self.next() + 1)).map(|kept| kept.message.len()).sum()
    }

    /// Gives up events that were read, beyond what is kept for resumption.
    fn trim(&mut self, kind: Kind) {
        let kept_max = if kind == Kind::Ephemeral { 0 } else { STREAM_EVENTS_KEPT };
        while let Some(oldest) = self.events.front() {
            let was_read = self.reader != 0 && oldest.seq < self.read;
            if !was_read || (self.events.len() <= kept_max && self.bytes <= STREAM_BYTES_MAX) {
                break;
            }
            self.bytes -= oldest.message.len();
            self.kept_from = oldest.seq + 1;
            self.events.pop_front();
        }
    }

    /// Ends the attached reader; true when there was one.
    fn close_reader(&mut self) -> bool {
        std::mem::replace(&mut self.reader, 0) != 0
    }

    /// Drops what may be dropped, oldest first, until there is room.
    fn shed(&mut self) {
        let mut over = self.bytes.saturating_sub(STREAM_BYTES_MAX);
        if over == 0 || self.events.len() < 2 {
            return;
        }
        let (before, newest) = (self.events.len(), self.next_seq - 1);
        self.events.retain(|kept| {
            let goes = over > 0 && kept.droppable && kept.seq != newest;
            if goes {
                over = over.saturating_sub(kept.message.len());
            }
            !goes
        });
        self.bytes = self.events.iter().map(|kept| kept.message.len()).sum();
        self.dropped += (before - self.events.len()) as u64;
    }

    fn take_notice(&mut self) -> Option<Bytes> {
        let (_, message) = self.notices.pop_front()?;
        self.notices_bytes -= message.len();
        Some(message)
    }
}

/// The reading side: what an edge turns into server-sent events.
#[derive(Debug)]
pub struct EventStream {
    stream: Arc<Stream>,
    reader: u64,
}

impl EventStream {
    /// The next event; `None` at the end of the stream, or when another reader has taken over.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.stream.state.lock();
        if state.reader != self.reader {
            return Poll::Ready(None);
        }
        // Only the attached reader registers, or an older one would take the wake-up of its successor.
        self.stream.waker.register(context.waker());
        let at = state.next();
        if let Some(Kept { seq, message, .. }) = state.events.get(at) {
            let (seq, data) = (*seq, message.clone());
            state.read = seq + 1;
            state.trim(self.stream.kind);
            let resumable = self.stream.kind != Kind::Ephemeral;
            let id = resumable.then_some(EventId { stream: self.stream.id, term: self.stream.term, seq });
            return Poll::Ready(Some(Event { id, data }));
        }
        if let Some(data) = state.take_notice() {
            return Poll::Ready(Some(Event { id: None, data }));
        }
        if state.done { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl futures::Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(context)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let mut state = self.stream.state.lock();
        if state.reader == self.reader {
            state.reader = 0;
            if self.stream.kind == Kind::Ephemeral {
                drop(state);
                self.stream.abandoned.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn drain(reader: &mut EventStream) -> Vec<(Option<u64>, Bytes)> {
        let mut out = Vec::new();
        while let Some(Some(event)) = reader.next().now_or_never() {
            out.push((event.id.map(|id| id.seq), event.data));
        }
        out
    }

    #[test]
    fn a_resumed_stream_has_no_gap_and_no_double() {
        let stream = Stream::new(3, 1, Kind::Resumable { priming: true });
        let mut first = stream.attach(None).unwrap();
        stream.send("a");
        stream.send("b");
        assert_eq!(drain(&mut first), [(Some(0), "".into()), (Some(1), "a".into()), (Some(2), "b".into())]);
        stream.send("c");
        let mut second = stream.attach(Some(1)).unwrap();
        assert_eq!(first.next().now_or_never(), Some(None), "the older reader ends");
        assert_eq!(drain(&mut second), [(Some(2), "b".into()), (Some(3), "c".into())]);
        stream.finish();
        assert_eq!(second.next().now_or_never(), Some(None));
        assert!(stream.attach(Some(9)).is_none(), "an event that was never sent");
    }

    #[test]
    fn notices_of_one_subject_coalesce_and_carry_no_id() {
        let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
        stream.notice("tools", "1".into());
        stream.notice("a", "2".into());
        stream.notice("tools", "3".into());
        assert_eq!(drain(&mut stream.attach(None).unwrap()), [(None, "3".into()), (None, "2".into())]);
    }

    #[test]
    fn an_ephemeral_stream_ends_with_its_reader() {
        let stream = Stream::new(0, 1, Kind::Ephemeral);
        let reader = stream.attach(None).unwrap();
        assert!(stream.abandoned().now_or_never().is_none());
        drop(reader);
        assert!(stream.abandoned().now_or_never().is_some());
    }

    #[test]
    fn a_reader_that_stands_still_is_closed_and_loses_no_answer() {
        let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
        let mut reader = stream.attach(None).unwrap();
        stream.send("first");
        assert_eq!(drain(&mut reader).len(), 1);
        let chunk = Bytes::from(vec![b'x'; STREAM_BYTES_MAX / 4]);
        for _ in 0..10 {
            assert!(stream.send_droppable(chunk.clone()));
        }
        assert!(stream.is_attached() && stream.dropped() >= 5, "progress goes first: {}", stream.dropped());
        for _ in 0..10 {
            assert!(stream.send(chunk.clone()));
        }
        assert_eq!(reader.next().now_or_never(), Some(None), "then the connection is closed");
        assert!(stream.send("answer"));
        stream.finish();
        let rest = drain(&mut stream.attach(Some(0)).unwrap());
        assert_eq!((rest.last().unwrap().1.as_ref(), rest.len()), (&b"answer"[..], 11));
    }

    #[test]
    fn a_modern_reader_that_stands_still_ends_its_call() {
        let stream = Stream::new(0, 1, Kind::Ephemeral);
        let mut reader = stream.attach(None).unwrap();
        stream.send("small");
        stream.send(Bytes::from(vec![b'x'; STREAM_BYTES_MAX + 1]));
        assert!(stream.abandoned().now_or_never().is_none(), "one large message is no fault");
        stream.send("more");
        assert!(stream.abandoned().now_or_never().is_some());
        assert_eq!(reader.next().now_or_never(), Some(None));
    }

    #[test]
    fn what_was_read_is_not_read_again_without_being_asked_for() {
        let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
        let mut reader = stream.attach(None).unwrap();
        stream.send("question");
        assert_eq!(drain(&mut reader).len(), 1);
        drop(reader);
        stream.send("later");
        assert_eq!(drain(&mut stream.attach(None).unwrap()), [(Some(1), "later".into())]);
    }

    #[test]
    fn notices_are_bounded_in_bytes() {
        let stream = Stream::new(0, 1, Kind::Ephemeral);
        for at in 0..40 {
            stream.notice(&at.to_string(), Bytes::from(vec![b'x'; NOTICES_BYTES_MAX / 10]));
        }
        assert_eq!(stream.dropped(), 30);
    }

    #[test]
    fn event_ids_go_there_and_back() {
        let id = EventId { stream: 1, term: 2, seq: 3 };
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        for bad in ["", "1.2", "a.b.c", "1.2.3.4", "-1.0.0"] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }
}
