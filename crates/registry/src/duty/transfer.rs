//! The two sides of a planned move, and who finishes after it.

use super::queue::Queue;
use crate::{Move, MoveId, Run, Term};

/// The owner's side of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) id: MoveId,
    pub(super) to: Run,
    pub(super) since_ms: u64,
    pub(super) stage: Stage,
    pub(super) queue: Queue,
    pub(super) proposed_ms: Option<u64>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Serving meanwhile.
    Copying,
    /// Nothing new begins; the copy is being sealed.
    Freezing,
    /// Sealed with this digest.
    Sealed([u8; 32]),
    /// The target has everything: `Done` is proposed.
    Ready,
    /// The target has something else: only an abort helps.
    Spoilt,
}

impl Outgoing {
    pub(super) fn new(now_ms: u64, moving: Move) -> Outgoing {
        Outgoing {
            id: moving.id,
            to: moving.to,
            since_ms: now_ms,
            stage: Stage::Copying,
            queue: Queue::default(),
            proposed_ms: None,
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.stage != Stage::Copying
    }
}

/// The target's side of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) id: MoveId,
    /// The owner; none as long as the move is not applied here.
    pub(super) from: Option<Run>,
    /// Said so, with this digest; said again until the record shows the end.
    pub(super) ready: Option<[u8; 32]>,
    pub(super) said_ms: u64,
}

impl Incoming {
    /// Whether the owner is told that everything is here, until the record shows the end.
    pub(super) fn is_to_be_said(&self) -> bool {
        self.ready.is_some() && self.from.is_some()
    }
}

/// A former owner that finishes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finishing {
    pub(super) id: MoveId,
    pub(super) to: Run,
    /// The slot's term after the move.
    pub(super) term: Term,
    pub(super) until_ms: u64,
}
