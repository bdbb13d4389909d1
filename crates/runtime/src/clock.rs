//! The one place that reads a real clock for the registry; everybody else gets it as a parameter.

use std::sync::Arc;
use std::time::Instant;

/// Reads a clock that only goes forward, in milliseconds since an arbitrary start.
pub type NowMs = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's monotonic clock; it starts at 0 now.
pub fn monotonic() -> NowMs {
    let start = Instant::now();
    Arc::new(move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}
