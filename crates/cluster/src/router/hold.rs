//! A request that nobody serves yet waits here: for another slot table, for a change of this node's lease, for a link
//! that comes back, or a little.

use std::time::Duration;
use tokio::sync::watch;

/// What is a reason to try again.
pub(crate) struct Reasons<M, S, L> {
    /// The slot table.
    pub(crate) map: watch::Receiver<M>,
    /// What this node may do.
    pub(crate) slots: watch::Receiver<S>,
    pub(crate) links: watch::Receiver<L>,
}

impl<M, S, L> Reasons<M, S, L> {
    /// What changed until now is none.
    pub(crate) fn forget(&mut self) {
        self.map.mark_unchanged();
        self.slots.mark_unchanged();
        self.links.mark_unchanged();
    }

    /// Waits for a reason, or for about `pause`.
    pub(crate) async fn wait(&mut self, pause: Duration) {
        // Requests that began to wait together do not come back together.
        let jitter = pause.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX) / 2.0);
        // A sender that is gone means that this node stops: then only the pause is left.
        tokio::select! {
            Ok(()) = self.map.changed() => {}
            Ok(()) = self.slots.changed() => {}
            Ok(()) = self.links.changed() => {}
            () = tokio::time::sleep(pause + jitter) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_change_ends_the_wait_and_so_does_time() {
        let (maps, map) = watch::channel(0);
        let (_, slots) = watch::channel(0);
        let (_links, links) = watch::channel(0);
        let mut reasons = Reasons { map, slots, links };
        let started = Instant::now();
        maps.send_replace(1);
        reasons.wait(Duration::from_secs(1)).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        maps.send_replace(2);
        reasons.forget();
        reasons.wait(Duration::from_secs(1)).await;
        let waited = started.elapsed();
        assert!((Duration::from_secs(1)..=Duration::from_millis(1501)).contains(&waited), "{waited:?}");
    }
}
