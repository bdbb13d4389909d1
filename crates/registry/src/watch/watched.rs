//! The watching node's side: the part of the registry that it has, changed by updates and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Position, SlotSet, Update};
use crate::{Counts, EndReason, Ended, Run, SessionId, Slot, SlotTable, StateMachine};

/// The part of the registry that one run has.
#[derive(Clone, Debug)]
pub struct Watched {
    me: Run,
    index: u64,
    counts: Counts,
    state: StateMachine,
}

impl Watched {
    /// Nothing yet.
    pub fn new(me: Run) -> Watched {
        Watched { me, index: 0, counts: Counts::default(), state: StateMachine::new() }
    }

    /// The index up to which it is what the registry is.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How much there is in the whole registry.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The part: members, slot table, limits, registry time, and the sessions of the slots that name this run.
    pub fn state(&self) -> &StateMachine {
        &self.state
    }

    /// What it has, to be told to a replica.
    pub fn position(&self) -> Position {
        let held = SlotSet::naming(self.state.slots(), self.me);
        Position { index: self.index, map_version: self.state.map_version(), held }
    }

    /// Takes an update in, and gives the sessions that ended by it in slots that this run still has to do with.
    pub fn apply(&mut self, update: &Update) -> Vec<Ended> {
        let held = SlotSet::naming(self.state.slots(), self.me);
        let before = update.whole.then(|| std::mem::take(&mut self.state));
        if let Some(globals) = &update.globals {
            self.state.set_head(&globals.0);
        }
        (self.index, self.counts) = (update.index, update.counts);
        (self.state.applied, self.state.now_ms) = (update.index, update.now_ms);
        self.set_slots(update);
        let named = SlotSet::naming(self.state.slots(), self.me);
        if before.is_none() {
            held.without(&named).for_each(|slot| self.drop_slot(slot));
        }
        let mut ended = update.ended.clone();
        for ended in &ended {
            self.state.end(&ended.id, ended.reason);
        }
        for record in update.sessions.iter().filter(|record| named.contains(record.id.slot())) {
            self.state.end(&record.id, EndReason::Idle);
            let record = self.state.restored((**record).clone());
            self.state.insert(record);
        }
        if let Some(before) = before {
            ended.extend(gone(&before, &self.state, |slot| held.contains(slot) && named.contains(slot)));
        }
        ended
    }

    fn set_slots(&mut self, update: &Update) {
        if update.slots.is_empty() && self.state.map_version() == update.map_version {
            return;
        }
        let table: &mut SlotTable = Arc::make_mut(&mut self.state.placement.slots);
        update.slots.iter().for_each(|(slot, record)| table.restore(*slot, *record));
        table.restore_version(update.map_version);
    }

    fn drop_slot(&mut self, slot: Slot) {
        let ids: BTreeSet<SessionId> = self.state.by_slot(slot).map(|record| record.id).collect();
        for id in &ids {
            self.state.end(id, EndReason::Idle);
        }
    }
}

/// Sessions that ended while nobody told. Why is not known.
fn gone(before: &StateMachine, now: &StateMachine, stays: impl Fn(Slot) -> bool) -> Vec<Ended> {
    let gone = before.page(None).filter(|record| stays(record.id.slot()) && now.get(&record.id).is_none());
    gone.map(|record| Ended { id: record.id, reason: EndReason::Idle }).collect()
}
