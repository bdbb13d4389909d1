//! The tasks of a cluster node: each has a name, runs until the node stops, and is missed when it ends before.

use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Tasks that run as long as the node does.
pub(super) struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<Option<&'static str>>,
}

impl Running {
    pub(super) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { tasks, stop, failed: watch::Sender::new(None) }
    }

    /// Runs `part` until the node stops. That it ends by itself, or panics, is told to who waits for it.
    pub(super) fn spawn(&self, runtime: &Handle, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let part = async move {
            let ended = Ended(name, failed);
            if stop.run_until_cancelled(part).await.is_none() {
                std::mem::forget(ended);
            }
        };
        self.tasks.spawn_on(part, runtime);
    }

    pub(super) async fn failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(name) = *failed.borrow_and_update() {
                return name;
            }
            let _ = failed.changed().await; // The sender lives as long as this.
        }
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("a part of the cluster node did not stop in time");
        }
    }
}

/// Says that a part has ended, however it did.
struct Ended(&'static str, watch::Sender<Option<&'static str>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.1.send_replace(Some(self.0));
    }
}
