//! Seconds of a run: all workers count them from the same moment, each by its own monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When second 0 begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// From the time of day, which the machines of a run must agree on to within what matters.
    pub(crate) fn starting_at(start_unix_ms: u64) -> Clock {
        let (now, today) = (Instant::now(), unix_ms());
        let start = match start_unix_ms.checked_sub(today) {
            Some(ahead) => now + Duration::from_millis(ahead),
            None => now.checked_sub(Duration::from_millis(today - start_unix_ms)).unwrap_or(now),
        };
        Clock { start }
    }

    /// The second in which a moment lies; 0 for all before the start.
    pub(crate) fn second(&self, at: Instant) -> u32 {
        u32::try_from(at.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    /// When a second begins.
    pub(crate) fn at(&self, second: u32) -> Instant {
        self.start + Duration::from_secs(second.into())
    }

    /// The present second, with its fraction.
    pub(crate) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
