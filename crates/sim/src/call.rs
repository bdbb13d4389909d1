//! What clients ask for: calls of sessions, safe or unsafe, with a resumable stream of numbered events or without.

use std::fmt;

use enfilade_registry::{Slot, Term};

/// A call, by a number that no other one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(pub(crate) u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// What an owner knows a call by: the exchange in which an edge sent it. One that is sent again is another stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    /// The session, by its number among the sessions of the run.
    pub(crate) session: usize,
    pub(crate) slot: Slot,
    /// Where its events are, once an edge has sent it.
    pub(crate) stream: StreamId,
    /// May run twice.
    pub(crate) safe: bool,
    /// Its stream has an event log: events come before the result, and a client may resume.
    pub(crate) resumable: bool,
    /// How many events come before the result.
    pub(crate) events: u32,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = if self.safe { "safe" } else { "unsafe" };
        let stream = if self.resumable { "stream" } else { "json" };
        write!(f, "{} s{} {safe} {stream}", self.id, self.slot)
    }
}

/// What comes back for a call, step by step, from the upstream: event 1 to `events`, then the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Event(u32),
    Result,
    /// The gateway does not know whether the call ran.
    Unknown,
}

/// The name of an event in a session's log: `stream.term.seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId {
    pub(crate) stream: StreamId,
    pub(crate) term: Term,
    pub(crate) seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stream.0, self.term.0, self.seq)
    }
}

/// How a call ended for the client that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The result.
    Result,
    /// An error that says that the outcome is unknown.
    Unknown,
    /// 503: it was not executed.
    NotExecuted,
    /// The client's deadline passed.
    Deadline,
    /// The connection broke, and the revision lets nobody resume the answer.
    Broken,
}
