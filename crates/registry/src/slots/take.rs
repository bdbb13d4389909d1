//! Slots that lost their owner, or never had one, get one.
//! Rule: only an in-sync second that is live and of the registered run continues; any other owner begins with a gap.

use std::collections::BTreeMap;

use crate::{Members, Origin, Run, Slot, SlotRecord, SlotTable};

/// How many slots each of the runs that may get one has.
struct Loads(BTreeMap<Run, usize>);

impl Loads {
    /// Of the live owners but `lost`. Those that drain get a slot only if nobody else is there.
    fn new(table: &SlotTable, members: &Members, live: &[Run], lost: Option<Run>) -> Loads {
        let owners = |pick: &dyn Fn(Run) -> bool| -> BTreeMap<Run, usize> {
            live.iter().filter(|run| Some(**run) != lost && pick(**run)).map(|run| (*run, 0)).collect()
        };
        let mut loads = owners(&|run| members.takes_slots(run));
        if loads.is_empty() {
            loads = owners(&|run| members.is_owner(run));
        }
        for owner in table.records().iter().filter_map(|record| record.owner) {
            if let Some(load) = loads.get_mut(&owner) {
                *load += 1;
            }
        }
        Loads(loads)
    }

    fn add(&mut self, run: Run) {
        if let Some(load) = self.0.get_mut(&run) {
            *load += 1;
        }
    }

    /// The least loaded, which gets one more.
    fn next(&mut self) -> Option<Run> {
        let (run, load) = self.0.iter_mut().min_by_key(|(run, load)| (**load, **run))?;
        *load += 1;
        Some(*run)
    }
}

/// The second that may continue where `lost` was: it has everything, it lives, and its memory is of this run.
fn heir(record: &SlotRecord, members: &Members, live: &[Run]) -> Option<Run> {
    record.second.filter(|second| record.in_sync && live.contains(second) && members.is_owner(*second))
}

/// Who gets the slot: the term rises, and neither the second nor a move survives.
fn give(table: &mut SlotTable, index: u64, slot: Slot, owner: Run, origin: Origin) {
    table.update(index, slot, |record| {
        record.term.0 += 1;
        record.owner = Some(owner);
        (record.origin, record.since) = (origin, index);
        record.moving = None;
        clear_second(record, index);
    });
}

fn clear_second(record: &mut SlotRecord, index: u64) {
    record.second = None;
    record.in_sync = false;
    record.copy.0 = index;
}

/// Takes everything from `lost` that it had at index `upto`. Without anybody to give them to, its slots stay with it: its in-sync second may
/// still come back.
pub(crate) fn take(
    table: &mut SlotTable,
    members: &Members,
    index: u64,
    lost: Run,
    live: &[Run],
    upto: u64,
) -> Vec<Slot> {
    let owned = slots_where(table, |record| record.owner == Some(lost) && record.since <= upto);
    let seconded = slots_where(table, |record| record.second == Some(lost) && record.copy.0 <= upto);
    let mut loads = Loads::new(table, members, live, Some(lost));
    let mut changed = Vec::new();
    let mut without_heir = Vec::new();
    for slot in owned {
        match heir(table.get(slot), members, live) {
            Some(heir) => {
                loads.add(heir);
                let copy = table.get(slot).copy;
                give(table, index, slot, heir, Origin::Copy(copy));
                changed.push(slot);
            }
            None => without_heir.push(slot),
        }
    }
    for slot in without_heir {
        if let Some(owner) = loads.next() {
            give(table, index, slot, owner, Origin::Gap);
            changed.push(slot);
        }
    }
    for slot in seconded {
        table.update(index, slot, |record| clear_second(record, index));
        changed.push(slot);
    }
    changed.sort_unstable();
    changed
}

/// Gives every slot without an owner to the least loaded of `live`.
pub(crate) fn assign(table: &mut SlotTable, members: &Members, index: u64, live: &[Run]) -> Vec<Slot> {
    let mut loads = Loads::new(table, members, live, None);
    let mut changed = slots_where(table, |record| record.owner.is_none());
    changed.retain(|slot| {
        let owner = loads.next();
        if let Some(owner) = owner {
            give(table, index, *slot, owner, Origin::Assigned);
        }
        owner.is_some()
    });
    changed
}

fn slots_where(table: &SlotTable, pick: impl Fn(&SlotRecord) -> bool) -> Vec<Slot> {
    table.iter().filter(|(_, record)| pick(record)).map(|(slot, _)| slot).collect()
}
