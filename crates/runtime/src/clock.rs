//! The one place that reads a real clock for the registry; everybody else gets it as a parameter.

use std::time::Instant;

/// The system's monotonic clock, in milliseconds; it starts at 0 now.
pub fn monotonic() -> impl Fn() -> u64 + Send + Sync + 'static {
    let start = Instant::now();
    move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
