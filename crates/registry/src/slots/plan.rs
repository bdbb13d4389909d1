//! What the leader proposes next: owners for slots without one, seconds, and the fewest moves that balance.
//! A pure function of the table, the members and who is live; proposing its commands twice is harmless.

use std::collections::BTreeMap;

use super::moves::MOVING_MAX;
use super::seconds::wants_second;
use crate::{Command, Members, MoveId, Run, Slot, SlotTable, Term};

/// What the leader proposes next, given the runs that hold a lease: owners, seconds, and the fewest moves that balance
/// within one slot and empty nodes that drain. Moves wait until every slot has an owner.
pub fn plan(table: &SlotTable, members: &Members, live: &[Run]) -> Vec<Command> {
    let mut live: Vec<Run> = live.iter().copied().filter(|run| members.is_owner(*run)).collect();
    live.sort_unstable();
    live.dedup();
    let targets: Vec<Run> = live.iter().copied().filter(|run| members.takes_slots(*run)).collect();
    let mut commands = Vec::new();
    commands.extend(aborts(table, &live));
    if table.records().iter().any(|record| record.owner.is_none()) {
        if !live.is_empty() {
            commands.push(Command::Assign { live });
        }
        return commands;
    }
    commands.extend(seconds(table, members, &targets));
    commands.extend(moves(table, &live, &targets));
    commands
}

/// Moves to a run that is not live (any more): their owner waits for this.
fn aborts(table: &SlotTable, live: &[Run]) -> Option<Command> {
    let moves: Vec<(Slot, MoveId)> = table
        .iter()
        .filter_map(|(slot, record)| Some((slot, record.moving?)))
        .filter(|(_, moving)| !live.contains(&moving.to))
        .map(|(slot, moving)| (slot, moving.id))
        .collect();
    (!moves.is_empty()).then_some(Command::Abort { moves })
}

/// A second for each slot that wants one: the target that is second least often.
fn seconds(table: &SlotTable, members: &Members, targets: &[Run]) -> Vec<Command> {
    let mut copies: BTreeMap<Run, usize> = targets.iter().map(|run| (*run, 0)).collect();
    for second in table.records().iter().filter_map(|record| record.second) {
        if let Some(count) = copies.get_mut(&second) {
            *count += 1;
        }
    }
    let mut chosen: BTreeMap<Run, Vec<(Slot, Term)>> = BTreeMap::new();
    for (slot, record) in table.iter().filter(|(_, record)| wants_second(record, members)) {
        let others = copies.iter_mut().filter(|(run, _)| record.owner != Some(**run));
        if let Some((run, count)) = others.min_by_key(|(run, count)| (**count, **run)) {
            *count += 1;
            chosen.entry(*run).or_default().push((slot, record.term));
        }
    }
    chosen.into_iter().map(|(second, slots)| Command::Seconds { slots, second }).collect()
}

/// The moves that may begin now, of the fewest that give every target its share.
fn moves(table: &SlotTable, live: &[Run], targets: &[Run]) -> Vec<Command> {
    let mut budget = MOVING_MAX.saturating_sub(table.moving());
    let mut held = Held::new(table, live);
    let mut missing = held.missing(targets);
    let mut chosen: BTreeMap<Run, Vec<(Slot, Term)>> = BTreeMap::new();
    while budget > 0 {
        let Some((slot, to)) = held.next_move(table, targets, &mut missing) else { break };
        chosen.entry(to).or_default().push((slot, table.get(slot).term));
        budget -= 1;
    }
    chosen.into_iter().map(|(to, slots)| Command::Move { slots, to }).collect()
}

/// What each live run has, as if all moves under way were done.
struct Held {
    /// Slots that may leave.
    free: BTreeMap<Run, Vec<Slot>>,
    loads: BTreeMap<Run, usize>,
    /// How many slots a run may keep.
    quota: BTreeMap<Run, usize>,
}

impl Held {
    fn new(table: &SlotTable, live: &[Run]) -> Held {
        let mut held = Held {
            free: live.iter().map(|run| (*run, Vec::new())).collect(),
            loads: live.iter().map(|run| (*run, 0)).collect(),
            quota: BTreeMap::new(),
        };
        for (slot, record) in table.iter() {
            let (Some(owner), moving) = (record.owner, record.moving) else { continue };
            if let Some(load) = held.loads.get_mut(&moving.map_or(owner, |moving| moving.to)) {
                *load += 1;
            }
            if let (None, Some(free)) = (moving, held.free.get_mut(&owner)) {
                free.push(slot);
            }
        }
        held
    }

    /// Sets the quotas, and says how many slots each target lacks. Those that have most get what is left over from
    /// the even share, so that the fewest slots move.
    fn missing(&mut self, targets: &[Run]) -> BTreeMap<Run, usize> {
        let total: usize = self.loads.values().sum();
        let Some(share) = total.checked_div(targets.len()) else {
            self.quota = self.loads.clone();
            return BTreeMap::new();
        };
        let mut by_load: Vec<(usize, Run)> = targets.iter().map(|run| (self.load(*run), *run)).collect();
        by_load.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let over = total - share * targets.len();
        self.quota = by_load.iter().enumerate().map(|(n, (_, run))| (*run, share + usize::from(n < over))).collect();
        targets.iter().map(|run| (*run, self.quota[run].saturating_sub(self.load(*run)))).collect()
    }

    fn load(&self, run: Run) -> usize {
        self.loads.get(&run).copied().unwrap_or(0)
    }

    /// One slot from the run that has most above its quota to the target that lacks most; to the slot's second
    /// where that lacks one too, because the copy is there already.
    fn next_move(
        &mut self,
        table: &SlotTable,
        targets: &[Run],
        missing: &mut BTreeMap<Run, usize>,
    ) -> Option<(Slot, Run)> {
        let over = |run: &Run| self.load(*run).saturating_sub(self.quota.get(run).copied().unwrap_or(0));
        let donor = self.free.iter().filter(|(_, free)| !free.is_empty()).map(|(run, _)| *run);
        let donor = donor.filter(|run| over(run) > 0).max_by_key(|run| (over(run), std::cmp::Reverse(*run)))?;
        let lacking = |run: &Run| missing.get(run).is_some_and(|count| *count > 0);
        let free = &self.free[&donor];
        let to_second = free.iter().position(|slot| table.get(*slot).second.is_some_and(|second| lacking(&second)));
        let (at, to) = match to_second {
            Some(at) => (at, table.get(free[at]).second?),
            None => (
                free.len() - 1,
                *targets
                    .iter()
                    .filter(|run| lacking(run))
                    .max_by_key(|run| (missing[run], std::cmp::Reverse(**run)))?,
            ),
        };
        let slot = self.free.get_mut(&donor)?.remove(at);
        *self.loads.get_mut(&donor)? -= 1;
        *self.loads.get_mut(&to)? += 1;
        *missing.get_mut(&to)? -= 1;
        Some((slot, to))
    }
}
