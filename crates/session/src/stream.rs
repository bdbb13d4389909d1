//! One stream of messages towards a client: numbered and kept while it may be resumed, bounded always.
//!
//! Messages (responses, requests, progress) are kept in order and never dropped; notices (lists changed, a resource
//! updated) are kept once per subject. Past the limit the stream closes, and the client resumes or asks again.

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Most bytes that one stream keeps for a client that does not read, or may resume.
pub const STREAM_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most events that one stream keeps for resumption once they were sent.
pub const STREAM_EVENTS_KEPT: usize = 256;
/// Most notices of different subjects that wait for a reader.
pub const NOTICES_MAX: usize = 256;

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
struct State {
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
    next_seq: u64,
    /// Sequence number of the next event for the attached reader.
    read: u64,
    notices: VecDeque<(Box<str>, Bytes)>,
    reader: u64,
    readers: u64,
    done: bool,
    overrun: bool,
}

/// The writing side; shared by whoever has something to say to this client.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    term: u64,
    kind: Kind,
    state: Mutex<State>,
    waker: AtomicWaker,
    abandoned: tokio_util::sync::CancellationToken,
}

impl Stream {
    /// A stream without a reader yet.
    #[must_use]
    pub fn new(id: u64, term: u64, kind: Kind) -> Arc<Self> {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            next_seq: 0,
            read: 0,
            notices: VecDeque::new(),
            reader: 0,
            readers: 0,
            done: false,
            overrun: false,
        };
        let stream = Self {
            id,
            term,
            kind,
            state: Mutex::new(state),
            waker: AtomicWaker::new(),
            abandoned: tokio_util::sync::CancellationToken::new(),
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

    /// Appends a message that must arrive. False when the stream has ended and the message goes nowhere.
    pub fn send(&self, message: impl Into<Bytes>) -> bool {
        let message = message.into();
        let mut state = self.state.lock();
        if state.done || state.overrun {
            return false;
        }
        let seq = state.next_seq;
        state.next_seq += 1;
        state.bytes += message.len();
        state.events.push_back((seq, message));
        state.trim(self.kind);
        let overrun = state.overrun;
        drop(state);
        if overrun {
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
        match state.notices.iter_mut().find(|(waiting, _)| **waiting == *subject) {
            Some(waiting) => waiting.1 = message,
            None => {
                if state.notices.len() >= NOTICES_MAX {
                    // Unlike a message, a notice may be dropped: the oldest subject is the one most likely read again.
                    state.notices.pop_front();
                }
                state.notices.push_back((subject.into(), message));
            }
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

    /// Resolves when an ephemeral stream lost its reader, or the limit was passed.
    pub async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    /// Attaches a reader that continues after event `after` (from the start without one); an older reader ends.
    /// Nothing when events after it are no longer kept.
    #[must_use]
    pub fn attach(self: &Arc<Self>, after: Option<u64>) -> Option<EventStream> {
        let mut state = self.state.lock();
        let from = after.map_or(0, |seq| seq.saturating_add(1));
        let first_kept = state.events.front().map_or(state.next_seq, |(seq, _)| *seq);
        if from < first_kept && after.is_some() || from > state.next_seq {
            return None;
        }
        state.readers += 1;
        state.reader = state.readers;
        state.read = from.max(first_kept);
        let reader = state.reader;
        drop(state);
        self.waker.wake();
        Some(EventStream { stream: self.clone(), reader })
    }
}

impl State {
    fn trim(&mut self, kind: Kind) {
        let kept = if kind == Kind::Ephemeral { 0 } else { STREAM_EVENTS_KEPT };
        while let Some((seq, message)) = self.events.front() {
            let was_read = self.reader != 0 && *seq < self.read;
            let too_many = self.events.len() > kept || self.bytes > STREAM_BYTES_MAX;
            if !(was_read && too_many) {
                break;
            }
            self.bytes -= message.len();
            self.events.pop_front();
        }
        // What nobody read is not dropped: the stream ends instead, and whoever writes to it learns so.
        self.overrun |= self.bytes > STREAM_BYTES_MAX && self.events.len() > 1;
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
        if state.reader != self.reader || state.overrun {
            return Poll::Ready(None);
        }
        // Only the attached reader registers, or an older one would take the wake-up of its successor.
        self.stream.waker.register(context.waker());
        let next = state.read;
        let first = state.events.front().map_or(state.next_seq, |(seq, _)| *seq);
        let at = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        if let Some((seq, data)) = state.events.get(at).cloned() {
            state.read = seq + 1;
            state.trim(self.stream.kind);
            let resumable = self.stream.kind != Kind::Ephemeral;
            let id = resumable.then_some(EventId { stream: self.stream.id, term: self.stream.term, seq });
            return Poll::Ready(Some(Event { id, data }));
        }
        if let Some((_, data)) = state.notices.pop_front() {
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
            if self.stream.kind == Kind::Ephemeral && !state.done {
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
    fn a_reader_that_stands_still_closes_the_stream_and_loses_no_message_silently() {
        let stream = Stream::new(0, 1, Kind::Ephemeral);
        let mut reader = stream.attach(None).unwrap();
        let chunk = Bytes::from(vec![b'x'; STREAM_BYTES_MAX / 2]);
        assert!(stream.send(chunk.clone()) && stream.send(chunk.clone()));
        stream.send(chunk.clone());
        assert!(!stream.send(chunk), "the writer learns that the stream is closed");
        assert_eq!(reader.next().now_or_never(), Some(None));
        assert!(stream.abandoned().now_or_never().is_some());
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
