//! The fence: every effect for a slot (a write to an upstream, to a log, to a client) names the term it was made under.
//! Rule: whoever receives an effect of a lower term than it has seen drops it.

use crate::{Slot, Term};

/// The right to act for a slot in one term; whether it still holds is asked before every effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The slot.
    pub slot: Slot,
    /// The term.
    pub term: Term,
}

/// Why a node does not act for a slot. Each one guarantees that nothing was executed: any call may be sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotServed {
    /// Another node owns the slot, as far as this one knows.
    #[error("this node does not own the slot")]
    NotOwner,
    /// This node owns the slot and may not act yet, or not now: no lease, or its state is not loaded.
    #[error("this node may not act for the slot now")]
    NotReady,
    /// The slot moves, and the queue of what waits for the move is full.
    #[error("the slot moves and its queue is full")]
    Busy,
    /// This node has no memory left for a further session. One of another node is no worse.
    #[error("this node has no memory left for another session")]
    Full,
}
