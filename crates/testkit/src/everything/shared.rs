//! State that all sessions and requests of one server share: counters, dynamic tools, listeners,
//! tasks and the key that seals `requestState`.

use std::collections::{BTreeMap, HashSet};

use parking_lot::Mutex;
use rmcp::model::{LoggingLevel, RequestStateCodec};
use rmcp::task_manager::TaskManager;
use serde_json::{Value, json};
use tokio::sync::Notify;

use tokio_util::sync::CancellationToken;

use super::Options;
use super::hub::Hub;

/// Fixed, so that `requestState` stays valid when a test restarts the server.
const KEY: &[u8] = b"enfilade-testkit-everything-server-key";

/// The state of one server.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) hub: Hub,
    pub(super) tasks: TaskManager,
    pub(super) codec: RequestStateCodec,
    /// Tools added at run time, in the order of addition.
    pub(super) dynamic_tools: Mutex<Vec<String>>,
    /// Cancelled when the server is about to stop: open subscriptions end with their result.
    pub(super) stopping: CancellationToken,
    counts: Mutex<Counts>,
    counted: Notify,
}

#[derive(Default)]
struct Counts {
    calls: BTreeMap<String, u64>,
    keys: BTreeMap<String, u64>,
    cancelled: u64,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let codec = RequestStateCodec::new_unchecked(KEY);
        Self {
            options,
            hub: Hub::default(),
            tasks: TaskManager::new(),
            codec,
            dynamic_tools: Mutex::new(Vec::new()),
            stopping: CancellationToken::new(),
            counts: Mutex::new(Counts::default()),
            counted: Notify::new(),
        }
    }

    /// Notes one execution of a tool, or one page of a list.
    pub(super) fn called(&self, tool: &str) {
        *self.counts.lock().calls.entry(tool.to_owned()).or_default() += 1;
    }

    /// Adds one to `key` and returns the new value.
    pub(super) fn count(&self, key: &str) -> u64 {
        let mut counts = self.counts.lock();
        let value = counts.keys.entry(key.to_owned()).or_default();
        *value += 1;
        self.counted.notify_waiters();
        *value
    }

    /// Resolves when `key` has been counted up.
    pub(super) async fn counted(&self, key: &str) {
        loop {
            let more = self.counted.notified(); // Hears what comes from here on, also before it is polled.
            if self.counts.lock().keys.contains_key(key) {
                return;
            }
            more.await;
        }
    }

    /// Notes that a running tool was cancelled.
    pub(super) fn cancelled(&self) {
        self.counts.lock().cancelled += 1;
    }

    /// All counters as JSON.
    pub(super) fn counts(&self) -> Value {
        let counts = self.counts.lock();
        json!({ "calls": counts.calls, "keys": counts.keys, "cancelled": counts.cancelled })
    }
}

/// What one legacy session asked for.
#[derive(Default)]
pub(super) struct Session {
    pub(super) uris: Mutex<HashSet<String>>,
    pub(super) level: Mutex<Option<LoggingLevel>>,
}
