//! Request ids: one sequence per upstream, never repeated within a session, not even by
//! another node that resumes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ids count up from the microsecond at which the connector was made: below 2^53 until the year 2255, so every JSON
/// reader keeps them exact, and ahead of all earlier ids as long as fewer than a million are used per second.
#[derive(Debug)]
pub(crate) struct Ids(AtomicU64);

impl Ids {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(now_us()))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Jumps ahead of the ids that another node, or this one before a restart, may have used.
    pub(crate) fn skip_past(&self) {
        self.0.fetch_max(now_us(), Ordering::Relaxed);
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::try_from(since.as_micros()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_repeats_and_stays_exact_in_json() {
        let ids = Ids::new();
        let first = ids.next();
        assert_eq!(ids.next(), first + 1);
        assert!(first < 1 << 53);
        let behind = Ids(AtomicU64::new(5));
        behind.skip_past();
        assert!(behind.next() >= first);
    }
}
