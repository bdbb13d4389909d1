//! What this run has to do for one slot: own it, copy it, hand it over, finish for it. Events in, actions out.
//! Rule: only what the registry committed, as applied here, makes an owner or unfreezes one; clocks only propose.

mod machine;
mod queue;
mod transfer;

use crate::copy::Lane;
use crate::{Command, Fence, Generation, MoveId, Origin, Run, SlotRecord, Term};

pub use self::machine::Duty;
pub use self::queue::{Admission, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyEvent {
    /// This node applied a change of the slot. Changes may be left out, not reordered.
    Applied(SlotRecord),
    /// What [`DutyAction::Load`] asked for in this term is done.
    Loaded(Term),
    /// A copy that this node fills said that it is caught up.
    CaughtUp(Lane),
    /// A copy that this node fills does not answer.
    GivenUp(Lane),
    /// The slot is frozen as [`DutyAction::Freeze`] asked, its copy sealed with this digest.
    Frozen {
        /// Which move.
        id: MoveId,
        /// Of everything that the target must have.
        digest: [u8; 32],
    },
    /// As the target of a move this node has everything; its own digest of it.
    Received {
        /// Which move.
        id: MoveId,
        /// Computed here, not the one that the owner sent.
        digest: [u8; 32],
    },
    /// Another node said something.
    Peer {
        /// Who.
        from: Run,
        /// What.
        message: PeerMessage,
    },
    /// All calls that this node was finishing for the move have ended.
    Finished(MoveId),
    /// Time passed. Expected every 100 ms or so.
    Tick,
}

/// What nodes say to each other about a slot, besides copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// From the target of a move to the owner: it has everything.
    Ready {
        /// Which move.
        id: MoveId,
        /// The target's generation.
        generation: Generation,
        /// Of what it has.
        digest: [u8; 32],
    },
}

/// What the caller has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyAction {
    /// This node owns the slot: read its sessions at or after the index of the record, and take up what the origin
    /// says: the copy or the handed state, or nothing, by the gap rule. Open calls end "outcome unknown", but after a
    /// move. Then say [`DutyEvent::Loaded`].
    Load {
        /// The right to it.
        fence: Fence,
        /// What there is to begin with.
        origin: Origin,
    },
    /// Serve, while there is a lease, and announce the slot's topics again.
    Serve(Fence),
    /// A move was aborted: what was begun under the old fence goes on under the new one. What was queued runs now.
    Renew {
        /// As it was.
        old: Fence,
        /// As it is.
        new: Fence,
    },
    /// The slot was taken: drop its state, queue included; what is in flight ends "outcome unknown".
    Release {
        /// The fence that is over.
        fence: Fence,
    },
    /// The slot was moved: answer the queue `NotOwner`, and finish calls in flight for `to` until
    /// [`DutyAction::FinishOver`].
    HandOver {
        /// The fence that is over.
        fence: Fence,
        /// By which move.
        id: MoveId,
        /// Who numbers the events now.
        to: Run,
    },
    /// Calls of the move that are still in flight end "outcome unknown".
    FinishOver {
        /// Which move.
        id: MoveId,
    },
    /// Fill this copy. `adopted`: the other side has everything already. It takes the place of an earlier copy of the
    /// same kind, for which nothing has to wait any more.
    CopyTo {
        /// By what right.
        fence: Fence,
        /// Which copy.
        lane: Lane,
        /// To whom.
        to: Run,
        /// Whether the other side was the owner until now.
        adopted: bool,
    },
    /// There is no such copy any more; bytes that waited for it may leave, if their fence still holds.
    CopyEnds {
        /// Which.
        lane: Lane,
    },
    /// This node has been the owner until a move: what it has, as it was frozen, is this copy now,
    /// unless [`CopyReceiver::adopt`](crate::copy::CopyReceiver::adopt) says that there is a later one.
    Adopt {
        /// Which.
        lane: Lane,
        /// The slot's term.
        term: Term,
    },
    /// Forget what is held of this copy, and of earlier ones of its kind.
    Forget {
        /// Which.
        lane: Lane,
    },
    /// Begin nothing more for the slot, seal the copy of the move, and say [`DutyEvent::Frozen`]. Messages queue,
    /// events of calls in flight wait.
    Freeze {
        /// The fence that is on hold.
        fence: Fence,
        /// Which move.
        id: MoveId,
        /// To whom.
        to: Run,
    },
    /// Say this to another node.
    Send {
        /// To whom.
        to: Run,
        /// What.
        message: PeerMessage,
    },
    /// Propose this to the registry. It is proposed again until the record shows it, or something else.
    Propose(Command),
}

/// Whether an effect of a fence may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holds {
    /// Yes, while there is a lease.
    Yes,
    /// Not now: the slot is frozen, or not loaded.
    Paused,
    /// Never again: the term is over.
    Gone,
}
