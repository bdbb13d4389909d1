//! The state of a registry as the beginning of another one: restored from a backup, or what is left when most voters are
//! lost. Rule: nobody who was a member is one, and no term that may have been used since is used again.

use std::sync::Arc;

use crate::{ClusterId, StateMachine};

/// By how much terms rise: more changes of owner than can have been made since the state was taken. Clients may still
/// hold event ids of the terms in between.
const TERMS_SKIPPED: u64 = 1 << 20;

impl StateMachine {
    /// This state for the cluster `cluster`, which nobody has joined yet. Sessions are kept. Slots stay with the runs that
    /// had them, which are gone: the first leader takes them, with a gap.
    #[must_use]
    pub fn refounded(mut self, cluster: ClusterId) -> StateMachine {
        let index = self.applied();
        let placement = &mut self.placement;
        placement.cluster = Some(cluster);
        placement.members = Arc::new(placement.members.all_removed());
        let slots = Arc::make_mut(&mut placement.slots);
        let owned: Vec<_> = slots.iter().filter(|(_, record)| record.owner.is_some()).map(|(slot, _)| slot).collect();
        for slot in owned {
            slots.update(index, slot, |record| {
                record.term.0 += TERMS_SKIPPED;
                (record.second, record.in_sync, record.moving) = (None, false, None);
            });
        }
        self
    }
}
