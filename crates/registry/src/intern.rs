//! One copy of each string that many sessions share (server, version, client info, capabilities).
//! Invariant: nothing visible depends on what is interned; it only saves memory.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Below this many strings no sweep is worth its time.
const SWEEP_MIN: usize = 1024;

/// Shared strings. Those that nobody uses any more go at the next sweep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    strings: BTreeSet<Arc<str>>,
    after_sweep: usize,
}

impl Interner {
    /// The shared copy of `string`.
    pub(crate) fn get(&mut self, string: &Arc<str>) -> Arc<str> {
        if let Some(shared) = self.strings.get(string) {
            return shared.clone();
        }
        // Sweeping when the set has doubled keeps both memory and time proportional to what is used.
        if self.strings.len() >= SWEEP_MIN.max(self.after_sweep * 2) {
            self.strings.retain(|shared| Arc::strong_count(shared) > 1);
            self.after_sweep = self.strings.len();
        }
        self.strings.insert(string.clone());
        string.clone()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.strings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let kept = interner.get(&Arc::from("kept"));
        assert!(Arc::ptr_eq(&kept, &interner.get(&Arc::from("kept"))));
        for n in 0..10 * SWEEP_MIN {
            interner.get(&Arc::from(format!("dropped {n}")));
        }
        assert!(interner.len() <= SWEEP_MIN, "{}", interner.len());
        assert!(Arc::ptr_eq(&kept, &interner.get(&Arc::from("kept"))));
    }
}
