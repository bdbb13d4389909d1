//! What a second keeps of the sessions of other owners' slots: pure, bounded like the owners' own streams.
//!
//! Rule: a copy is begun under streams that go on, so its first events may come before older ones, and it puts each in
//! its place. A second that may have missed some forgets the slot and is told everything again.

use super::{CopyChange, CopyEntry, OpenCall};
use crate::stream::{FINISHED_KEPT, Kept, STREAM_BYTES_MAX, shed};
use bytes::Bytes;
use enfilade_mcp::json;
use enfilade_registry::{SessionId, Slot};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Complete streams of one session that are held at most, whatever its owner says.
const CLOSED_MAX: usize = 2 * FINISHED_KEPT;

/// The copies of all sessions of which this node is the second.
#[derive(Debug, Default)]
pub struct Book {
    slots: BTreeMap<Slot, HashMap<SessionId, SessionCopy>>,
    bytes: usize,
}

/// What the second holds of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionCopy {
    pub(crate) streams: BTreeMap<u64, StreamCopy>,
    /// Complete streams, in the order in which they were told.
    closed: VecDeque<u64>,
    bytes: usize,
    /// It came with a move: the former owner finishes its open calls.
    moved: bool,
}

/// One stream of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamCopy {
    /// In the ids of its events; none as long as it was not told.
    pub(crate) term: Option<u64>,
    pub(crate) events: VecDeque<Kept>,
    pub(crate) bytes: usize,
    pub(crate) next_seq: u64,
    pub(crate) kept_from: u64,
    /// Requests that it has not answered.
    pub(crate) calls: Vec<OpenCall>,
    pub(crate) closed: bool,
}

impl Book {
    /// Notes what an owner tells.
    pub fn apply(&mut self, entry: CopyEntry) {
        let CopyEntry { session, change } = entry;
        if change == CopyChange::End {
            self.forget(&session);
            return;
        }
        let copy = self.slots.entry(session.slot()).or_default().entry(session).or_default();
        let before = copy.bytes;
        copy.apply(change);
        self.bytes = self.bytes + copy.bytes - before;
    }

    /// What is held of a session.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<SessionCopy> {
        self.slots.get(&session.slot())?.get(session).cloned()
    }

    /// Gives up a session. False when nothing was held of it.
    pub fn forget(&mut self, session: &SessionId) -> bool {
        let Some(of_slot) = self.slots.get_mut(&session.slot()) else { return false };
        let forgotten = of_slot.remove(session);
        self.bytes -= forgotten.as_ref().map_or(0, SessionCopy::bytes);
        if of_slot.is_empty() {
            self.slots.remove(&session.slot());
        }
        forgotten.is_some()
    }

    /// Gives up a slot: this node is its second no more, or is told everything again.
    pub fn forget_slot(&mut self, slot: Slot) {
        let copies = self.slots.remove(&slot).into_iter().flatten();
        self.bytes -= copies.map(|(_, copy)| copy.bytes).sum::<usize>();
    }

    /// The sessions of a slot of which something is held.
    pub fn sessions(&self, slot: Slot) -> impl Iterator<Item = SessionId> + '_ {
        self.slots.get(&slot).into_iter().flat_map(|of_slot| of_slot.keys().copied())
    }

    /// Bytes of the events that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl SessionCopy {
    /// Collects the entries of one session, such as those that came with a move.
    pub fn collect(entries: impl IntoIterator<Item = CopyChange>) -> Self {
        let mut copy = Self::default();
        entries.into_iter().for_each(|change| copy.apply(change));
        copy
    }

    /// It came with a planned move: its open calls are finished by the former owner.
    #[must_use]
    pub fn moved(mut self) -> Self {
        self.moved = true;
        self
    }

    pub(crate) fn is_moved(&self) -> bool {
        self.moved
    }

    /// What another second must be told to hold the same.
    #[must_use]
    pub fn changes(&self) -> Vec<CopyChange> {
        let mut changes = Vec::new();
        for (id, stream) in &self.streams {
            let stream_id = *id;
            if let Some(term) = stream.term {
                changes.push(CopyChange::Open { stream: stream_id, term, calls: stream.calls.clone() });
            }
            changes.extend(stream.events.iter().map(|event| CopyChange::Event {
                stream: stream_id,
                seq: event.seq,
                droppable: event.droppable,
                answers: event.answers,
                data: event.message.clone(),
            }));
            if stream.kept_from > 0 {
                changes.push(CopyChange::Trim { stream: stream_id, before: stream.kept_from });
            }
        }
        changes.extend(self.closed.iter().map(|stream| CopyChange::Close { stream: *stream }));
        changes
    }

    /// Bytes of the events that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn apply(&mut self, change: CopyChange) {
        match change {
            CopyChange::Open { stream, term, calls } => {
                let stream = self.streams.entry(stream).or_default();
                (stream.term, stream.calls) = (Some(term), calls);
            }
            CopyChange::Event { stream, seq, droppable, answers, data } => {
                let stream = self.streams.entry(stream).or_default();
                let before = stream.bytes;
                // By itself: it came in a buffer of the link, and is kept for long.
                let message = Bytes::copy_from_slice(&data);
                stream.add(Kept { seq, message, droppable, answers });
                self.bytes = self.bytes + stream.bytes - before;
            }
            CopyChange::Close { stream: id } => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                if !std::mem::replace(&mut stream.closed, true) {
                    stream.calls.clear();
                    self.closed.push_back(id);
                }
                // Its owner says what it keeps no longer. A copy that begins hears of them in any order.
                while self.closed.len() > CLOSED_MAX {
                    let oldest = self.closed.pop_front();
                    oldest.into_iter().for_each(|id| self.give_up(id));
                }
            }
            CopyChange::Forget { stream } => {
                self.closed.retain(|closed| *closed != stream);
                self.give_up(stream);
            }
            CopyChange::Trim { stream, before } => {
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                self.bytes -= stream.trim(before);
            }
            CopyChange::End => *self = Self::default(),
        }
    }

    fn give_up(&mut self, stream: u64) {
        if let Some(stream) = self.streams.remove(&stream) {
            self.bytes -= stream.bytes;
        }
    }
}

