//! Shutdown in order: one step after the other, each with a limit, so that the last step is always reached.

use std::time::{Duration, Instant};

/// A shutdown on its way.
#[derive(Debug, Default)]
pub struct Shutdown {
    late: Vec<&'static str>,
}

impl Shutdown {
    /// Nothing is shut down yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for one part to stop, `limit` at the most; then it is dropped and its name remembered.
    pub async fn step(&mut self, name: &'static str, limit: Duration, stop: impl Future<Output = ()>) {
        let begun = Instant::now();
        if tokio::time::timeout(limit, stop).await.is_err() {
            tracing::warn!(part = name, limit_ms = limit.as_millis(), "did not stop in time");
            self.late.push(name);
        } else {
            tracing::debug!(part = name, took_ms = begun.elapsed().as_millis(), "stopped");
        }
    }

    /// The parts that did not stop in time, in order.
    pub fn late(&self) -> &[&'static str] {
        &self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn a_late_step_does_not_hold_up_the_next() {
        let seen = Mutex::new(Vec::new());
        let see = |name| seen.lock().expect("not poisoned").push(name);
        let mut shutdown = Shutdown::new();
        shutdown.step("first", Duration::from_secs(60), async { see("first") }).await;
        shutdown.step("stuck", Duration::from_millis(1), std::future::pending()).await;
        shutdown.step("last", Duration::from_secs(60), async { see("last") }).await;
        assert_eq!(shutdown.late(), ["stuck"]);
        assert_eq!(*seen.lock().expect("not poisoned"), ["first", "last"]);
    }
}
