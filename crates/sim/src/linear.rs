//! A checker of linearizability for histories of one register, after Wing and Gong: search an order of the operations
//! that respects real time and in which each read returns the write before it.

use std::collections::HashSet;

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Wrote a value.
    Write(u64),
    /// Read a value; 0 is the value before any write.
    Read(u64),
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it began.
    pub began: u64,
    /// When it was answered; `None` for one that never was: it may have taken effect at any time since, or never.
    pub ended: Option<u64>,
    /// What it did.
    pub did: Did,
}

/// Most operations in one history.
pub const OPERATIONS_MAX: usize = 128;

/// Whether a history of one register that begins with 0 is linearizable.
///
/// # Panics
/// The history is longer than [`OPERATIONS_MAX`].
pub fn is_linearizable(history: &[Operation]) -> bool {
    // A read that was never answered says nothing.
    let mut operations: Vec<Operation> = history.to_vec();
    operations.retain(|operation| operation.ended.is_some() || matches!(operation.did, Did::Write(_)));
    assert!(operations.len() <= OPERATIONS_MAX, "{} operations in one history", operations.len());
    operations.sort_by_key(|operation| operation.began);
    let answered = bits(operations.iter().map(|operation| operation.ended.is_some()));
    Search { operations, answered, seen: HashSet::new() }.from(0, 0)
}

fn bits(flags: impl Iterator<Item = bool>) -> u128 {
    flags.enumerate().fold(0, |bits, (at, flag)| bits | (u128::from(flag) << at))
}

struct Search {
    operations: Vec<Operation>,
    /// The operations that must be in the order.
    answered: u128,
    /// What was tried in vain: which operations were ordered, and the value after them.
    seen: HashSet<(u128, u64)>,
}

impl Search {
    fn from(&mut self, done: u128, value: u64) -> bool {
        if done & self.answered == self.answered {
            return true;
        }
        if !self.seen.insert((done, value)) {
            return false;
        }
        // Nothing that began after another one ended can come before it.
        let open = |at: &usize| done & (1 << *at) == 0;
        let limit = (0..self.operations.len()).filter(open).filter_map(|at| self.operations[at].ended).min();
        let candidates: Vec<usize> = (0..self.operations.len())
            .filter(open)
            .filter(|at| limit.is_none_or(|limit| self.operations[*at].began <= limit))
            .collect();
        candidates.into_iter().any(|at| match self.operations[at].did {
            Did::Read(read) => read == value && self.from(done | (1 << at), value),
            Did::Write(written) => self.from(done | (1 << at), written),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(began: u64, ended: Option<u64>, did: Did) -> Operation {
        Operation { began, ended, did }
    }

    #[test]
    fn a_read_sees_the_last_write() {
        let write = |value, began, ended| operation(began, Some(ended), Did::Write(value));
        let read = |value, began, ended| operation(began, Some(ended), Did::Read(value));
        assert!(is_linearizable(&[write(1, 0, 10), read(1, 20, 30)]));
        assert!(!is_linearizable(&[write(1, 0, 10), read(0, 20, 30)]), "a read after a write sees it");
        assert!(is_linearizable(&[write(1, 0, 40), read(0, 10, 20), read(1, 25, 30)]));
        assert!(!is_linearizable(&[write(1, 0, 40), read(1, 10, 20), read(0, 25, 30)]), "reads do not go back");
        assert!(!is_linearizable(&[read(7, 0, 10)]), "nobody wrote 7");
    }

    #[test]
    fn a_write_without_an_answer_may_take_effect_at_any_time_or_never() {
        let lost = operation(0, None, Did::Write(1));
        let read = |value, began, ended| operation(began, Some(ended), Did::Read(value));
        assert!(is_linearizable(&[lost, read(0, 10, 20), read(1, 90, 95)]));
        assert!(is_linearizable(&[lost, read(0, 90, 95)]));
        assert!(!is_linearizable(&[lost, read(1, 10, 20), read(0, 90, 95)]));
    }
}
