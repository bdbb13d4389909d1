//! A bound on how much of something there is at a time: connections, requests, bytes. Past it, the answer is no.

use enfilade_runtime::Pressure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Messages may take this part of the memory at most: each is commonly written elsewhere while it is still held, and its answer
/// may be as large.
const MESSAGES_PART: u64 = 4;

/// The bound; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Limit(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    now: AtomicUsize,
    max: usize,
    /// What is held are bytes, and they are bounded by what memory is left as well.
    memory: Option<Left>,
}

/// What memory is left beside what was held when it was measured. Once next to nothing is left, what was held then counts:
/// else a little more would be given with each measurement.
#[derive(Debug)]
struct Left {
    pressure: Pressure,
    /// The measurement that `held` belongs to.
    turn: AtomicU64,
    held: AtomicUsize,
    /// Next to nothing was left.
    at_end: AtomicBool,
}

impl Left {
    /// How much may be held, if so much is now.
    fn bound(&self, now: usize) -> usize {
        let turn = self.pressure.turn();
        let Some(memory) = self.pressure.memory() else { return usize::MAX };
        let (spare, floor) = (self.pressure.spare_bytes() / 2, self.pressure.floor_bytes());
        if self.turn.load(Ordering::Relaxed) != turn {
            // Two that see it first differ by what they take themselves.
            let was_at_end = self.at_end.swap(spare <= floor, Ordering::Relaxed);
            if spare > floor || !was_at_end || now < self.held.load(Ordering::Relaxed) {
                self.held.store(now, Ordering::Relaxed);
            }
            self.turn.store(turn, Ordering::Relaxed);
        }
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let more = bytes(spare.max(floor));
        self.held.load(Ordering::Relaxed).saturating_add(more).min(bytes(memory.max_bytes / MESSAGES_PART))
    }
}

impl Counter {
    fn bound(&self, now: usize) -> usize {
        self.memory.as_ref().map_or(self.max, |left| left.bound(now).min(self.max))
    }
}

impl Limit {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Counter { now: AtomicUsize::new(0), max, memory: None }))
    }

    /// A bound on bytes that are kept in memory.
    pub(crate) fn of_memory(max: usize, pressure: Pressure) -> Self {
        let left =
            Left { pressure, turn: AtomicU64::new(0), held: AtomicUsize::new(0), at_end: AtomicBool::new(false) };
        Self(Arc::new(Counter { now: AtomicUsize::new(0), max, memory: Some(left) }))
    }

    /// A share of one, or nothing when the bound is reached.
    pub(crate) fn enter(&self) -> Option<Permit> {
        let mut permit = self.empty();
        permit.grow(1).then_some(permit)
    }

    /// How much there is.
    pub(crate) fn now(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    /// How much there may be.
    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// A share of nothing yet.
    pub(crate) fn empty(&self) -> Permit {
        Permit { counter: self.0.clone(), held: 0 }
    }
}

/// A share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    counter: Arc<Counter>,
    held: usize,
}

impl Permit {
    /// Takes `more`; false, and nothing taken, where that would pass the bound.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        // Relaxed: the number alone is shared, nothing is published with it.
        let before = self.counter.now.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > self.counter.bound(before) {
            self.counter.now.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.held += more;
        true
    }

    /// Gives back `less`, or all of it where less is held.
    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.held);
        self.counter.now.fetch_sub(less, Ordering::Relaxed);
        self.held -= less;
    }

    /// Hands over all that is held.
    pub(crate) fn take(&mut self) -> Self {
        Self { counter: self.counter.clone(), held: std::mem::take(&mut self.held) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counter.now.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_runtime::Memory;

    #[test]
    fn what_is_refused_takes_nothing_and_what_is_dropped_comes_back() {
        let limit = Limit::new(3);
        let (first, mut second) = (limit.enter().expect("1"), limit.enter().expect("2"));
        assert!(!second.grow(2) && second.grow(1), "only one is left");
        assert!(limit.enter().is_none());
        drop(first);
        let first = limit.enter();
        assert!(first.is_some() && limit.enter().is_none());
        drop((first, second));
        let mut whole = limit.empty();
        assert!(whole.grow(3));
        whole.shrink(1);
        let rest = whole.take();
        assert!(whole.is_empty() && limit.empty().grow(1) && !limit.empty().grow(2), "two went over");
        drop(rest);
        assert!(limit.empty().grow(3));
    }

    #[test]
    fn bytes_are_bounded_by_the_memory_that_is_left() {
        let pressure = Pressure::default();
        let limit = Limit::of_memory(300, pressure.clone());
        assert!(limit.empty().grow(300) && !limit.empty().grow(301), "nothing was measured");
        // What is used of 6400, and what may be held: half of what is left to 90 % of it, and never less than half of 100.
        for (used_bytes, most) in [(0, 300), (5160, 300), (5360, 200), (5760, 50), (6400, 50)] {
            pressure.measured(Memory { used_bytes, max_bytes: 6400 });
            assert!(limit.empty().grow(most) && !limit.empty().grow(most + 1), "{used_bytes}");
        }
        let roomy = Limit::of_memory(usize::MAX >> 1, pressure.clone());
        pressure.measured(Memory { used_bytes: 0, max_bytes: 6400 });
        assert!(roomy.empty().grow(1600) && !roomy.empty().grow(1601), "never more than a part of it");
        pressure.measured(Memory { used_bytes: 6400, max_bytes: 6400 });
        let mut held = limit.empty();
        assert!(held.grow(40) && !held.grow(11));
        pressure.measured(Memory { used_bytes: 5360, max_bytes: 6400 });
        assert!(held.grow(200) && !held.grow(1), "what was held is in what was measured");
        pressure.measured(Memory { used_bytes: 5760, max_bytes: 6400 });
        assert!(held.grow(50), "a little beyond the end");
        for used_bytes in [5760, 6000, 6300] {
            assert!(!held.grow(1), "once: {used_bytes}");
            pressure.measured(Memory { used_bytes, max_bytes: 6400 });
        }
        held.shrink(250);
        pressure.measured(Memory { used_bytes: 6000, max_bytes: 6400 });
        assert!(!held.grow(51) && held.grow(50), "what was given back is not taken again");
    }
}
