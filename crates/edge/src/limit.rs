//! A bound on how much of something there is at a time: connections, requests, bytes. Past it, the answer is no.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bound; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Limit(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    now: AtomicUsize,
    max: usize,
}

impl Limit {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Counter { now: AtomicUsize::new(0), max }))
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
        if before.saturating_add(more) > self.counter.max {
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
}
