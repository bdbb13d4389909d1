//! The lists of one upstream as they are cached: until their time is over or the upstream says that they changed.
//!
//! Clients that declare the same capabilities share a list, because servers offer tools according to what a client can
//! do. A fetch belongs to the site, not to who asked: it goes on when nobody waits any more, and is then announced.

use super::{Site, Up};
use crate::ask::AskError;
use crate::lists::{self, List, ListKind};
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::Era;
use enfilade_upstream::{CallError, Sharing};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::future::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// A list, how often it had changed when it was asked for, and for whom.
type ListKey = (ListKind, u64, Scope);
type Fetched = Result<Arc<List>, Arc<AskError>>;
type Fetch = Shared<BoxFuture<'static, Fetched>>;

/// Most lists that one upstream's cache holds, and most that are remembered when they are stale.
const LISTS_MAX: u64 = 1_024;

pub(super) struct Catalog {
    cache: Cache<ListKey, Arc<List>>,
    generations: [AtomicU64; 4],
    last: Mutex<HashMap<(ListKind, Scope), Arc<List>>>,
    /// Fetches under way; each takes itself off when it ends.
    fetches: Mutex<HashMap<ListKey, UnderWay>>,
}

struct UnderWay {
    fetch: Fetch,
    /// Somebody was answered without it.
    late: bool,
}

struct ByTtl;

impl Expiry<ListKey, Arc<List>> for ByTtl {
    fn expire_after_create(&self, _: &ListKey, list: &Arc<List>, _: Instant) -> Option<Duration> {
        Some(list.ttl)
    }
}

impl Catalog {
    pub(super) fn new() -> Self {
        Self {
            cache: Cache::builder().max_capacity(LISTS_MAX).expire_after(ByTtl).build(),
            generations: Default::default(),
            last: Mutex::default(),
            fetches: Mutex::default(),
        }
    }

    pub(super) fn invalidate(&self, kind: ListKind) {
        // A fetch that began before now keeps its old key: it can no longer be taken for the new list.
        self.generations[kind as usize].fetch_add(1, Ordering::AcqRel);
    }

    /// The upstream is down.
    pub(super) fn forget(&self) {
        self.end_fetches();
        self.last.lock().clear();
    }

    pub(super) fn end_fetches(&self) {
        // Dropped outside the lock: a fetch that ends takes the lock itself.
        let ended = std::mem::take(&mut *self.fetches.lock());
        drop(ended);
    }

    /// Somebody is answered without a list that is being fetched.
    fn is_late(&self, kind: ListKind, scope: &Scope) {
        let mut fetches = self.fetches.lock();
        let same = |(of, _, whose): &ListKey| *of == kind && whose == scope;
        fetches.iter_mut().filter(|(key, _)| same(key)).for_each(|(_, under_way)| under_way.late = true);
    }

    fn key(&self, kind: ListKind, scope: Scope) -> ListKey {
        (kind, self.generations[kind as usize].load(Ordering::Acquire), scope)
    }

    fn remember(&self, (kind, _, scope): ListKey, list: Arc<List>) {
        let mut last = self.last.lock();
        if last.len() as u64 >= LISTS_MAX {
            last.retain(|(_, scope), _| scope.is_public());
        }
        last.insert((kind, scope), list);
    }
}

impl Site {
    /// A list, from the cache or fetched now through the viewer's own session where lists depend on who asks; as it
    /// was last seen when that fails. `Ok(None)` while the upstream is down.
    pub(crate) async fn list(
        self: &Arc<Self>,
        kind: ListKind,
        viewer: &Viewer,
    ) -> Result<Option<Arc<List>>, Arc<AskError>> {
        let Some(up) = self.up() else { return Ok(self.last(kind, viewer)) };
        if !up.profile.declares(&[kind.capability()]) {
            return Ok(Some(Arc::new(List::none(up.profile.era, self.list_ttl()))));
        }
        let key = self.catalog.key(kind, self.scope(kind, viewer));
        if let Some(list) = self.catalog.cache.get(&key).await {
            return Ok(Some(list));
        }
        match self.fetch(key, up, viewer).await {
            Ok(list) => Ok(Some(list)),
            Err(error) => self.last(kind, viewer).map(Some).ok_or(error),
        }
    }

