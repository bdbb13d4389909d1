//! This node's sessions, as far as slots that come and go concern them.

use enfilade_registry::{Fence, Slot, Term};
use enfilade_session::Node;
use enfilade_session::copy::CopyEntry;
use enfilade_session::finish::Finishing;

/// See [`Node`]'s methods of the same names.
pub(crate) trait Sessions: Send + Sync {
    fn release(&self, slot: Slot, term: Term);
    fn renew(&self, fence: Fence);
    fn tell_copy(&self, slot: Slot, tell: &dyn Fn(Fence, CopyEntry));
    fn commit(&self, slot: Slot) -> usize;
    fn freeze(&self, slot: Slot) -> Vec<CopyEntry>;
    fn hand_over(&self, slot: Slot, term: Term) -> Option<Finishing>;
}

impl Sessions for Node {
    fn release(&self, slot: Slot, term: Term) {
        Self::release(self, slot, term);
    }

    fn renew(&self, fence: Fence) {
        Self::renew(self, fence.slot, fence.term);
    }

    fn tell_copy(&self, slot: Slot, tell: &dyn Fn(Fence, CopyEntry)) {
        Self::tell_copy(self, slot, tell);
    }

    fn commit(&self, slot: Slot) -> usize {
        Self::commit(self, slot)
    }

    fn freeze(&self, slot: Slot) -> Vec<CopyEntry> {
        Self::freeze(self, slot)
    }

    fn hand_over(&self, slot: Slot, term: Term) -> Option<Finishing> {
        Self::hand_over(self, slot, term)
    }
}
