//! The 4,096 records in one piece, so that readers share it and a batch of commands copies it at most once.

use std::collections::BTreeMap;

use crate::{Run, SLOTS, Slot, SlotRecord};

/// All slots. `version` orders the watch; it fences nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTable {
    records: Box<[SlotRecord]>,
    version: u64,
    moving: usize,
}

impl Default for SlotTable {
    fn default() -> SlotTable {
        SlotTable::with_slots(SLOTS)
    }
}

/// What a slot is that the table does not have.
static NOBODYS: SlotRecord = SlotRecord::EMPTY;

impl SlotTable {
    /// A table of the first `count` slots, for simulations.
    pub(crate) fn with_slots(count: u16) -> SlotTable {
        let count = usize::from(count.min(SLOTS));
        SlotTable { records: vec![SlotRecord::EMPTY; count].into(), version: 0, moving: 0 }
    }

    /// The record of a slot.
    pub fn get(&self, slot: Slot) -> &SlotRecord {
        self.records.get(usize::from(slot.get())).unwrap_or(&NOBODYS)
    }

    /// The records in the order of slots.
    pub fn records(&self) -> &[SlotRecord] {
        &self.records
    }

    /// Every slot with its record.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &SlotRecord)> {
        Slot::all().zip(self.records.iter())
    }

    /// The index of the last command that changed a slot.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many slots are moving.
    pub fn moving(&self) -> usize {
        self.moving
    }

    /// Every run that a record names as owner or second: those whose loss matters.
    pub fn holders(&self) -> std::collections::BTreeSet<Run> {
        self.records.iter().flat_map(|record| [record.owner, record.second]).flatten().collect()
    }

    /// How many slots each run owns.
    pub fn loads(&self) -> BTreeMap<Run, usize> {
        let mut loads = BTreeMap::new();
        for owner in self.records.iter().filter_map(|record| record.owner) {
            *loads.entry(owner).or_default() += 1;
        }
        loads
    }

    /// How many slots of `owner` have no second with a whole copy.
    pub fn uncopied(&self, owner: Run) -> usize {
        self.records.iter().filter(|record| record.owner == Some(owner) && !record.in_sync).count()
    }

    /// Changes a record; the only way to, so that version and count of moves follow.
    pub(crate) fn update(&mut self, index: u64, slot: Slot, change: impl FnOnce(&mut SlotRecord)) {
        let Some(record) = self.records.get_mut(usize::from(slot.get())) else { return };
        let before = *record;
        change(record);
        debug_assert!(record.term >= before.term, "a term fell");
        self.moving = self.moving + usize::from(record.moving.is_some()) - usize::from(before.moving.is_some());
        if *record != before {
            self.version = index;
        }
    }

    /// Puts back what a snapshot holds.
    pub(crate) fn restore(&mut self, slot: Slot, record: SlotRecord) {
        self.update(self.version, slot, |old| *old = record);
    }

    pub(crate) fn restore_version(&mut self, version: u64) {
        self.version = version;
    }
}
