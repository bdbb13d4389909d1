//! The highest term that this edge has seen answers of, per slot. What an owner of a lower one says is dropped.

use enfilade_registry::{Fence, SLOTS};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Seen(Box<[AtomicU64]>);

impl Seen {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes an effect of `fence`; false when it must be dropped.
    pub(crate) fn accept(&self, fence: Fence) -> bool {
        let before = self.0[usize::from(fence.slot.get())].fetch_max(fence.term.0, Ordering::AcqRel);
        fence.term.0 >= before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::{Slot, Term};

    #[test]
    fn terms_of_a_slot_never_fall() {
        let seen = Seen::new();
        let fence = |slot, term| Fence { slot: Slot::new(slot).expect("a slot"), term: Term(term) };
        assert!(seen.accept(fence(7, 3)) && seen.accept(fence(7, 3)) && seen.accept(fence(7, 4)));
        assert!(!seen.accept(fence(7, 3)));
        assert!(seen.accept(fence(4095, 1)));
    }
}
