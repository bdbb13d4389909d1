//! Planned moves: begun by `Move`, ended by exactly one of `Done`, `Abort` and a `Take` of the owner.

use crate::{CopyId, Members, Move, MoveId, Origin, Run, Slot, SlotTable, Term};

/// Most slots that move at a time.
pub const MOVING_MAX: usize = 64;

/// Begins to move those of `slots` that are as the planner saw them, as many as may move at a time.
pub(crate) fn begin(
    table: &mut SlotTable,
    members: &Members,
    index: u64,
    slots: &[(Slot, Term)],
    to: Run,
) -> Vec<Slot> {
    if !members.takes_slots(to) {
        return Vec::new();
    }
    let mut changed = Vec::new();
    for (slot, term) in slots {
        let record = table.get(*slot);
        // An owner that restarted has nothing to hand over: its slots are taken.
        let owned = record.owner.is_some_and(|owner| owner != to && members.is_current(owner));
        if table.moving() >= MOVING_MAX || record.term != *term || record.moving.is_some() || !owned {
            continue;
        }
        table.update(index, *slot, |record| record.moving = Some(Move { id: MoveId(index), to }));
        changed.push(*slot);
    }
    changed
}

/// The target has everything: it becomes the owner, and the owner its second, which has everything too.
/// An owner that restarted since has lost its copy, and becomes nothing.
pub(crate) fn done(table: &mut SlotTable, members: &Members, index: u64, moves: &[(Slot, MoveId)]) -> Vec<Slot> {
    let mut changed = Vec::new();
    for (slot, id) in moves {
        let record = table.get(*slot);
        let Some(moving) = record.moving.filter(|moving| moving.id == *id && members.is_owner(moving.to)) else {
            continue;
        };
        let second = record.owner.filter(|owner| members.is_owner(*owner));
        table.update(index, *slot, |record| {
            record.term.0 += 1;
            record.owner = Some(moving.to);
            (record.origin, record.since) = (Origin::Move(moving.id), index);
            record.second = second;
            record.in_sync = second.is_some();
            record.copy = CopyId(index);
            record.moving = None;
        });
        changed.push(*slot);
    }
    changed
}

/// The owner keeps the slot, under a new term: whatever the target still holds of the move is stale.
pub(crate) fn abort(table: &mut SlotTable, index: u64, moves: &[(Slot, MoveId)]) -> Vec<Slot> {
    let mut changed = Vec::new();
    for (slot, id) in moves {
        if table.get(*slot).moving.is_none_or(|moving| moving.id != *id) {
            continue;
        }
        table.update(index, *slot, |record| {
            record.term.0 += 1;
            record.moving = None;
        });
        changed.push(*slot);
    }
    changed
}
