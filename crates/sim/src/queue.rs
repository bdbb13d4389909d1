//! What will happen, in the order of time and, at one time, in the order in which it was planned.

use std::collections::BTreeMap;

use crate::clock::Micros;

pub(crate) struct Queue<E> {
    events: BTreeMap<(Micros, u64), E>,
    planned: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { events: BTreeMap::new(), planned: 0 }
    }

    pub(crate) fn push(&mut self, at: Micros, event: E) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
