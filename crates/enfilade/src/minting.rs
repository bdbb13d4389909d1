//! A node that is short of memory owns what it owned, and takes no further session: clients of other nodes get theirs there.
//! What its own clients ask, its edge refuses before.

use enfilade_registry::{Fence, NotServed, Slot};
use enfilade_runtime::{Pressure, Step};
use enfilade_session::slots::{Held, Slots};
use std::sync::Arc;
use tokio::sync::watch;

/// The slots of a node, none of which takes a new session while memory is short.
pub(crate) struct Minting {
    slots: Arc<dyn Slots>,
    pressure: Pressure,
}

impl Minting {
    pub(crate) fn new(slots: Arc<dyn Slots>, pressure: Pressure) -> Arc<Self> {
        Arc::new(Self { slots, pressure })
    }
}

impl Slots for Minting {
    fn fence(&self, slot: Slot) -> Result<Fence, NotServed> {
        self.slots.fence(slot)
    }

    fn holds(&self, fence: Fence) -> Held {
        self.slots.holds(fence)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.slots.changed()
    }

    fn mint(&self) -> Result<Slot, NotServed> {
        if self.pressure.step() == Step::Serve { self.slots.mint() } else { Err(NotServed::Full) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::Term;
    use enfilade_runtime::Memory;
    use enfilade_session::slots::AllSlots;

    #[test]
    fn only_new_sessions_are_not_taken_while_memory_is_short() {
        let pressure = Pressure::default();
        let slots = Minting::new(Arc::new(AllSlots::new(Term(1))), pressure.clone());
        let slot = slots.mint().expect("any");
        for (used_bytes, mints) in [(79, true), (80, false), (95, false), (10, true)] {
            pressure.measured(Memory { used_bytes, max_bytes: 100 });
            assert_eq!(slots.mint().err(), (!mints).then_some(NotServed::Full), "{used_bytes}");
            let fence = slots.fence(slot).expect("owned as ever");
            assert_eq!(slots.holds(fence), Held::Yes);
        }
    }
}
