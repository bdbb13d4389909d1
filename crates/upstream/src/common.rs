//! What all parts of one connector share.

use crate::config::Config;
use crate::guard::Guard;
use crate::ids::Ids;
use enfilade_runtime::Limit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One connector's configuration, guard, ids and life.
pub(crate) struct Common {
    pub(crate) name: Arc<str>,
    pub(crate) config: Config,
    pub(crate) guard: Arc<Guard>,
    pub(crate) ids: Ids,
    /// Cancelled when the connector shuts down.
    pub(crate) stop: CancellationToken,
    /// Every task that outlives a call; a shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    /// Bytes of large answers under way, those of this upstream among them.
    pub(crate) answers: Limit,
    /// Notifications that were dropped because nobody took them in time.
    pub(crate) dropped: AtomicU64,
}

impl Common {
    pub(crate) fn new(config: Config, answers: Limit) -> Arc<Self> {
        Arc::new(Self {
            name: config.name.as_str().into(),
            guard: Guard::new(config.calls_max),
            ids: Ids::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            answers,
            dropped: AtomicU64::new(0),
            config,
        })
    }

    /// The longest that opening a session may take.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.config.deadline_ms)
    }

    pub(crate) fn count_dropped(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
    }
}
