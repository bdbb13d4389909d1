//! One copy of each value that many sessions share.
//! Invariant: nothing visible depends on what is interned; it only saves memory.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Below this many values no sweep is worth its time.
const SWEEP_MIN: usize = 1024;

/// Shared values. Those that nobody uses any more go at the next sweep.
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized> {
    shared: BTreeSet<Arc<T>>,
    after_sweep: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Interner { shared: BTreeSet::new(), after_sweep: 0 }
    }
}

impl<T: ?Sized> Clone for Interner<T> {
    fn clone(&self) -> Self {
        Interner { shared: self.shared.clone(), after_sweep: self.after_sweep }
    }
}

impl<T: ?Sized + Ord> Interner<T> {
    /// The shared copy of `value`, if there is one.
    pub(crate) fn find(&self, value: &T) -> Option<Arc<T>> {
        self.shared.get(value).cloned()
    }

    /// The shared copy of `value`, which is this one if there was none.
    pub(crate) fn get(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(shared) = self.find(value) {
            return shared;
        }
        // Sweeping when the set has doubled keeps both memory and time proportional to what is used.
        if self.shared.len() >= SWEEP_MIN.max(self.after_sweep * 2) {
            self.shared.retain(|shared| Arc::strong_count(shared) > 1);
            self.after_sweep = self.shared.len();
        }
        self.shared.insert(value.clone());
        value.clone()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shared.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut interner = Interner::<str>::default();
        let kept = interner.get(&Arc::from("kept"));
        assert!(Arc::ptr_eq(&kept, &interner.get(&Arc::from("kept"))));
        for n in 0..10 * SWEEP_MIN {
            interner.get(&Arc::from(format!("dropped {n}")));
        }
        assert!(interner.len() <= SWEEP_MIN, "{}", interner.len());
        assert!(Arc::ptr_eq(&kept, &interner.get(&Arc::from("kept"))));
    }
}
