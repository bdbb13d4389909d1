//! The thread for what must not be late: votes, heartbeats, leases and gossip. Requests of clients have other threads.

use anyhow::Context;
use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much the kernel prefers this thread, as `nice` counts; taken only where that is allowed.
const NICE: i32 = -10;

/// A runtime of one thread. Dropped, it ends without waiting for anything.
pub(super) struct Control(Option<Runtime>);

impl Control {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no further thread.
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("control").enable_all().on_thread_start(prefer_this_thread);
        Ok(Self(Some(builder.build().context("no thread for the cluster's control")?)))
    }

    /// Runs tasks on it.
    pub(super) fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Does `work` on it: what that spawns stays there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.handle().spawn(work).await.context("the cluster's control panicked")
    }
}

/// Threads that it starts, such as the one that writes the log, are preferred as well.
fn prefer_this_thread() {
    // No process is named: the calling thread. Where it is not permitted it runs like all others.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "the cluster's control has no priority");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
