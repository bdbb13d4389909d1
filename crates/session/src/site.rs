//! One upstream as the owner sees it: is it up, what does it say of itself, what are its lists.
//!
//! A supervisor ([`crate::watch`]) keeps one control session open, without client capabilities; lists and shared
//! subscriptions go through it. A list is cached until its time is over or the upstream says that it changed; clients
//! that declare the same capabilities share it, because servers offer tools according to what a client can do.

use crate::ask::AskError;
use crate::config::Limits;
use crate::lists::{self, List, ListKind};
use crate::topics::Hub;
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::{Era, json};
use enfilade_upstream::{CallError, Connector, Peer, Sharing};
use moka::Expiry;
use moka::future::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Set once it is known whether the upstream can be reached at all.
    reached: AtomicBool,
    lists: Cache<ListKey, Arc<List>>,
    generations: [AtomicU64; 4],
    last: Mutex<HashMap<(ListKind, Scope), Arc<List>>>,
    /// Woken when somebody doubts that the upstream lives, or wants other topics.
    pub(crate) nudge: Notify,
}

/// A list, how often it had changed when it was asked for, and for whom.
type ListKey = (ListKind, u64, Scope);

/// Most lists that one upstream's cache holds, and most that are remembered when they are stale.
const LISTS_MAX: u64 = 1_024;

struct ByTtl;

impl Expiry<ListKey, Arc<List>> for ByTtl {
    fn expire_after_create(&self, _: &ListKey, list: &Arc<List>, _: Instant) -> Option<Duration> {
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
            reached: AtomicBool::new(false),
            lists: Cache::builder().max_capacity(LISTS_MAX).expire_after(ByTtl).build(),
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

    /// True once the first attempt to reach the upstream has ended, well or not.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    pub(crate) fn set_reached(&self) {
        self.reached.store(true, Ordering::Release);
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
        self.set_reached();
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

    /// A list, from the cache or fetched now through the viewer's own session where lists depend on who asks;
    /// `Ok(None)` while the upstream is down.
    pub(crate) async fn list(&self, kind: ListKind, viewer: &Viewer) -> Result<Option<Arc<List>>, Arc<AskError>> {
        let Some(up) = self.up() else { return Ok(None) };
        let default_ttl = Duration::from_millis(self.connector.config().list_ttl_ms);
        if !up.profile.declares(&[kind.capability()]) {
            return Ok(Some(Arc::new(List::empty(default_ttl))));
        }
        let scope = self.scope(kind, viewer);
        let key = (kind, self.generations[kind as usize].load(Ordering::Acquire), scope.clone());
        let fetch = async {
            let peer = match (&viewer.live, up.profile.era, scope.is_public()) {
                (Some(live), Era::Legacy, false) => live.peer_of(self).await?,
                _ => up.peer.clone(),
            };
            let source = lists::Source {
                peer: &*peer,
                era: up.profile.era,
                capabilities: scope.capabilities(),
                default_ttl,
                within: self.deadline(),
                upstream: self.name(),
            };
            lists::fetch(kind, &source).await
        };
        match self.lists.try_get_with(key, fetch).await {
            Ok(list) => {
                self.remember(kind, scope, list.clone());
                Ok(Some(list))
            }
            Err(error) => {
                if let AskError::Call(error) = &*error {
                    self.doubt(error);
                }
                tracing::warn!(upstream = self.name(), list = kind.member(), %error, "list could not be fetched");
                self.last(kind, viewer).map(Some).ok_or(error)
            }
        }
    }

    /// For whom a list is: tools and prompts may depend on what the client can do, resources do not.
    fn scope(&self, kind: ListKind, viewer: &Viewer) -> Scope {
        let own_session = self.connector.config().sessions == Sharing::PerClient;
        let depends = matches!(kind, ListKind::Tools | ListKind::Prompts)
            && match self.up().map(|up| up.profile.era) {
                Some(Era::Legacy) => viewer.live.is_some() && own_session,
                Some(Era::Modern) => viewer.live.is_none(),
                None => false,
            };
        if depends { viewer.scope.clone() } else { Scope::default() }
    }

    fn remember(&self, kind: ListKind, scope: Scope, list: Arc<List>) {
        let mut last = self.last.lock();
        if last.len() as u64 >= LISTS_MAX {
            last.retain(|(_, scope), _| scope.is_public());
        }
        last.insert((kind, scope), list);
    }

    /// The list as it was last seen, fresh or not.
    pub(crate) fn last(&self, kind: ListKind, viewer: &Viewer) -> Option<Arc<List>> {
        self.last.lock().get(&(kind, self.scope(kind, viewer))).cloned()
    }
}
