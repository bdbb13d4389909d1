//! All sessions, by slot, and when the earliest of a slot may be due.
//!
//! Rule: a slot's list is shared with who took a snapshot, and copied by the first change after that: taking one costs
//! a pointer for each slot, not for each session. Derived data beside the lists is small: per slot, not per session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{SessionId, SessionRecord, Slot};

/// Sessions in the order of ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    /// Slots that have sessions.
    slots: BTreeMap<Slot, OfSlot>,
    /// Each of them by its `due_ms`.
    due: BTreeSet<(u64, Slot)>,
    count: u64,
}

/// The sessions of one slot.
#[derive(Clone, Debug)]
struct OfSlot {
    /// In the order of ids; never empty.
    records: Arc<Vec<Arc<SessionRecord>>>,
    /// None of them ends before this. It may be too early, because sessions that are used end later than they were to.
    due_ms: u64,
}

impl OfSlot {
    fn find(&self, id: &SessionId) -> Result<usize, usize> {
        self.records.binary_search_by(|record| record.id.cmp(id))
    }
}

impl Sessions {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<&Arc<SessionRecord>> {
        let of_slot = self.slots.get(&id.slot())?;
        of_slot.find(id).ok().map(|at| &of_slot.records[at])
    }

    /// Those of a slot.
    pub(crate) fn of_slot(&self, slot: Slot) -> std::slice::Iter<'_, Arc<SessionRecord>> {
        self.slots.get(&slot).map(|of_slot| &of_slot.records[..]).unwrap_or_default().iter()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<SessionRecord>> {
        self.after(None)
    }

    /// Those after `id`.
    pub(crate) fn after<'a>(
        &'a self,
        id: Option<&SessionId>,
    ) -> impl Iterator<Item = &'a Arc<SessionRecord>> + use<'a> {
        use std::ops::Bound::{Excluded, Unbounded};
        let rest = id.map(|id| {
            let records = self.of_slot(id.slot()).as_slice();
            &records[records.partition_point(|record| record.id <= *id)..]
        });
        let later = self.slots.range((id.map_or(Unbounded, |id| Excluded(id.slot())), Unbounded));
        rest.unwrap_or_default().iter().chain(later.flat_map(|(_, of_slot)| of_slot.records.iter()))
    }

    /// Puts a session in, in place of one of the same id.
    pub(crate) fn insert(&mut self, record: Arc<SessionRecord>) {
        let (slot, due_ms) = (record.id.slot(), record.expires_at_ms());
        let of_slot = self.slots.entry(slot).or_insert_with(|| OfSlot { records: Arc::default(), due_ms: u64::MAX });
        let place = of_slot.find(&record.id);
        let records = Arc::make_mut(&mut of_slot.records);
        match place {
            Ok(at) => records[at] = record,
            Err(at) => {
                records.insert(at, record);
                self.count += 1;
            }
        }
        if due_ms < of_slot.due_ms || records.len() == 1 {
            self.due.remove(&(of_slot.due_ms, slot));
            of_slot.due_ms = due_ms;
            self.due.insert((due_ms, slot));
        }
    }

    /// Changes a session in place, or a copy of it where somebody reads it. Its end may only become later.
    pub(crate) fn update(&mut self, id: &SessionId, change: impl FnOnce(&mut SessionRecord)) {
        let Some(of_slot) = self.slots.get_mut(&id.slot()) else { return };
        if let Ok(at) = of_slot.find(id) {
            change(Arc::make_mut(&mut Arc::make_mut(&mut of_slot.records)[at]));
        }
    }

    pub(crate) fn remove(&mut self, id: &SessionId) -> Option<Arc<SessionRecord>> {
        let of_slot = self.slots.get_mut(&id.slot())?;
        let at = of_slot.find(id).ok()?;
        let records = Arc::make_mut(&mut of_slot.records);
        let record = records.remove(at);
        self.count -= 1;
        if records.is_empty() {
            self.due.remove(&(of_slot.due_ms, id.slot()));
            self.slots.remove(&id.slot());
        } else if records.len() * 4 < records.capacity() {
            records.shrink_to(records.len() * 2);
        }
        Some(record)
    }

    /// The sessions whose time is up at `now_ms`, earliest first. They are still there.
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<SessionId> {
        let mut ids = Vec::new();
        while let Some((due_ms, slot)) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.due.remove(&(due_ms, slot));
            let Some(of_slot) = self.slots.get_mut(&slot) else { continue };
            let mut next_ms = u64::MAX;
            for record in of_slot.records.iter() {
                match record.expires_at_ms() {
                    at_ms if at_ms <= now_ms => ids.push((at_ms, record.id)),
                    at_ms => next_ms = next_ms.min(at_ms),
                }
            }
            of_slot.due_ms = next_ms;
            self.due.insert((next_ms, slot));
        }
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether the derived data says what the lists say.
    #[cfg(test)]
    pub(crate) fn agrees(&self) -> bool {
        let sound = |(slot, of_slot): (&Slot, &OfSlot)| {
            let earliest = of_slot.records.iter().map(|record| record.expires_at_ms()).min();
            earliest.is_some_and(|earliest| of_slot.due_ms <= earliest)
                && self.due.contains(&(of_slot.due_ms, *slot))
                && of_slot.records.is_sorted_by(|a, b| a.id < b.id)
                && of_slot.records.iter().all(|record| record.id.slot() == *slot)
        };
        self.slots.iter().all(sound) && self.due.len() == self.slots.len() && self.iter().count() as u64 == self.count
    }
}
