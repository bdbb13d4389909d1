//! The slots that this node owns, as the owner sees them: whether it may act for one, in which term, and whether an
//! effect that was begun may still leave.

use enfilade_registry::{Fence, NotServed, SLOTS, Slot, Term};
use tokio::sync::watch;

/// Who says for which slots this node may act. All answers are of now: a lease that has run out is seen at once.
///
/// [`Slots::fence`] is asked once per message and [`Slots::holds`] before each effect, the latter also under locks of
/// the owner's: neither may block, nor call into the owner.
pub trait Slots: Send + Sync {
    /// The right to act for a slot.
    ///
    /// # Errors
    /// Why this node may not act for it now. Nothing was executed.
    fn fence(&self, slot: Slot) -> Result<Fence, NotServed>;

    /// Whether what was begun under `fence` may still have effects.
    fn holds(&self, fence: Fence) -> Held;

    /// Changes whenever an answer of [`Slots::fence`] or [`Slots::holds`] changes, but for a lease that runs out.
    fn changed(&self) -> watch::Receiver<u64>;

    /// A slot for a new session, or why none of this node's may take one now.
    fn mint(&self) -> Result<Slot, NotServed>;
}

/// What became of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It holds.
    Yes,
    /// The lease is lost or the slot is frozen, the term is the same: effects wait, state is kept.
    Paused,
    /// The term is over. Nothing that was begun under it may have an effect any more.
    Gone,
}

/// One node alone: it owns every slot for as long as it runs.
#[derive(Debug)]
pub struct AllSlots {
    term: Term,
    changed: watch::Sender<u64>,
}

impl AllSlots {
    /// `term` must differ from that of every earlier run on the same data, such as the time of the start.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self { term, changed: watch::Sender::new(0) }
    }
}

impl Slots for AllSlots {
    fn fence(&self, slot: Slot) -> Result<Fence, NotServed> {
        Ok(Fence { slot, term: self.term })
    }

    fn holds(&self, fence: Fence) -> Held {
        if fence.term == self.term { Held::Yes } else { Held::Gone }
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn mint(&self) -> Result<Slot, NotServed> {
        let random = getrandom::u32().ok().and_then(|random| u16::try_from(random % u32::from(SLOTS)).ok());
        random.and_then(Slot::new).ok_or(NotServed::NotReady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_alone_owns_every_slot_in_its_term() {
        let slots = AllSlots::new(Term(7));
        assert!(Slot::all().all(|slot| slots.fence(slot) == Ok(Fence { slot, term: Term(7) })));
        assert_eq!(slots.holds(Fence { slot: Slot::MAX, term: Term(7) }), Held::Yes);
        assert_eq!(slots.holds(Fence { slot: Slot::MAX, term: Term(6) }), Held::Gone);
        assert!(slots.mint().is_ok());
    }
}
