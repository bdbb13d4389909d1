//! What was really executed: the witness counts each call, and nobody else's word counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One call as the upstream saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How many times it was begun.
    pub(crate) executions: u32,
    /// How many of them began after the client had its outcome.
    pub(crate) late: u32,
    closed: bool,
}

/// All calls, by their number. Shared between witness and clients, who are one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: Mutex<HashMap<u64, Seen>>,
    executing: AtomicU64,
}

/// A call that is being executed; it is not any more when this is dropped.
pub(crate) struct Executing(Ledger);

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.0.executing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ledger {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Seen>) -> T) -> T {
        // A panic elsewhere does not make the numbers wrong.
        work(&mut self.0.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The upstream begins to execute the call.
    pub(crate) fn begin(&self, call: u64) -> Executing {
        self.with(|calls| {
            let seen = calls.entry(call).or_default();
            seen.executions += 1;
            seen.late += u32::from(seen.closed);
        });
        self.0.executing.fetch_add(1, Ordering::Relaxed);
        Executing(self.clone())
    }

    /// Calls that are executed now.
    pub(crate) fn executing(&self) -> u64 {
        self.0.executing.load(Ordering::Relaxed)
    }

    /// The client has the call's outcome. From now on an execution is one too late.
    pub(crate) fn close(&self, call: u64) {
        self.with(|calls| calls.entry(call).or_default().closed = true);
    }

    /// What is known of the call.
    pub(crate) fn seen(&self, call: u64) -> Seen {
        self.with(|calls| calls.get(&call).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_execution_and_those_that_came_too_late() {
        let ledger = Ledger::default();
        assert_eq!(ledger.seen(1).executions, 0);
        let first = ledger.begin(1);
        ledger.close(1);
        assert_eq!((ledger.seen(1).executions, ledger.seen(1).late), (1, 0));
        let second = ledger.begin(1);
        assert_eq!(ledger.executing(), 2);
        drop((first, second));
        assert_eq!(ledger.executing(), 0);
        assert_eq!((ledger.seen(1).executions, ledger.seen(1).late), (2, 1));
        assert_eq!(ledger.seen(2), Seen::default());
    }
}
