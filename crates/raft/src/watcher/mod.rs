//! The registry on a node that has no replica: it watches one of those that have, holds what concerns it, and submits
//! through whoever leads.
//!
//! Rule: what is read here is what the registry was at the index that [`Watcher::applied`] says. A watch that is lost
//! makes the node fall behind and so lose its lease; it goes on at another replica, which gives the difference.

mod follow;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

use enfilade_registry::watch::Watched;
use enfilade_registry::{
    BoxFuture, ClusterId, Command, Counts, Limits, Members, NodeId, OnEnded, Outcome, Reader, Run, SessionId,
    SessionRecord, Slot, SlotTable, WriteError, Writer,
};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Submitting;
use crate::pending::Pending;
use crate::status::Status;
use crate::submit::{Batcher, Submitter, Way};
use crate::transport::{Transport, WatchTransport};

/// How a watcher runs.
#[derive(Clone)]
pub struct WatcherConfig {
    /// This node, and its run.
    pub run: Run,
    /// How to call and to watch other nodes.
    pub transport: Arc<dyn WatchTransport>,
    /// The nodes with a replica that can be reached now.
    pub replicas: watch::Receiver<Vec<NodeId>>,
    /// How this node submits commands.
    pub submitting: Submitting,
    /// A replica that says nothing for this long is left. It speaks several times in this time.
    pub silence: Duration,
    /// A replica that applies nothing for this long, or knows no leader for a fifth of it, is left if there is another.
    /// Registry time alone is an entry each second.
    pub standstill: Duration,
}

impl WatcherConfig {
    /// The defaults.
    pub fn new(run: Run, transport: Arc<dyn WatchTransport>, replicas: watch::Receiver<Vec<NodeId>>) -> WatcherConfig {
        WatcherConfig {
            run,
            transport,
            replicas,
            submitting: Submitting::default(),
            silence: Duration::from_millis(1200),
            standstill: Duration::from_millis(1500),
        }
    }
}

/// The part of the registry that this node watches. Share it in an `Arc`.
pub struct Watcher {
    shared: Arc<Shared>,
    submitter: Submitter,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What the parts of a watcher share.
struct Shared {
    config: WatcherConfig,
    watched: RwLock<Watched>,
    pending: Arc<Pending>,
    on_ended: RwLock<Vec<OnEnded>>,
    applied: watch::Sender<u64>,
    status: watch::Sender<Status>,
}

impl Watcher {
    /// Begins to watch. It has something once [`Watcher::applied`] is above 0.
    pub fn start(config: WatcherConfig) -> Watcher {
        let run = config.run;
        let shared = Arc::new(Shared {
            watched: RwLock::new(Watched::new(run)),
            pending: Arc::new(Pending::new(run)),
            on_ended: RwLock::default(),
            applied: watch::Sender::new(0),
            status: watch::Sender::new(Status::default()),
            config,
        });
        let transport: Arc<dyn Transport> = shared.config.transport.clone();
        let (submitter, batcher) = Batcher::new(Way {
            run,
            submitting: shared.config.submitting,
            transport,
            pending: shared.pending.clone(),
            applied: shared.applied.subscribe(),
            status: shared.status.subscribe(),
            openraft: None,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().follow());
        tasks.spawn(batcher.run());
        Watcher { shared, submitter, tasks: tokio::sync::Mutex::new(tasks) }
    }

    /// What is known of the Raft group here: who leads, in which term, and what is applied.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The index that this node has applied, and every change of it.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Who hears of sessions that end in slots of this node. Called where updates are applied: it must not block.
    pub fn on_ended(&self, hear: OnEnded) {
        self.shared.on_ended.write().push(hear);
    }

    /// Stops. Who waits for a command hears `Unavailable`.
    pub async fn close(&self) {
        self.tasks.lock().await.shutdown().await;
        self.shared.pending.give_up_all();
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Watched) -> T) -> T {
        read(&self.shared.watched.read())
    }
}

impl Writer for Watcher {
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Outcome, WriteError>> {
        Box::pin(async move {
            self.read(|watched| watched.state().may_propose(&command))?;
            self.submitter.submit(&command).await
        })
    }
}

/// Of sessions it has those of the slots that name this run; of everything else, all.
impl Reader for Watcher {
    fn session(&self, id: &SessionId) -> Option<Arc<SessionRecord>> {
        self.read(|watched| watched.state().get(id).cloned())
    }

    fn sessions_of_slot(&self, slot: Slot) -> Vec<Arc<SessionRecord>> {
        self.read(|watched| watched.state().by_slot(slot).cloned().collect())
    }

    fn sessions_of_principal(&self, principal: &str, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.read(|watched| watched.state().by_principal(principal).take(limit).cloned().collect())
    }

    fn page(&self, after: Option<&SessionId>, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.read(|watched| watched.state().page(after).take(limit).cloned().collect())
    }

    fn counts(&self) -> Counts {
        self.read(Watched::counts)
    }

    fn limits(&self) -> Limits {
        self.read(|watched| *watched.state().limits())
    }

    fn now_ms(&self) -> u64 {
        self.read(|watched| watched.state().now_ms())
    }

    fn index(&self) -> u64 {
        self.read(Watched::index)
    }

    fn slot_table(&self) -> Arc<SlotTable> {
        self.read(|watched| watched.state().slots().clone())
    }

    fn members(&self) -> Arc<Members> {
        self.read(|watched| watched.state().members().clone())
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.read(|watched| watched.state().cluster())
    }
}
