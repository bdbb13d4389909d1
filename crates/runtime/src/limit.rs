//! A bound on how much of something there is at a time: connections, requests, bytes. Past it, the answer is no.

use crate::pressure::Pressure;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Messages may take this part of the memory at most: each is commonly written elsewhere while it is still held, and its answer
/// may be as large.
const MESSAGES_PART: u64 = 4;

/// Answers and forwarded messages below this size are not counted: calls in flight bound them.
pub const COUNTED_BYTES: usize = 4096;

/// The bound; clones share it.
#[derive(Debug, Clone)]
pub struct Limit(Arc<Counter>);

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
    /// A bound on what costs next to nothing by itself.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Counter { now: AtomicUsize::new(0), max, memory: None }))
    }

    /// A bound on bytes that are kept in memory.
    #[must_use]
    pub fn of_memory(max: usize, pressure: Pressure) -> Self {
        let left =
            Left { pressure, turn: AtomicU64::new(0), held: AtomicUsize::new(0), at_end: AtomicBool::new(false) };
        Self(Arc::new(Counter { now: AtomicUsize::new(0), max, memory: Some(left) }))
    }

    /// A share of one, or nothing when the bound is reached.
    #[must_use]
    pub fn enter(&self) -> Option<Permit> {
        let mut permit = self.empty();
        permit.grow(1).then_some(permit)
    }

    /// How much there is.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    /// How much there may be.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Counts an answer of which so many bytes are there; false where there is no room for them. Small ones are not counted.
    #[must_use]
    pub fn covers(&self, share: &mut Option<Permit>, bytes: usize) -> bool {
        if bytes < COUNTED_BYTES {
            *share = None;
            return true;
        }
        let share = share.get_or_insert_with(|| self.empty());
        share.shrink(share.held.saturating_sub(bytes));
        share.grow(bytes - share.held)
    }

    /// The same answer, which counts until nobody has it any more; nothing where there is no room for it.
    #[must_use]
    pub fn hold(&self, answer: Bytes) -> Option<Bytes> {
        let mut share = None;
        self.covers(&mut share, answer.len()).then(|| Permit::keep(share, answer))
    }

    /// As [`Limit::hold`], whatever room there is: for an answer that was counted before.
    #[must_use]
    pub fn pass(&self, answer: Bytes) -> Bytes {
        let mut share = None;
        if answer.len() >= COUNTED_BYTES {
            self.0.now.fetch_add(answer.len(), Ordering::Relaxed);
            share = Some(Permit { counter: self.0.clone(), held: answer.len() });
        }
        Permit::keep(share, answer)
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn empty(&self) -> Permit {
        Permit { counter: self.0.clone(), held: 0 }
    }
}

/// A share, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    counter: Arc<Counter>,
    held: usize,
}

impl Permit {
    /// The same bytes, which have the share until the last reference to them is gone.
    #[must_use]
    pub fn keep(share: Option<Self>, bytes: Bytes) -> Bytes {
        match share {
            Some(share) => Bytes::from_owner(Kept { bytes, _share: share }),
            None => bytes,
        }
    }

    /// Takes `more`; false, and nothing taken, where that would pass the bound.
    pub fn grow(&mut self, more: usize) -> bool {
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
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.held);
        self.counter.now.fetch_sub(less, Ordering::Relaxed);
        self.held -= less;
    }

    /// Hands over all that is held.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self { counter: self.counter.clone(), held: std::mem::take(&mut self.held) }
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counter.now.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// Bytes with their share.
struct Kept {
    bytes: Bytes,
    _share: Permit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pressure::Memory;

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

    #[test]
    fn an_answer_counts_as_long_as_it_is_held() {
        let (limit, large) = (Limit::new(100_000), Bytes::from(vec![b'x'; 60_000]));
        let first = limit.hold(large.clone()).expect("there is room");
        assert!(first == large && first.as_ptr() == large.as_ptr(), "it is not copied");
        assert_eq!((limit.hold(large.clone()), limit.now()), (None, 60_000));
        assert_eq!(limit.hold(Bytes::from_static(b"small")).as_deref(), Some(&b"small"[..]));
        let passed = limit.pass(large);
        assert_eq!(limit.now(), 120_000);
        let part = first.slice(1..2);
        drop((first, passed));
        assert_eq!(limit.now(), 60_000, "a part of it keeps all of it");
        drop(part);
        assert_eq!(limit.now(), 0);
    }

    #[test]
    fn an_answer_that_grows_is_counted_as_it_grows() {
        let (limit, mut share) = (Limit::new(10_000), None);
        for (bytes, fits, now) in [
            (COUNTED_BYTES - 1, true, 0),
            (COUNTED_BYTES, true, COUNTED_BYTES),
            (10_000, true, 10_000),
            (10_001, false, 10_000),
            (5000, true, 5000),
            (1, true, 0),
        ] {
            assert_eq!((limit.covers(&mut share, bytes), limit.now()), (fits, now), "{bytes}");
        }
    }
}
