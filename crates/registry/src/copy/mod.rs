//! How a slot's logs get to another node, and stay there: to its second for good, to the target of a move for a while.
//! Rule: a copy vouches for what it holds only while nothing leaves the owner that it has not acknowledged.

mod receiver;
mod sender;

use crate::{CopyId, Fence, MoveId};

pub use self::receiver::{CopyReceiver, Received};
pub use self::sender::{CopySender, Step};

/// Which copy of a slot: they are filled and acknowledged independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The second copy.
    Second(CopyId),
    /// A planned move.
    Move(MoveId),
}

impl Lane {
    /// The index of the commit that began it: later ones replace earlier ones.
    pub(crate) fn index(self) -> u64 {
        match self {
            Lane::Second(copy) => copy.0,
            Lane::Move(id) => id.0,
        }
    }
}

/// From the owner. `E` is what is copied; this module does not look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyMessage<E> {
    /// Slot and term of the owner.
    pub fence: Fence,
    /// Which copy.
    pub lane: Lane,
    /// Its place: 1, 2, 3 and so on within the lane.
    pub n: u64,
    /// What.
    pub part: CopyPart<E>,
}

/// One step of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPart<E> {
    /// Forget what you hold: everything follows.
    Begin,
    /// The next entry.
    Entry(E),
    /// All that there is was said; what follows waits for your acknowledgement.
    Complete,
    /// Nothing follows, and what you hold has this digest.
    Sealed([u8; 32]),
}

/// From the holder of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyAnswer {
    /// Slot and highest term that it knows.
    pub fence: Fence,
    /// Which copy.
    pub lane: Lane,
    /// What.
    pub said: CopySaid,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySaid {
    /// Everything up to here is held.
    Upto(u64),
    /// This one is missing.
    Missing(u64),
    /// Nothing is held of this copy.
    Nothing,
    /// It is of a lower term, or of an earlier copy, than what is known here.
    Stale,
}
