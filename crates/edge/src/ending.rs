//! How an edge ends: first it says that it will, so that balancers and clients go elsewhere, then it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    leaving: Arc<AtomicBool>,
    stopped: CancellationToken,
}

impl Ending {
    /// From now on the node is not healthy, and every HTTP/1.1 answer closes its connection. Requests are served as ever.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// No more requests are taken; those that are there may finish.
    pub fn stop(&self) {
        self.leave();
        self.stopped.cancel();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}
