//! The clock of leases: it goes on while the machine is suspended, so that a lease ends on time after a resume.

use std::sync::Arc;

/// Milliseconds of some clock that counts suspend; only differences mean something.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// `CLOCK_BOOTTIME`.
#[cfg(target_os = "linux")]
const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
/// The monotonic clock of other systems; most of them count suspend in it.
#[cfg(not(target_os = "linux"))]
const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;

/// The system's clock. When it cannot be read, which no system that we know does, no lease lasts.
#[must_use]
pub fn boottime() -> Clock {
    Arc::new(|| {
        let Ok(now) = nix::time::clock_gettime(CLOCK) else { return u64::MAX };
        let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
        seconds * 1000 + u64::try_from(now.tv_nsec()).unwrap_or_default() / 1_000_000
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn goes_on() {
        let clock = super::boottime();
        let before = clock();
        let started = std::time::Instant::now();
        while started.elapsed().as_millis() < 3 {
            std::hint::spin_loop();
        }
        let passed = clock() - before;
        assert!((2..60_000).contains(&passed), "{passed} ms");
    }
}
