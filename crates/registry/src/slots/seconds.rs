//! Who holds the second copies, and whether they are complete.

use crate::{CopyId, Members, Run, Slot, SlotRecord, SlotTable, Term};

/// Whether a slot may get a (new) second: it has none, or one that is to be emptied or that restarted.
pub(super) fn wants_second(record: &SlotRecord, members: &Members) -> bool {
    record.owner.is_some() && record.moving.is_none() && record.second.is_none_or(|second| !members.takes_slots(second))
}

/// Makes `second` the second of those of `slots` that want one. It has to be filled.
pub(crate) fn seconds(
    table: &mut SlotTable,
    members: &Members,
    index: u64,
    slots: &[(Slot, Term)],
    second: Run,
) -> Vec<Slot> {
    if !members.takes_slots(second) {
        return Vec::new();
    }
    let mut changed = Vec::new();
    for (slot, term) in slots {
        let record = table.get(*slot);
        if record.term != *term || record.owner == Some(second) || !wants_second(record, members) {
            continue;
        }
        table.update(index, *slot, |record| {
            record.second = Some(second);
            record.in_sync = false;
            record.copy = CopyId(index);
        });
        changed.push(*slot);
    }
    changed
}

/// The owner says whether its second is complete. A copy that was given up is built anew, under a new id.
pub(crate) fn in_sync(
    table: &mut SlotTable,
    members: &Members,
    index: u64,
    slots: &[(Slot, Term, CopyId)],
    second: Run,
    in_sync: bool,
) -> Vec<Slot> {
    let mut changed = Vec::new();
    for (slot, term, copy) in slots {
        let record = table.get(*slot);
        let same = record.term == *term && record.second == Some(second) && record.copy == *copy;
        if !same || in_sync && !members.is_current(second) {
            continue;
        }
        table.update(index, *slot, |record| {
            record.in_sync = in_sync;
            if !in_sync {
                record.copy = CopyId(index);
            }
        });
        changed.push(*slot);
    }
    changed
}
