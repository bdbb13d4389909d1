//! The replica's side: what one watching node has, and so what it lacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Globals, Position, Recent, SlotSet, Update};
use crate::{Run, SlotTable, StateMachine};

/// What one watching node has, as far as it was told.
#[derive(Clone, Debug)]
pub struct Feed {
    run: Run,
    position: Position,
    /// Its slot table; none that is known here.
    slots: Option<Arc<SlotTable>>,
    globals: Option<Globals>,
}

impl Feed {
    /// A node that has what it says.
    pub fn new(run: Run, position: Position) -> Feed {
        Feed { run, position, slots: None, globals: None }
    }

    /// The index that the node has.
    pub fn index(&self) -> u64 {
        self.position.index
    }

    /// What the node lacks at `index`, which `state` has applied and which is not below the node's. From then on it is
    /// taken to have that.
    pub fn next(&mut self, state: &StateMachine, index: u64, recent: &Recent) -> Update {
        let whole = self.position.index == 0 || !recent.covers(self.position.index);
        if whole {
            self.position.held = SlotSet::default();
            self.slots = Some(Arc::default());
        } else if self.slots.is_none() && self.position.map_version == state.map_version() {
            // Replicas whose tables have the same version have the same table.
            self.slots = Some(state.slots().clone());
        }
        let named = match &self.slots {
            Some(known) if !whole && Arc::ptr_eq(known, state.slots()) => self.position.held.clone(),
            _ => SlotSet::naming(state.slots(), self.run),
        };
        let mut update = Update {
            index,
            whole,
            now_ms: state.now_ms(),
            counts: state.counts(),
            map_version: state.map_version(),
            ..Update::default()
        };
        self.put_slots(state, &mut update);
        self.put_globals(state, &mut update);
        self.put_sessions(state, recent, &named, &mut update);
        self.position = Position { index, map_version: update.map_version, held: named };
        update
    }

    fn put_slots(&mut self, state: &StateMachine, update: &mut Update) {
        let none = SlotTable::default();
        let known = self.slots.as_deref().filter(|_| !update.whole);
        if known.is_some_and(|known| std::ptr::eq(known, &**state.slots())) {
            return;
        }
        // Of an unknown table every slot may differ.
        let all = known.is_none() && !update.whole;
        let pairs = known.unwrap_or(&none).records().iter().zip(state.slots().iter());
        update.slots = pairs.filter(|(old, (_, new))| all || old != new).map(|(_, (slot, new))| (slot, *new)).collect();
        self.slots = Some(state.slots().clone());
    }

    fn put_globals(&mut self, state: &StateMachine, update: &mut Update) {
        let now = Globals(state.head());
        if update.whole || self.globals.as_ref() != Some(&now) {
            update.globals = Some(now.clone());
            self.globals = Some(now);
        }
    }

    fn put_sessions(&self, state: &StateMachine, recent: &Recent, named: &SlotSet, update: &mut Update) {
        let held = &self.position.held;
        let mut changed = BTreeSet::new();
        for change in recent.since(self.position.index) {
            // Of a whole picture nothing stays; who waits for an answer waits all the same.
            let stays = |slot| held.contains(slot) && named.contains(slot);
            changed.extend(change.changed.iter().filter(|id| stays(id.slot())));
            update.ended.extend(change.ended.iter().filter(|ended| stays(ended.id.slot())));
            let answers = change.answers.iter().filter(|(run, _)| *run == self.run);
            update.answers.extend(answers.map(|(_, answers)| answers.clone()));
        }
        update.sessions.extend(changed.into_iter().filter_map(|id| state.get(id).cloned()));
        for slot in named.without(held) {
            update.sessions.extend(state.by_slot(slot).cloned());
        }
    }
}
