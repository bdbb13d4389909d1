//! One upstream as the owner sees it: is it up, what does it say of itself, what are its lists.
//!
//! A supervisor ([`crate::watch`]) keeps one control session open, without client capabilities; lists and shared
//! subscriptions go through it. A list is cached until its time is over or the upstream says that it changed.

use crate::ask::AskError;
use crate::config::Limits;
use crate::lists::{self, List, ListKind};
use crate::topics::Hub;
use enfilade_mcp::{Era, json};
use enfilade_upstream::{CallError, Connector, Peer};
use moka::Expiry;
use moka::future::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What an upstream said of itself when it was last reached.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) era: Era,
    /// Its capabilities, a JSON object.
    pub(crate) capabilities: String,
    /// Its instructions, a JSON string.
    pub(crate) instructions: Option<String>,
}

impl Profile {
    /// From the result of `initialize` or `server/discover`.
    pub(crate) fn read(era: Era, result: &str) -> Self {
        let object = |name: &str| json::get(result, name).filter(|text| json::is_object(text));
        Self {
            era,
            capabilities: object("capabilities").unwrap_or("{}").to_owned(),
            instructions: json::get(result, "instructions").filter(|i| i.starts_with('"')).map(str::to_owned),
        }
    }

    pub(crate) fn declares(&self, path: &[&str]) -> bool {
        json::at(&self.capabilities, path).is_some_and(|value| value != "false" && value != "null")
    }
}

/// An upstream that can be asked.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) profile: Arc<Profile>,
    /// The control session (legacy) or the endpoint (modern).
    pub(crate) peer: Arc<dyn Peer>,
}

pub(crate) struct Site {
    pub(crate) index: usize,
    pub(crate) connector: Arc<Connector>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) limits: Limits,
    up: watch::Sender<Option<Up>>,
    lists: Cache<(ListKind, u64), Arc<List>>,
    generations: [AtomicU64; 4],
    last: Mutex<HashMap<ListKind, Arc<List>>>,
    /// Woken when somebody doubts that the upstream lives, or wants other topics.
    pub(crate) nudge: Notify,
}

struct ByTtl;

impl Expiry<(ListKind, u64), Arc<List>> for ByTtl {
    fn expire_after_create(&self, _: &(ListKind, u64), list: &Arc<List>, _: Instant) -> Option<Duration> {
        Some(list.ttl)
    }
}

impl Site {
    pub(crate) fn new(index: usize, connector: Arc<Connector>, hub: Arc<Hub>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            index,
            connector,
            hub,
            limits,
            up: watch::Sender::new(None),
            lists: Cache::builder().max_capacity(64).expire_after(ByTtl).build(),
            generations: Default::default(),
            last: Mutex::default(),
            nudge: Notify::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.connector.name()
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.connector.config().deadline_ms)
    }

    /// The upstream, if it is up.
    pub(crate) fn up(&self) -> Option<Up> {
        self.up.borrow().clone()
    }

    /// The upstream as soon as it is up; an error when that takes longer than `within`.
    pub(crate) async fn wait_up(&self, within: Duration) -> Result<Up, CallError> {
        if let Some(up) = self.up() {
            return Ok(up);
        }
        self.nudge.notify_one();
        let mut changes = self.up.subscribe();
        let up = tokio::time::timeout(within, changes.wait_for(Option::is_some)).await;
        up.ok().and_then(Result::ok).and_then(|up| up.clone()).ok_or(CallError::Unreachable)
    }

    /// Somebody saw a call fail: ask now whether the upstream lives.
    pub(crate) fn doubt(&self, error: &CallError) {
        if matches!(error, CallError::Unreachable | CallError::Gone | CallError::Lost) {
            self.nudge.notify_one();
        }
    }

    pub(crate) fn set_up(&self, up: Up) {
        tracing::info!(upstream = self.name(), era = ?up.profile.era, "upstream is up");
        self.up.send_replace(Some(up));
        ListKind::ALL.into_iter().for_each(|kind| self.invalidate(kind));
        self.hub.lists_changed(self.index, &ListKind::ALL);
    }

    pub(crate) fn set_down(&self, why: &str) {
        if self.up.send_replace(None).is_none() {
            return;
        }
        tracing::warn!(upstream = self.name(), why, "upstream is down; its items are left out until it is back");
        self.last.lock().clear();
        self.hub.lists_changed(self.index, &ListKind::ALL);
    }

    /// The upstream said that a list changed.
    pub(crate) fn list_changed(&self, kinds: &[ListKind]) {
        kinds.iter().for_each(|kind| self.invalidate(*kind));
        self.hub.lists_changed(self.index, kinds);
    }

    fn invalidate(&self, kind: ListKind) {
        // A fetch that began before now keeps its old key: it can no longer be taken for the new list.
        self.generations[kind as usize].fetch_add(1, Ordering::AcqRel);
    }

    /// A list, from the cache or fetched now; `Ok(None)` while the upstream is down.
    pub(crate) async fn list(&self, kind: ListKind) -> Result<Option<Arc<List>>, Arc<AskError>> {
        let Some(up) = self.up() else { return Ok(None) };
        let ttl = Duration::from_millis(self.connector.config().list_ttl_ms);
        if !up.profile.declares(&[kind.capability()]) {
            return Ok(Some(Arc::new(List::empty(ttl))));
        }
        let key = (kind, self.generations[kind as usize].load(Ordering::Acquire));
        let fetch = lists::fetch(&*up.peer, up.profile.era, kind, ttl, self.deadline(), self.name());
        match self.lists.try_get_with(key, fetch).await {
            Ok(list) => {
                self.last.lock().insert(kind, list.clone());
                Ok(Some(list))
            }
            Err(error) => {
                if let AskError::Call(error) = &*error {
                    self.doubt(error);
                }
                tracing::warn!(upstream = self.name(), list = kind.member(), %error, "list could not be fetched");
                self.last(kind).map(Some).ok_or(error)
            }
        }
    }

    /// The list as it was last seen, fresh or not.
    pub(crate) fn last(&self, kind: ListKind) -> Option<Arc<List>> {
        self.last.lock().get(&kind).cloned()
    }
}
