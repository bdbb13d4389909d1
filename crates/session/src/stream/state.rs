//! What one stream holds, and what goes when there is no room.

use super::{Kind, NOTICES_BYTES_MAX, NOTICES_MAX, Noticed, STREAM_BYTES_MAX, STREAM_EVENTS_KEPT};
use crate::copy::OpenCall;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The second is told of events that were given up once they are this many, or this many bytes.
const TRIM_EVENTS: u64 = 64;
const TRIM_BYTES: usize = 256 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) seq: u64,
    pub(crate) message: Bytes,
    /// Progress and log lines: they may go when there is no room.
    pub(crate) droppable: bool,
    /// The response to one of the stream's calls.
    pub(crate) answers: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) events: VecDeque<Kept>,
    pub(super) bytes: usize,
    pub(super) next_seq: u64,
    /// Events below this number are safe at the second, or need not be: readers get no others.
    pub(super) confirmed: u64,
    /// Sequence number of the next event for a reader.
    pub(super) read: u64,
    /// Sequence number of the oldest event that is still kept, or was only dropped to make room.
    pub(super) kept_from: u64,
    notices: VecDeque<(Arc<str>, Bytes)>,
    notices_bytes: usize,
    /// The attached reader; 0 for none.
    pub(super) reader: u64,
    pub(super) readers: u64,
    pub(super) done: bool,
    pub(super) dropped: u64,
    /// Requests that the stream has not answered.
    pub(super) calls: Vec<OpenCall>,
    /// The second knows of this stream.
    pub(super) told: bool,
    /// What the second was told of events that were given up, and the bytes of those given up since.
    trimmed: u64,
    trimmed_bytes: usize,
}

/// What a reader finds.
pub(super) enum Next {
    Event,
    Notice,
    Nothing,
    End,
}

impl State {
    pub(super) fn new(calls: Vec<OpenCall>, confirmed: u64) -> Self {
        Self { calls, confirmed, ..Self::default() }
    }

    /// Takes one event in; returns its number.
    pub(super) fn put(&mut self, message: Bytes, droppable: bool, answers: bool, kind: Kind) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.bytes += message.len();
        self.events.push_back(Kept { seq, message, droppable, answers });
        self.trim(kind);
        self.dropped += shed(&mut self.events, &mut self.bytes, STREAM_BYTES_MAX);
        seq
    }

    /// What there is for the reader now.
    pub(super) fn next(&self) -> Next {
        match self.events.get(self.unread()) {
            Some(event) if event.seq < self.confirmed => Next::Event,
            _ if !self.notices.is_empty() => Next::Notice,
            None if self.done => Next::End,
            _ => Next::Nothing,
        }
    }

    /// Gives the next event to the reader.
    pub(super) fn take_event(&mut self, kind: Kind) -> Option<(u64, Bytes)> {
        let event = self.events.get(self.unread())?;
        let (seq, message) = (event.seq, event.message.clone());
        self.read = seq + 1;
        self.trim(kind);
        Some((seq, message))
    }

    /// Index of the next event for a reader.
    fn unread(&self) -> usize {
        self.events.partition_point(|kept| kept.seq < self.read)
    }

    /// Bytes of unread events, the newest not counted, nor those that no reader can have yet.
    pub(super) fn waiting(&self) -> usize {
        let from = self.unread();
        let unread = self.events.range(from..);
        let older = unread.take(self.events.len().saturating_sub(from + 1));
        older.take_while(|kept| kept.seq < self.confirmed).map(|kept| kept.message.len()).sum()
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
            self.trimmed_bytes += oldest.message.len();
            self.kept_from = oldest.seq + 1;
            self.events.pop_front();
        }
    }

    /// The first event that is kept, when it is time to tell the second.
    pub(super) fn untold_trim(&mut self) -> Option<u64> {
        let due = self.kept_from - self.trimmed >= TRIM_EVENTS || self.trimmed_bytes >= TRIM_BYTES;
        (due && self.told).then(|| {
            (self.trimmed, self.trimmed_bytes) = (self.kept_from, 0);
            self.kept_from
        })
    }

    /// Ends the attached reader; true when there was one.
    pub(super) fn close_reader(&mut self) -> bool {
        std::mem::replace(&mut self.reader, 0) != 0
    }

    /// Takes a notice in, in place of one of the same subject.
    pub(super) fn notice(&mut self, subject: Arc<str>, message: Bytes) -> Noticed {
        let mut noticed = Noticed { waits: true, ..Noticed::default() };
        if let Some((_, waiting)) = self.notices.iter_mut().find(|(waiting, _)| *waiting == subject) {
            self.notices_bytes = self.notices_bytes + message.len() - waiting.len();
            *waiting = message;
            noticed.coalesced = true;
        } else {
            self.notices_bytes += message.len();
            self.notices.push_back((subject, message));
        }
        while self.notices.len() > NOTICES_MAX || (self.notices_bytes > NOTICES_BYTES_MAX && self.notices.len() > 1) {
            self.take_notice();
            noticed.dropped += 1;
        }
        self.dropped += noticed.dropped;
        noticed
    }

    pub(super) fn take_notice(&mut self) -> Option<Bytes> {
        let (_, message) = self.notices.pop_front()?;
        self.notices_bytes -= message.len();
        if self.notices.is_empty() {
            // A stream that waits keeps no room for notices.
            self.notices = VecDeque::new();
        }
        Some(message)
    }
}

/// Drops what may be dropped, oldest first and never the newest, until there is room; returns how many went.
pub(crate) fn shed(events: &mut VecDeque<Kept>, bytes: &mut usize, bytes_max: usize) -> u64 {
    let mut over = bytes.saturating_sub(bytes_max);
    let newest = events.back().map(|newest| newest.seq);
    if over == 0 || events.len() < 2 {
        return 0;
    }
    let before = events.len();
    events.retain(|kept| {
        let goes = over > 0 && kept.droppable && Some(kept.seq) != newest;
        if goes {
            over = over.saturating_sub(kept.message.len());
            *bytes -= kept.message.len();
        }
        !goes
    });
    (before - events.len()) as u64
}
