//! The sessions of a principal, by their slots. Derived from the sessions alone, so snapshots leave it out and
//! `restore` builds it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sessions::Sessions;
use crate::{SessionRecord, Slot};

/// Principals that have a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principals(BTreeMap<Arc<str>, OfPrincipal>);

/// Where its sessions are: a few bytes for each of them, and never more than a list of all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfPrincipal {
    count: u64,
    /// Slots and how many it has there, in the order of slots. No slot without a session.
    slots: Vec<(Slot, u32)>,
}

impl Principals {
    /// The one shared copy of a principal's name, if it has a session.
    pub(crate) fn shared(&self, principal: &str) -> Option<&Arc<str>> {
        self.0.get_key_value(principal).map(|(shared, _)| shared)
    }

    pub(crate) fn insert(&mut self, record: &SessionRecord) {
        let of_principal = self.0.entry(record.principal.clone()).or_default();
        of_principal.count += 1;
        let slot = record.id.slot();
        match of_principal.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => of_principal.slots[at].1 += 1,
            Err(at) => {
                if of_principal.slots.is_empty() {
                    // Many have one session and no second.
                    of_principal.slots.reserve_exact(1);
                }
                of_principal.slots.insert(at, (slot, 1));
            }
        }
    }

    pub(crate) fn remove(&mut self, record: &SessionRecord) {
        let Some(of_principal) = self.0.get_mut(&record.principal) else { return };
        of_principal.count -= 1;
        if of_principal.count == 0 {
            self.0.remove(&record.principal);
            return;
        }
        if let Ok(at) = of_principal.slots.binary_search_by_key(&record.id.slot(), |(slot, _)| *slot) {
            of_principal.slots[at].1 -= 1;
            if of_principal.slots[at].1 == 0 {
                of_principal.slots.remove(at);
            }
        }
    }

    pub(crate) fn count_of(&self, principal: &str) -> u64 {
        self.0.get(principal).map_or(0, |of_principal| of_principal.count)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The sessions of one principal, in the order of ids.
    pub(crate) fn sessions_of<'a>(
        &'a self,
        principal: &str,
        sessions: &'a Sessions,
    ) -> impl Iterator<Item = &'a Arc<SessionRecord>> + use<'a> {
        self.0.get_key_value(principal).into_iter().flat_map(move |(principal, of_principal)| {
            let slots = of_principal.slots.iter().flat_map(|(slot, _)| sessions.of_slot(*slot));
            slots.filter(move |record| record.principal == *principal)
        })
    }
}
