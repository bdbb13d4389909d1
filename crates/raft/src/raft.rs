//! One replica: what the rest of the node has of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_registry::{
    BoxFuture, ClusterId, Command, Counts, Limits, Members, NodeId, OnEnded, Outcome, Reader, Refusal, Run, SessionId,
    SessionRecord, Slot, SlotTable, StateMachine, WriteError, Writer,
};
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::core::Core;
use crate::log::{LogOwner, LogStore};
use crate::network::{Network, Receiver};
use crate::state::{Machine, State};
use crate::submit::{Batcher, Submitter};
use crate::{Config, ControlError, NoQuorum, OpenError, RaftCall, ServeError, Status};

/// A replica of the registry. Share it in an `Arc`.
///
/// End it with [`Raft::close`]: dropped, it ends as well, but at some time and without a word.
pub struct Raft {
    core: Arc<Core>,
    submitter: Submitter,
    log: Arc<LogOwner>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Raft {
    /// Opens the replica in `config.dir` and starts it. A new one belongs to no group: see [`Raft::bootstrap`], or
    /// have the leader [add it](Raft::add_learner).
    ///
    /// # Errors
    /// The directory cannot be opened, what it holds cannot be understood, or the configuration makes no sense.
    pub async fn open(config: Config) -> Result<Raft, OpenError> {
        let openraft_config = config.for_openraft().map_err(|error| OpenError::Config(error.to_string()))?;
        let (state, store, log) = open_disk(config.clone()).await?;
        let network = Network { transport: config.transport.clone(), chunk_bytes: config.snapshot_chunk_bytes };
        let me = config.run.node;
        let machine = Machine(state.clone());
        let openraft = openraft::Raft::new(me.0, Arc::new(openraft_config), network, store, machine).await;
        let openraft = openraft.map_err(|error| OpenError::Start(error.to_string()))?;
        let stopped = |error: openraft::errors::Fatal<_>| OpenError::Start(error.to_string());
        let is_initialised = openraft.is_initialized().await.map_err(stopped)?;
        let status = Status { is_initialised, ..Status::default() };
        let core = Arc::new(Core {
            me,
            openraft,
            state,
            status: watch::Sender::new(status),
            receiver: Receiver::default(),
            closed: watch::Sender::new(false),
            config,
        });
        let (submitter, batcher) = Batcher::new(core.way());
        let mut tasks = JoinSet::new();
        tasks.spawn(core.clone().watch_metrics());
        tasks.spawn(core.clone().take_snapshots());
        tasks.spawn(batcher.run());
        Ok(Raft { core, submitter, log: Arc::new(log), tasks: tokio::sync::Mutex::new(tasks) })
    }

    /// Answers a call of another replica's [`Transport`](crate::Transport).
    ///
    /// # Errors
    /// The message cannot be read, or this replica has stopped.
    pub async fn serve(&self, kind: RaftCall, from: NodeId, body: Bytes) -> Result<Bytes, ServeError> {
        self.core.serve(kind, from, body).await
    }

    /// What a node without a replica is to know, and what changes of it: the parts of a watch, in order, as
    /// [`Watcher`](crate::Watcher) asks for them. They end when this replica does, or when the run may know nothing more.
    ///
    /// # Errors
    /// The message cannot be read, or the run is not to be served.
    pub fn watch(&self, from: Run, asked: Bytes) -> Result<BoxStream<'static, Bytes>, ServeError> {
        self.core.clone().feed(from, asked)
    }

    /// Founds the group with these voters. On one of them, once; the others are found by it.
    ///
    /// # Errors
    /// The replica belongs to a group already, or is not among the voters.
    pub async fn bootstrap(&self, voters: impl IntoIterator<Item = NodeId>) -> Result<(), ControlError> {
        self.core.bootstrap(voters.into_iter().collect()).await
    }

