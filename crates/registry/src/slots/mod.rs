//! The slot table: who owns each slot, who holds its second copy, and where it is moving.
//! Rule: a term never falls, and owner and second never change in one commit but by the swap of `Done`.

mod late;
mod moves;
mod plan;
mod seconds;
mod table;
mod take;

use serde::{Deserialize, Serialize};

use crate::{Run, Term};

pub use self::late::LateMoves;
pub use self::moves::MOVING_MAX;
pub(crate) use self::moves::{abort, begin, done};
pub use self::plan::plan;
pub(crate) use self::seconds::{in_sync, seconds};
pub use self::table::SlotTable;
pub(crate) use self::take::{assign, take};

/// A planned move, by the index of the commit that began it: never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MoveId(pub u64);

/// A second copy, by the index of the commit since which it has to be built anew. An `InSync` names it, so that
/// one that comes late never vouches for a copy that was given up meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CopyId(pub u64);

/// How the present owner came to the slot, and so what it begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody had it before: there is nothing to go on with.
    #[default]
    Assigned,
    /// It was the in-sync second, and goes on from this copy.
    Copy(CopyId),
    /// The slot was moved to it, with all state.
    Move(MoveId),
    /// Its former owner was lost without an in-sync copy: the gap rule.
    Gap,
}

/// A slot on its way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Which move.
    pub id: MoveId,
    /// Who gets the slot.
    pub to: Run,
}

/// What the registry knows of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// Rises with every change of owner and every aborted move.
    pub term: Term,
    /// Who serves it.
    pub owner: Option<Run>,
    /// How it came to the slot.
    pub origin: Origin,
    /// The index of the commit by which it did. While this is the same, higher terms are aborted moves.
    pub since: u64,
    /// Who holds, or is to hold, the copy of its logs.
    pub second: Option<Run>,
    /// Whether the second has everything that was acknowledged.
    pub in_sync: bool,
    /// The copy that `in_sync` speaks of.
    pub copy: CopyId,
    /// Where it is moving, if it is.
    pub moving: Option<Move>,
}

impl SlotRecord {
    /// A slot that nobody ever had.
    pub const EMPTY: SlotRecord = SlotRecord {
        term: Term(0),
        owner: None,
        origin: Origin::Assigned,
        since: 0,
        second: None,
        in_sync: false,
        copy: CopyId(0),
        moving: None,
    };

    /// Whether this run owns the slot, holds its copy, or is to own it.
    pub fn names(&self, run: Run) -> bool {
        self.owner == Some(run) || self.second == Some(run) || self.moving.is_some_and(|moving| moving.to == run)
    }
}
