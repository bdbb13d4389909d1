//! Watching the registry without holding all of it: a node gets the members, the slot table and the sessions of the slots
//! that name it, as of one index after another.
//!
//! Rule: an [`Update`] is read from a replica at one index and holds everything that differs for this node since the
//! index before; so what a [`Watched`] says is what the registry was at its index, and a range read of a new owner's
//! slots comes with the very update that makes it one. Ends of sessions are told, idle times are not.

mod feed;
mod recent;
mod set;
#[cfg(test)]
mod tests;
mod watched;

use std::sync::Arc;

use crate::snapshot::Head;
use crate::{Counts, Ended, Outcome, Refusal, SessionRecord, Slot, SlotRecord};

pub use self::feed::Feed;
pub use self::recent::Recent;
pub use self::set::SlotSet;
pub use self::watched::Watched;

/// What a watching node has: from here on it needs what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Up to where it has everything that it is to have; 0: it has nothing.
    pub index: u64,
    /// The version of its slot table.
    pub map_version: u64,
    /// The slots whose sessions it has.
    pub held: SlotSet,
}

/// The parts of the state that are no sessions and no slots, as a snapshot's head has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals(pub(crate) Head);

impl Globals {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Writing these types to memory cannot fail: string keys only, no failing serialisers.
        serde_json::to_vec(&self.0).expect("a head is plain data")
    }

    /// From JSON.
    ///
    /// # Errors
    /// The bytes are not a head of this release.
    pub fn decode(bytes: &[u8]) -> Result<Globals, serde_json::Error> {
        serde_json::from_slice(bytes).map(Globals)
    }
}

/// The outcomes of a batch of the watching node, in the order of its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Which of its batches.
    pub seq: u64,
    /// What became of each command.
    pub results: Vec<Result<Outcome, Refusal>>,
}

/// What changed for one watching node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The index at which all of this is so.
    pub index: u64,
    /// This is everything: what the node had counts no more.
    pub whole: bool,
    /// Registry time, in ms.
    pub now_ms: u64,
    /// How much there is in the whole registry.
    pub counts: Counts,
    /// If they changed.
    pub globals: Option<Globals>,
    /// The version of the slot table.
    pub map_version: u64,
    /// The slots that changed.
    pub slots: Vec<(Slot, SlotRecord)>,
    /// Sessions that are new to the node, or changed.
    pub sessions: Vec<Arc<SessionRecord>>,
    /// Sessions of its slots that ended.
    pub ended: Vec<Ended>,
    /// What became of its batches.
    pub answers: Vec<Answers>,
}
