//! The event logs of a slot's resumable streams, and the entries of which copies are made.

use std::collections::BTreeMap;

use enfilade_registry::Term;

use crate::call::{Call, EventId, Piece, StreamId};
use crate::event::Opener;

/// What is copied to the second and to the target of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogEntry {
    /// A call is about to be sent to its upstream.
    Open(Call),
    /// The next event of its stream; the last one closes it.
    Event { call: Call, id: EventId, piece: Piece },
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) call: Call,
    pub(super) events: Vec<(EventId, Piece)>,
    pub(super) open: bool,
    /// How many of the events may leave.
    pub(super) confirmed: usize,
    /// How many were sent to the node that is attached.
    pub(super) sent: usize,
    pub(super) attached: Option<Opener>,
    /// The node that hears the upstream, if it is not this one.
    pub(super) finisher: Option<usize>,
}

/// The logs of one slot.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotLog {
    pub(super) streams: BTreeMap<StreamId, Stream>,
}

impl SlotLog {
    /// Takes an entry in. A copy begins while its streams go on: what is new may come before what there was, and all of
    /// that may come twice.
    pub(super) fn apply(&mut self, entry: &LogEntry) {
        match entry {
            LogEntry::Open(call) => _ = self.stream(call),
            LogEntry::Event { call, id, piece } => {
                let stream = self.stream(call);
                let at = stream.events.partition_point(|(kept, _)| kept.seq < id.seq);
                if stream.events.get(at).is_none_or(|(kept, _)| kept != id) {
                    stream.events.insert(at, (*id, *piece));
                    stream.open &= matches!(piece, Piece::Event(_));
                }
            }
        }
    }

    fn stream(&mut self, call: &Call) -> &mut Stream {
        self.streams.entry(call.stream).or_insert_with(|| Stream {
            call: *call,
            events: Vec::new(),
            open: true,
            confirmed: 0,
            sent: 0,
            attached: None,
            finisher: None,
        })
    }

    /// Whether a later event of the same stream is here already.
    pub(super) fn is_ahead_of(&self, entry: &LogEntry) -> bool {
        let LogEntry::Event { id, .. } = entry else { return false };
        let last = self.streams.get(&id.stream).and_then(|stream| stream.events.last());
        last.is_some_and(|(last, _)| last.seq > id.seq)
    }

    /// The next event of a stream in a term.
    pub(super) fn number(&self, call: StreamId, term: Term) -> EventId {
        let seq = self.streams.get(&call).map_or(0, |stream| stream.events.len() as u64);
        EventId { stream: call, term, seq }
    }

    /// All of one stream, as entries.
    pub(super) fn entries(&self, stream: StreamId) -> Vec<LogEntry> {
        let Some(Stream { call, events, .. }) = self.streams.get(&stream) else { return Vec::new() };
        let events = events.iter().map(|(id, piece)| LogEntry::Event { call: *call, id: *id, piece: *piece });
        std::iter::once(LogEntry::Open(*call)).chain(events).collect()
    }

    pub(super) fn holds(&self, event: &EventId) -> bool {
        let stream = self.streams.get(&event.stream);
        stream.is_some_and(|stream| stream.events.iter().any(|(id, _)| id == event))
    }

    /// What this node goes on with: all of it may leave, nobody is attached, and what is open is finished by `finisher`.
    pub(super) fn take_over(mut self, finisher: Option<usize>) -> SlotLog {
        for stream in self.streams.values_mut() {
            stream.confirmed = stream.events.len();
            (stream.sent, stream.attached) = (0, None);
            stream.finisher = finisher.filter(|_| stream.open);
        }
        self
    }

    /// Calls whose end is not in the log.
    pub(super) fn open(&self) -> Vec<Call> {
        self.streams.values().filter(|stream| stream.open).map(|stream| stream.call).collect()
    }

    /// A digest, to compare a copy with its origin.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |value: u64| hash = (hash ^ value).wrapping_mul(0x0100_0000_01b3);
        for stream in self.streams.values() {
            add(stream.call.stream.0);
            for (id, piece) in &stream.events {
                add(id.term.0);
                add(id.seq);
                add(match piece {
                    Piece::Event(number) => u64::from(*number),
                    Piece::Result => 1 << 32,
                    Piece::Unknown => 1 << 33,
                });
            }
        }
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hash.to_be_bytes());
        digest
    }
}
