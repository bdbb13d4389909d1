//! This node's sessions, as far as slots that come and go concern them.

use enfilade_registry::{Fence, Slot, Term};
use enfilade_session::Node;
use enfilade_session::copy::CopyEntry;

/// See [`Node`]'s methods of the same names.
pub(crate) trait Sessions: Send + Sync {
    fn release(&self, slot: Slot, term: Term);
    fn renew(&self, fence: Fence);
    fn tell_second(&self, slot: Slot);
    fn snapshot(&self, slot: Slot) -> Vec<CopyEntry>;
    fn in_flight_of(&self, slot: Slot) -> usize;
}

impl Sessions for Node {
    fn release(&self, slot: Slot, term: Term) {
        Self::release(self, slot, term);
    }

    fn renew(&self, fence: Fence) {
        Self::renew(self, fence.slot, fence.term);
    }

    fn tell_second(&self, slot: Slot) {
        Self::tell_second(self, slot);
    }

    fn snapshot(&self, slot: Slot) -> Vec<CopyEntry> {
        Self::snapshot(self, slot)
    }

    fn in_flight_of(&self, slot: Slot) -> usize {
        Self::in_flight_of(self, slot)
    }
}