    /// As [`Site::list`], but answered at `until` with what was last seen; when the list comes later, it is announced.
    pub(crate) async fn list_until(
        self: &Arc<Self>,
        until: tokio::time::Instant,
        kind: ListKind,
        viewer: &Viewer,
    ) -> Option<Arc<List>> {
        match tokio::time::timeout_at(until, self.list(kind, viewer)).await {
            Ok(list) => list.ok().flatten(),
            Err(_) => {
                self.catalog.is_late(kind, &self.scope(kind, viewer));
                self.last(kind, viewer)
            }
        }
    }

    /// The list as it was last seen, fresh or not.
    pub(crate) fn last(&self, kind: ListKind, viewer: &Viewer) -> Option<Arc<List>> {
        self.catalog.last.lock().get(&(kind, self.scope(kind, viewer))).cloned()
    }

    fn list_ttl(&self) -> Duration {
        Duration::from_millis(self.connector.config().list_ttl_ms)
    }

    /// For whom a list is: tools and prompts may depend on what the client can do, resources do not.
    fn scope(&self, kind: ListKind, viewer: &Viewer) -> Scope {
        let own_session = self.connector.config().sessions == Sharing::PerClient;
        let depends = matches!(kind, ListKind::Tools | ListKind::Prompts)
            && match self.era() {
                Some(Era::Legacy) => viewer.live.is_some() && own_session,
                Some(Era::Modern) => viewer.live.is_none(),
                None => false,
            };
        if depends { viewer.scope.clone() } else { Scope::default() }
    }

    /// The fetch of a list that is under way, or a new one.
    fn fetch(self: &Arc<Self>, key: ListKey, up: Up, viewer: &Viewer) -> Fetch {
        let mut fetches = self.catalog.fetches.lock();
        if let Some(under_way) = fetches.get(&key) {
            return under_way.fetch.clone();
        }
        let task = tokio::spawn(self.clone().fetch_and_keep(key.clone(), up, viewer.clone()));
        let task = AbortOnDropHandle::new(task);
        // A fetch that was ended, because the upstream is down.
        let ended = |_| Err(Arc::new(AskError::Call(CallError::Unreachable)));
        let fetch = task.map(move |fetched| fetched.unwrap_or_else(ended)).boxed().shared();
        fetches.insert(key, UnderWay { fetch: fetch.clone(), late: false });
        fetch
    }

    async fn fetch_and_keep(self: Arc<Self>, key: ListKey, up: Up, viewer: Viewer) -> Fetched {
        let kind = key.0;
        let fetched = self.ask_for(&key, &up, &viewer).await;
        match &fetched {
            Ok(list) => {
                self.catalog.cache.insert(key.clone(), list.clone()).await;
                self.catalog.remember(key.clone(), list.clone());
            }
            Err(error) => {
                if let AskError::Call(error) = error {
                    self.doubt(error);
                }
                tracing::warn!(upstream = self.name(), list = kind.member(), %error, "list could not be fetched");
            }
        }
        let under_way = self.catalog.fetches.lock().remove(&key);
        if fetched.is_ok() && under_way.is_some_and(|under_way| under_way.late) {
            self.tell_changed(&[kind]);
        }
        fetched.map_err(Arc::new)
    }

    async fn ask_for(&self, (kind, _, scope): &ListKey, up: &Up, viewer: &Viewer) -> Result<Arc<List>, AskError> {
        let peer = match (&viewer.live, up.profile.era, scope.is_public()) {
            (Some(live), Era::Legacy, false) => live.peer_of(self).await?,
            _ => up.peer.clone(),
        };
        let source = lists::Source {
            peer: &*peer,
            era: up.profile.era,
            capabilities: scope.capabilities(),
            default_ttl: self.list_ttl(),
            within: self.deadline(),
            upstream: self.name(),
        };
        lists::fetch(*kind, &source).await
    }
}
