//! Which slots wait for time: a tick looks at these and leaves the others alone.
//!
//! Rule: after a machine of a slot took something in, what it says then is noted before anybody else can use it. So who
//! reads this misses only what is being noted right now, which the next tick finds.

use enfilade_registry::{SLOTS, Slot};
use std::iter::successors;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slots in one word.
const BITS: usize = 64;

/// One bit for each slot.
pub(super) struct Waiting(Box<[AtomicU64]>);

impl Default for Waiting {
    fn default() -> Self {
        Self((0..usize::from(SLOTS) / BITS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Waiting {
    /// Whether the slot waits from now on.
    pub(super) fn note(&self, slot: Slot, waits: bool) {
        let at = usize::from(slot.get());
        let (word, bit) = (&self.0[at / BITS], 1 << (at % BITS));
        // What is only read stays in every core's cache. Nobody else notes this slot at the same time.
        if (word.load(Ordering::Relaxed) & bit != 0) == waits {
            return;
        }
        match waits {
            true => word.fetch_or(bit, Ordering::Relaxed),
            false => word.fetch_and(!bit, Ordering::Relaxed),
        };
    }

    /// The slots that wait, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        (0..).step_by(BITS).zip(&self.0).flat_map(|(first, word)| {
            let lowest = |bits: u64| (bits != 0).then_some(bits);
            let left = successors(lowest(word.load(Ordering::Relaxed)), move |bits| lowest(bits & (bits - 1)));
            left.filter_map(move |bits| Slot::new(first + bits.trailing_zeros() as u16))
        })
    }

    /// The next tick looks at every slot.
    #[cfg(test)]
    pub(super) fn all(&self) {
        self.0.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_waits_in_order() {
        let waiting = Waiting::default();
        let slots: Vec<Slot> = [0, 1, 63, 64, 65, 2047, 2048, SLOTS - 1].into_iter().filter_map(Slot::new).collect();
        slots.iter().rev().for_each(|slot| waiting.note(*slot, true));
        waiting.note(slots[2], true);
        assert_eq!(waiting.slots().collect::<Vec<_>>(), slots);
        slots.iter().for_each(|slot| waiting.note(*slot, false));
        assert_eq!(waiting.slots().count(), 0);
        waiting.all();
        waiting.note(Slot::MIN, false);
        assert_eq!(waiting.slots().collect::<Vec<_>>(), Slot::all().skip(1).collect::<Vec<_>>());
    }
}