impl StreamCopy {
    fn add(&mut self, event: Kept) {
        // A copy begins while its streams go on: what is new may come before what there was. What is told again is
        // known already; what the owner gave up in between is not missed.
        let at = self.events.partition_point(|kept| kept.seq < event.seq);
        let is_known = self.events.get(at).is_some_and(|kept| kept.seq == event.seq);
        if is_known || event.seq < self.kept_from {
            return;
        }
        self.next_seq = self.next_seq.max(event.seq + 1);
        if event.answers {
            answered(&mut self.calls, &event.message);
        }
        self.bytes += event.message.len();
        self.events.insert(at, event);
        shed(&mut self.events, &mut self.bytes, STREAM_BYTES_MAX);
    }

    /// Gives up events; returns their bytes.
    fn trim(&mut self, before: u64) -> usize {
        let count = self.events.partition_point(|event| event.seq < before);
        let bytes = self.events.drain(..count).map(|event| event.message.len()).sum();
        self.bytes -= bytes;
        self.kept_from = self.kept_from.max(before);
        bytes
    }
}

/// Takes the call that a message answers off those that are open. An answer that is told again may be one of a call that
/// is off already, so ids are compared also where one call is left.
pub(crate) fn answered(calls: &mut Vec<OpenCall>, message: &Bytes) {
    if !calls.is_empty() {
        let text = std::str::from_utf8(message).unwrap_or_default();
        let id = json::get(text, "id").unwrap_or_default();
        calls.retain(|call| *call.id != *id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::SessionKeys;

    fn id(random: u8) -> SessionId {
        SessionKeys::new(1, &[7; 32]).unwrap().mint(Slot::new(9).unwrap(), [random; 16])
    }

    fn open(ids: &[&str]) -> CopyChange {
        let calls = ids.iter().map(|id| OpenCall { id: (*id).into(), safe: false }).collect();
        CopyChange::Open { stream: 1, term: 4, calls }
    }

    fn event(seq: u64, answers: bool, data: impl Into<Bytes>) -> CopyChange {
        CopyChange::Event { stream: 1, seq, droppable: !answers, answers, data: data.into() }
    }

    fn seqs(copy: &SessionCopy) -> Vec<u64> {
        copy.streams[&1].events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn what_is_told_twice_is_held_once_and_what_was_trimmed_is_not_held() {
        let mut book = Book::default();
        let mut tell = |change| book.apply(CopyEntry { session: id(1), change });
        tell(open(&["1"]));
        (0..4).for_each(|seq| tell(event(seq, false, "abc")));
        tell(open(&["1"]));
        (2..6).for_each(|seq| tell(event(seq, false, "abc")));
        tell(CopyChange::Trim { stream: 1, before: 3 });
        let copy = book.session(&id(1)).unwrap();
        assert_eq!((seqs(&copy), copy.bytes(), book.bytes()), (vec![3, 4, 5], 9, 9));
        assert_eq!((copy.streams[&1].kept_from, copy.streams[&1].term), (3, Some(4)));
        book.forget_slot(id(1).slot());
        assert_eq!((book.bytes(), book.session(&id(1))), (0, None));
    }

    #[test]
    fn a_copy_that_begins_while_a_stream_goes_on_has_no_hole() {
        let mut copy = SessionCopy::default();
        copy.apply(event(5, false, "abc"));
        copy.apply(open(&["1"]));
        copy.apply(CopyChange::Trim { stream: 1, before: 2 });
        (1..=6).for_each(|seq| copy.apply(event(seq, false, "abc")));
        assert_eq!((seqs(&copy), copy.bytes()), (vec![2, 3, 4, 5, 6], 15));
        assert_eq!((copy.streams[&1].next_seq, copy.streams[&1].kept_from), (7, 2));
    }

    #[test]
    fn another_second_is_told_the_same() {
        let mut copy = SessionCopy::collect([open(&["1", "2"])]);
        (0..5).for_each(|seq| copy.apply(event(seq, seq == 3, r#"{"id":2}"#)));
        copy.apply(CopyChange::Trim { stream: 1, before: 2 });
        copy.apply(CopyChange::Open { stream: 2, term: 4, calls: Vec::new() });
        copy.apply(CopyChange::Close { stream: 2 });
        let other = SessionCopy::collect(copy.changes());
        assert_eq!((seqs(&other), other.streams[&1].calls.len()), (vec![2, 3, 4], 1));
        assert_eq!(other, copy);
    }

    #[test]
    fn answers_close_the_calls_of_a_batch_one_by_one() {
        let mut copy = SessionCopy::default();
        copy.apply(open(&["1", "\"b\"", "3"]));
        copy.apply(event(0, true, r#"{"jsonrpc":"2.0","id":"b","result":{}}"#));
        copy.apply(event(1, false, r#"{"jsonrpc":"2.0","method":"x","params":{"id":1}}"#));
        let left: Vec<&str> = copy.streams[&1].calls.iter().map(|call| &*call.id).collect();
        assert_eq!(left, ["1", "3"]);
        copy.apply(CopyChange::Close { stream: 1 });
        assert!(copy.streams[&1].calls.is_empty());
    }

    #[test]
    fn a_copy_gives_up_the_complete_streams_that_its_owner_gives_up() {
        let mut copy = SessionCopy::default();
        // Told in another order than that in which they ended, and then one more ends.
        for stream in (2..=FINISHED_KEPT as u64).chain([1, FINISHED_KEPT as u64 + 1]) {
            copy.apply(CopyChange::Open { stream, term: 1, calls: Vec::new() });
            copy.apply(CopyChange::Close { stream });
        }
        copy.apply(CopyChange::Forget { stream: 1 });
        assert_eq!(
            copy.streams.keys().copied().collect::<Vec<_>>(),
            (2..=FINISHED_KEPT as u64 + 1).collect::<Vec<_>>()
        );
    }

    #[test]
    fn complete_streams_are_bounded() {
        let mut book = Book::default();
        let mut tell = |change| book.apply(CopyEntry { session: id(2), change });
        for stream in 1..=CLOSED_MAX as u64 + 3 {
            tell(CopyChange::Open { stream, term: 1, calls: Vec::new() });
            tell(CopyChange::Event { stream, seq: 0, droppable: false, answers: true, data: "12345".into() });
            tell(CopyChange::Close { stream });
        }
        tell(CopyChange::Forget { stream: 10 });
        let copy = book.session(&id(2)).unwrap();
        assert_eq!((copy.streams.len(), book.bytes()), (CLOSED_MAX - 1, (CLOSED_MAX - 1) * 5));
        book.apply(CopyEntry { session: id(2), change: CopyChange::End });
        assert_eq!((book.bytes(), book.sessions(id(2).slot()).count()), (0, 0));
    }

    #[test]
    fn progress_that_nobody_trims_is_bounded() {
        let mut copy = SessionCopy::default();
        let chunk = Bytes::from(vec![b'x'; STREAM_BYTES_MAX / 8]);
        (0..100).for_each(|seq| copy.apply(event(seq, false, chunk.clone())));
        assert!(copy.bytes() <= STREAM_BYTES_MAX, "{}", copy.bytes());
        assert_eq!(seqs(&copy).last(), Some(&99));
    }
}