    /// On the leader: gives the log to another replica, without a vote. It has it when [`Status::matched`] says so.
    ///
    /// # Errors
    /// This node does not lead, or the voters are being changed.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ControlError> {
        self.core.add_learner(node).await
    }

    /// On the leader: no longer gives the log to a learner.
    ///
    /// # Errors
    /// This node does not lead, or the voters are being changed.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), ControlError> {
        self.core.remove_learner(node).await
    }

    /// On the leader: these replicas vote from now on; those that voted and do not are out. New ones must be learners.
    ///
    /// # Errors
    /// This node does not lead, a replica is not known, or the voters are being changed already.
    pub async fn change_voters(&self, voters: impl IntoIterator<Item = NodeId>) -> Result<(), ControlError> {
        self.core.change_voters(voters.into_iter().collect()).await
    }

    /// On the leader: lets another voter lead, and waits until it does.
    ///
    /// # Errors
    /// This node does not lead, the other does not vote, or it does not lead in time.
    pub async fn transfer_leader(&self, to: NodeId, within: Duration) -> Result<(), ControlError> {
        self.core.transfer_leader(to, within).await
    }

    /// On the leader: lets the voter lead that has most of the log.
    ///
    /// # Errors
    /// As [`Raft::transfer_leader`]; and there may be no other voter.
    pub async fn step_down(&self, within: Duration) -> Result<(), ControlError> {
        self.core.step_down(within).await
    }

    /// What the replica knows of its group, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.core.status.subscribe()
    }

    /// Whether this node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.core.lead().is_me
    }

    /// Shows that this node leads, by a round with a majority that begins after the call, and gives the index applied
    /// here, which covers all that was committed when the call was made.
    ///
    /// # Errors
    /// This node does not lead, or no majority answers in time.
    pub async fn read_index(&self, within: Duration) -> Result<u64, NoQuorum> {
        self.core.read_index(within).await
    }

    /// The index applied on this node, and every change of it.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.core.state.watch_index()
    }

    /// Who hears of every session that ends. Called where entries are applied: it must not block.
    pub fn on_ended(&self, hear: OnEnded) {
        self.core.state.on_ended(hear);
    }

    /// Reads the registry as applied on this node. Not for long: applying waits meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&StateMachine) -> T) -> T {
        self.core.state.read(read)
    }

    /// Stops the replica, writes what waits, and gives up the directory. Nothing acknowledged is lost either way.
    pub async fn close(&self) {
        self.core.closed.send_replace(true);
        self.tasks.lock().await.shutdown().await;
        self.core.state.pending.give_up_all();
        if self.core.openraft.shutdown().await.is_err() {
            tracing::error!("raft had panicked");
        }
        let log = self.log.clone();
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("closing the log panicked");
        }
    }

    /// On the leader, refuses what only grows worse with time: so that a client over its quota costs no disk. What
    /// depends on entries that may be on their way is not refused before its turn.
    fn refuse_early(&self, command: &Command) -> Result<(), Refusal> {
        if command.format() > 1 {
            // What another node might not be able to read is not proposed at all.
            self.read(|state| state.may_propose(command))?;
        }
        if !self.is_leader() {
            return Ok(());
        }
        match self.read(|state| state.check(command)) {
            Err(
                refusal @ (Refusal::PrincipalQuota { .. }
                | Refusal::RegistryFull { .. }
                | Refusal::SubscriptionQuota { .. }
                | Refusal::RecordTooLarge { .. }
                | Refusal::TouchTooLong
                | Refusal::BadLimits),
            ) => Err(refusal),
            _ => Ok(()),
        }
    }
}

impl Drop for Raft {
    fn drop(&mut self) {
        let openraft = self.core.openraft.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { openraft.shutdown().await });
        }
    }
}

/// Reads the disk on a thread that may block.
async fn open_disk(config: Config) -> Result<(Arc<State>, LogStore, LogOwner), OpenError> {
    let opened = tokio::task::spawn_blocking(move || {
        // The log's lock comes first: it keeps other processes from the snapshots, too.
        let (store, log) = LogStore::open(&config.dir.join("log"), config.log_cache_bytes_max)?;
        config.before_write.into_iter().for_each(|call| log.before_write(call));
        let state = State::open(&config.dir.join("state"), config.run, config.snapshot_log_bytes_min);
        let state = state.map_err(|error| OpenError::Snapshot(error.to_string()))?;
        Ok((Arc::new(state), store, log))
    });
    opened.await.map_err(|error| OpenError::Start(error.to_string()))?
}

impl Writer for Raft {
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Outcome, WriteError>> {
        Box::pin(async move {
            self.refuse_early(&command)?;
            self.submitter.submit(&command).await
        })
    }
}

impl Reader for Raft {
    fn session(&self, id: &SessionId) -> Option<Arc<SessionRecord>> {
        self.read(|state| state.get(id).cloned())
    }

    fn sessions_of_slot(&self, slot: Slot) -> Vec<Arc<SessionRecord>> {
        self.read(|state| state.by_slot(slot).cloned().collect())
    }

    fn sessions_of_principal(&self, principal: &str, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.read(|state| state.by_principal(principal).take(limit).cloned().collect())
    }

    fn page(&self, after: Option<&SessionId>, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.read(|state| state.page(after).take(limit).cloned().collect())
    }

    fn counts(&self) -> Counts {
        self.read(StateMachine::counts)
    }

    fn limits(&self) -> Limits {
        self.read(|state| *state.limits())
    }

    fn now_ms(&self) -> u64 {
        self.read(StateMachine::now_ms)
    }

    /// The index of the log: it counts entries without commands, too.
    fn index(&self) -> u64 {
        self.core.state.index()
    }

    fn slot_table(&self) -> Arc<SlotTable> {
        self.read(|state| state.slots().clone())
    }

    fn members(&self) -> Arc<Members> {
        self.read(|state| state.members().clone())
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.read(StateMachine::cluster)
    }
}
