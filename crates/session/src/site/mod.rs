//! One upstream as the owner sees it: is it up, what does it say of itself, what are its lists.
//!
//! A supervisor ([`crate::watch`]) keeps one control session open, without client capabilities; lists and shared
//! subscriptions go through it.

mod catalog;

use crate::config::Limits;
use crate::lists::ListKind;
use crate::topics::{Hub, Updates};
use catalog::Catalog;
use enfilade_mcp::{Era, json};
use enfilade_upstream::{CallError, Connector, Peer};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Changes of lists within this time are announced together: servers with one instance per session announce each
/// change once per session.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(50);

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
    /// Since when it has been down.
    down_since: Mutex<Option<Instant>>,
    /// Set once it is known whether the upstream can be reached at all.
    reached: AtomicBool,
    catalog: Catalog,
    /// Lists that changed and of which clients do not know yet.
    changed: Mutex<BTreeSet<ListKind>>,
    announce: Notify,
    /// Resources that changed and of which clients do not know yet.
    pub(crate) updates: Updates,
    /// Woken when somebody doubts that the upstream lives, or wants other topics.
    pub(crate) nudge: Notify,
}

impl Site {
    pub(crate) fn new(index: usize, connector: Arc<Connector>, hub: Arc<Hub>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            index,
            connector,
            hub,
            limits,
            up: watch::Sender::new(None),
            down_since: Mutex::new(Some(Instant::now())),
            reached: AtomicBool::new(false),
            catalog: Catalog::new(),
            changed: Mutex::default(),
            announce: Notify::new(),
            updates: Updates::default(),
            nudge: Notify::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.connector.name()
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.connector.config().deadline_ms)
    }

    /// The upstream, if it is up. A session that the upstream has forgotten is of no use any more, even while the
    /// supervisor does not know it yet.
    pub(crate) fn up(&self) -> Option<Up> {
        self.up.borrow().as_ref().filter(|up| up.peer.is_alive()).cloned()
    }

    /// The era that the upstream had when it was last reached, if it has not been seen to be down since.
    fn era(&self) -> Option<Era> {
        self.up.borrow().as_ref().map(|up| up.profile.era)
    }

    /// True once the first attempt to reach the upstream has ended, well or not.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    pub(crate) fn set_reached(&self) {
        self.reached.store(true, Ordering::Release);
    }

    /// The upstream as soon as it is up; an error when that takes longer than `within`, and at once when it has been
    /// down for longer than that: an upstream that restarts is waited for, a dead one is not.
    pub(crate) async fn wait_up(&self, within: Duration) -> Result<Up, CallError> {
        if let Some(up) = self.up() {
            return Ok(up);
        }
        self.nudge.notify_one();
        let within = if self.is_long_down(within) { Duration::ZERO } else { within };
        let mut changes = self.up.subscribe();
        let alive = |up: &Option<Up>| up.as_ref().is_some_and(|up| up.peer.is_alive());
        let up = tokio::time::timeout(within, changes.wait_for(alive)).await;
        up.ok().and_then(Result::ok).and_then(|up| up.clone()).ok_or(CallError::Unreachable)
    }

    /// True when the upstream has been down for longer than `than`.
    pub(crate) fn is_long_down(&self, than: Duration) -> bool {
        self.down_since.lock().is_some_and(|since| since.elapsed() > than)
    }

    /// Somebody saw a call fail: ask now whether the upstream lives.
    pub(crate) fn doubt(&self, error: &CallError) {
        if matches!(error, CallError::Unreachable | CallError::Gone | CallError::Lost) {
            self.nudge.notify_one();
        }
    }

    pub(crate) fn set_up(&self, up: Up) {
        tracing::info!(upstream = self.name(), era = ?up.profile.era, "upstream is up");
        *self.down_since.lock() = None;
        self.up.send_replace(Some(up));
        self.set_reached();
        self.list_changed(&ListKind::ALL);
    }

    /// False when it was down already.
    pub(crate) fn set_down(&self, why: &str) -> bool {
        if self.up.send_replace(None).is_none() {
            return false;
        }
        *self.down_since.lock() = Some(Instant::now());
        tracing::warn!(upstream = self.name(), why, "upstream is down; its items are left out until it is back");
        self.catalog.forget();
        self.tell_changed(&ListKind::ALL);
        true
    }

    /// The upstream said that lists changed: they are asked for anew from now on, and clients are told within
    /// [`ANNOUNCE_AFTER`], once for all that is said until then.
    pub(crate) fn list_changed(&self, kinds: &[ListKind]) {
        self.invalidate(kinds);
        self.tell_changed(kinds);
    }

    /// Lists are asked for anew from now on; nobody is told.
    pub(crate) fn invalidate(&self, kinds: &[ListKind]) {
        kinds.iter().for_each(|kind| self.catalog.invalidate(*kind));
    }

    fn tell_changed(&self, kinds: &[ListKind]) {
        self.changed.lock().extend(kinds);
        self.announce.notify_one();
    }

    /// Announces changed lists; runs beside the supervisor.
    pub(crate) async fn announce_changes(&self) {
        loop {
            self.announce.notified().await;
            tokio::time::sleep(ANNOUNCE_AFTER).await;
            let kinds: Vec<ListKind> = std::mem::take(&mut *self.changed.lock()).into_iter().collect();
            self.hub.lists_changed(self.index, &kinds).await;
        }
    }

    /// Ends what is being fetched.
    pub(crate) fn end_fetches(&self) {
        self.catalog.end_fetches();
    }
}
