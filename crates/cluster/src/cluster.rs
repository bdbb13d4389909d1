//! All parts of a cluster node, started and stopped in order.

use crate::clock::Clock;
use crate::config::Config;
use crate::duty::{Desk, Held, Inbox, Lanes, Listener, Proposals, SecondCopies, Sessions, Tools, Wires};
use crate::leader::{Beat, Beats, Leading};
use crate::map::{Loads, Map};
use crate::roster::{Roster, Seen};
use crate::router::{Local, MeshDoors, Parts, Router};
use crate::serve::Server;
use crate::status::{MemberStatus, Status};
use crate::switchboard::{self, Switchboard};
use crate::tenure::{Lease, OwnSlots};
use enfilade_mesh::Mesh;
use enfilade_raft::Raft;
use enfilade_registry::{Command, NodeId, Reader, Run, SessionKeys, TimingError, WriteError, Writer};
use enfilade_session::Node;
use enfilade_session::copy::Copies;
use enfilade_session::slots::Slots;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two attempts to register.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// Between two ticks of slots.
const DESK_TICK: Duration = Duration::from_millis(100);
/// Between two looks whether a slot can be frozen.
const CLOSE_TICK: Duration = Duration::from_millis(10);
/// How long it may take until another node leads.
const STEP_DOWN: Duration = Duration::from_secs(2);
/// How long tasks may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What a cluster node shares among its parts.
struct Shared {
    config: Config,
    mesh: Mesh,
    raft: Arc<Raft>,
    keys: Arc<SessionKeys>,
    clock: Clock,
    slots: Arc<OwnSlots>,
    map: watch::Sender<Arc<Map>>,
    roster: Roster,
    loads: Arc<Loads>,
    registered: watch::Sender<bool>,
    /// Up to which index every slot was dealt with.
    dealt: watch::Sender<u64>,
    lanes: Arc<Lanes>,
    held: Arc<Held>,
    inbox: Arc<Inbox>,
    wires: Arc<Wires>,
    tasks: TaskTracker,
}

/// A cluster node before it has its sessions: they need its slots.
pub struct Prepared {
    shared: Arc<Shared>,
    beats: Beats,
    beating: mpsc::Receiver<Beat>,
}

impl Prepared {
    /// Checks the configuration; nothing runs yet.
    ///
    /// # Errors
    /// Times under which two owners could act at once.
    pub fn new(
        config: Config,
        mesh: Mesh,
        raft: Arc<Raft>,
        keys: Arc<SessionKeys>,
        clock: Clock,
    ) -> Result<Self, TimingError> {
        config.timing.check()?;
        let tasks = TaskTracker::new();
        let slots = Arc::new(OwnSlots::new(clock.clone()));
        let map = watch::Sender::new(Arc::new(Map { slots: raft.slot_table(), members: raft.members() }));
        let loads = Arc::new(Loads::default());
        let roster = Roster::new(mesh.clone(), loads.clone());
        let (beats, beating) = Beats::new();
        let (inbox, wires) = (Arc::new(Inbox::default()), Arc::new(Wires::new(mesh.clone(), tasks.clone())));
        let lanes = Lanes::new(clock.clone(), config.timing.copy_ms, wires.clone(), inbox.clone());
        let held = Arc::new(Held::new(keys.clone()));
        let ended = held.clone();
        raft.on_ended(Arc::new(move |all| all.iter().for_each(|one| ended.ended(&one.id))));
        let shared = Shared {
            config,
            mesh,
            raft,
            keys,
            clock,
            slots,
            map,
            roster,
            loads,
            registered: watch::Sender::new(false),
            dealt: watch::Sender::new(0),
            lanes: Arc::new(lanes),
            held,
            inbox,
            wires,
            tasks,
        };
        Ok(Self { shared: Arc::new(shared), beats, beating })
    }

    /// The slots of this node, for its sessions.
    #[must_use]
    pub fn slots(&self) -> Arc<dyn Slots> {
        self.shared.slots.clone()
    }

    /// The second copies of its slots, for its sessions.
    #[must_use]
    pub fn copies(&self) -> Arc<dyn Copies> {
        Arc::new(SecondCopies { lanes: self.shared.lanes.clone(), held: self.shared.held.clone() })
    }

    /// Starts to serve others, to hold a lease, and to lead when it is this node's turn.
    #[must_use]
    pub fn start(self, node: Arc<Node>, switchboard: &Arc<Switchboard>) -> Cluster {
        let Self { shared, beats, beating } = self;
        let local: Arc<dyn Local> = node.clone();
        switchboard.connect(switchboard::Parts {
            server: shared.server(local.clone()),
            listener: shared.listener(),
            beats: beats.clone(),
        });
        let router = Arc::new(Router::new(shared.router_parts(local)));
        let parts = Running::new(shared.tasks.clone());
        parts.spawn("slot table", follow(shared.clone(), shared.desk(node.clone())));
        let leading = Leading::new(shared.raft.clone(), shared.clock.clone(), shared.config.timing, beating);
        parts.spawn("leases of others", leading.run());
        parts.spawn("lease", shared.lease(beats).run());
        parts.spawn("registration", register(shared.clone()));
        Cluster { shared, router, node, switchboard: switchboard.clone(), parts }
    }
}

impl Shared {
    fn router_parts(&self, local: Arc<dyn Local>) -> Parts {
        Parts {
            me: self.config.me,
            owns: self.config.registration.roles.owner,
            local,
            doors: Arc::new(MeshDoors(self.mesh.clone())),
            slots: self.slots.clone(),
            alone_ms_max: self.config.alone_ms_max,
            alone_ms: {
                let slots = self.slots.clone();
                Box::new(move || slots.alone_ms())
            },
            map: self.map.subscribe(),
            loads: self.loads.clone(),
            keys: self.keys.clone(),
            servers: self.config.servers.clone(),
            timing: self.config.timing,
        }
    }

    fn lease(&self, beats: Beats) -> Lease {
        Lease {
            me: self.config.me,
            timing: self.config.timing,
            clock: self.clock.clone(),
            slots: self.slots.clone(),
            mesh: self.mesh.clone(),
            raft: self.raft.clone(),
            dealt: self.dealt.subscribe(),
            beats,
        }
    }

    fn server(&self, local: Arc<dyn Local>) -> Arc<Server> {
        let (slots, servers) = (self.slots.clone(), self.config.servers.clone());
        Server::new(local, slots, self.keys.clone(), servers, self.config.asks_max, self.tasks.clone())
    }

    fn listener(&self) -> Arc<Listener> {
        Arc::new(Listener {
            held: self.held.clone(),
            lanes: self.lanes.clone(),
            inbox: self.inbox.clone(),
            wires: self.wires.clone(),
            tasks: self.tasks.clone(),
        })
    }

    fn desk(&self, sessions: Arc<dyn Sessions>) -> Desk {
        let tools = Tools {
            clock: self.clock.clone(),
            slots: self.slots.clone(),
            lanes: self.lanes.clone(),
            held: self.held.clone(),
            inbox: self.inbox.clone(),
            wires: self.wires.clone(),
            sessions,
        };
        Desk::new(self.config.me, self.config.timing, tools, Proposals::new(self.raft.clone()))
    }

    /// Whom this node can speak to about slots.
    fn others(&self, map: &Map) -> Vec<NodeId> {
        map.members.iter().map(|(node, _)| node).filter(|node| *node != self.config.me.node).collect()
    }
}

/// Follows what this node applies: the desk deals with it, then those who route and the lease hear of it.
async fn follow(shared: Arc<Shared>, mut desk: Desk) {
    let mut applied = shared.raft.applied();
    let mut tick = tokio::time::interval(DESK_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut close = tokio::time::interval(CLOSE_TICK);
    close.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published: Option<Arc<Map>> = None;
    loop {
        // In this order the table holds at least what was applied at the index.
        let index = shared.raft.index();
        let map = Map { slots: shared.raft.slot_table(), members: shared.raft.members() };
        let same = |old: &Arc<Map>| Arc::ptr_eq(&old.members, &map.members) && Arc::ptr_eq(&old.slots, &map.slots);
        if !published.as_ref().is_some_and(same) {
            shared.wires.set_nodes(&shared.others(&map));
            desk.look(&map.slots);
            shared.roster.link(&map);
            let map = Arc::new(map);
            shared.map.send_replace(map.clone());
            published = Some(map);
        }
        shared.dealt.send_if_modified(|dealt| std::mem::replace(dealt, index) != index);
        tokio::select! {
            changed = applied.changed() => {
                if changed.is_err() {
                    return tracing::error!("the registry's replica on this node has ended");
                }
            }
            () = shared.inbox.happened() => desk.happened(),
            () = desk.proposals.answered() => {}
            _ = tick.tick() => desk.tick(),
            _ = close.tick(), if desk.is_closing() => desk.close(),
        }
    }
}

/// Registers this run, as often as it takes.
async fn register(shared: Arc<Shared>) {
    let me = shared.config.me;
    let crate::config::Registration { name, link, roles, formats } = shared.config.registration.clone();
    loop {
        let command = Command::Register { run: me, name: name.clone(), link: link.clone(), roles, formats };
        match shared.raft.submit(command).await {
            Ok(_) => {
                shared.registered.send_replace(true);
                return;
            }
            Err(WriteError::Refused(refusal)) => {
                tracing::error!(%refusal, run = %me, "this node may not take part in the cluster");
                return std::future::pending().await;
            }
            Err(WriteError::Unavailable) => tokio::time::sleep(REGISTER_AGAIN).await,
        }
    }
}

/// A node of a cluster that runs.
pub struct Cluster {
    shared: Arc<Shared>,
    router: Arc<Router>,
    node: Arc<Node>,
    switchboard: Arc<Switchboard>,
    parts: Running,
}

impl Cluster {
    /// The owner of every slot, for the edge.
    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        self.router.clone()
    }

    /// Whom gossip sees now: links and loads follow.
    pub fn set_roster(&self, seen: Vec<Seen>) {
        let map = self.shared.map.borrow().clone();
        self.shared.roster.see(seen, &map);
    }

    /// Turns true once this run is registered.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.shared.registered.subscribe()
    }

    /// Resolves once every slot has an owner and this node may act for its own, if it is to have any.
    pub async fn ready(&self) {
        let shared = &self.shared;
        let mut registered = shared.registered.subscribe();
        let _ = registered.wait_for(|registered| *registered).await; // The sender lives as long as this.
        let mut map = shared.map.subscribe();
        let _ = map.wait_for(|map| map.slots.records().iter().all(|record| record.owner.is_some())).await;
        let mut changed = shared.slots.changed();
        while shared.config.registration.roles.owner && !shared.slots.has_lease() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let (map, raft) = (shared.map.borrow().clone(), shared.raft.status());
        let (leader, is_leader) = {
            let raft = raft.borrow();
            (raft.leader, raft.is_leader)
        };
        let linked = shared.mesh.connected();
        let seconds = |run: Run| map.slots.records().iter().filter(|record| record.second == Some(run)).count();
        let owned = map.slots.loads();
        let members = map.members.iter().map(|(node, member)| {
            let run = Run { node, generation: member.generation };
            MemberStatus {
                run,
                name: member.name.to_string(),
                roles: member.roles,
                draining: member.draining,
                is_linked: node == shared.config.me.node || linked.contains(&node),
                slots_owned: owned.get(&run).copied().unwrap_or(0),
                slots_second: seconds(run),
            }
        });
        let (slots_owned, slots_serving) = shared.slots.counts();
        Status {
            leader,
            is_leader,
            slots_owned,
            slots_serving,
            slots_second: seconds(shared.config.me),
            lease_left_ms: shared.slots.lease_left_ms(),
            is_registered: *shared.registered.borrow(),
            members: members.collect(),
        }
    }

    /// Asks the others to take everything over, and waits until this node is neither owner nor second of anything;
    /// then lets another node lead. False when that took longer, or nobody else is there to take it.
    pub async fn drain(&self, within: Duration) -> bool {
        let (shared, me) = (&self.shared, self.shared.config.me);
        let asked = async {
            while shared.raft.submit(Command::Drain { node: me.node, on: true }).await.is_err() {
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
            let is_empty = |map: &Map| !map.slots.records().iter().any(|record| record.names(me));
            let nobody = |map: &Map| !map.members.owners().any(|run| map.members.takes_slots(run));
            let mut map = shared.map.subscribe();
            let ended = map.wait_for(|map| is_empty(map) || nobody(map)).await;
            ended.is_ok_and(|map| is_empty(&map))
        };
        let emptied = tokio::time::timeout(within, asked).await.unwrap_or(false);
        if emptied && shared.raft.is_leader() {
            if let Err(error) = shared.raft.step_down(STEP_DOWN).await {
                tracing::debug!(%error, "nobody else leads the registry yet");
            }
        }
        emptied
    }

    /// How much this node has to do, to be told to others.
    #[must_use]
    pub fn load(&self) -> u32 {
        u32::try_from(self.node.in_flight()).unwrap_or(u32::MAX)
    }

    /// Resolves with the name of a part that ended although it was not told to.
    pub async fn failed(&self) -> &'static str {
        self.parts.failed().await
    }

    /// Ends all parts. Slots that this node still owns are taken by others once its lease is over.
    pub async fn shutdown(&self) {
        self.switchboard.disconnect();
        self.shared.wires.close();
        self.parts.stop().await;
    }
}

/// Tasks that run as long as the node does.
struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<Option<&'static str>>,
}

impl Running {
    fn new(tasks: TaskTracker) -> Self {
        Self { tasks, stop: CancellationToken::new(), failed: watch::Sender::new(None) }
    }

    /// Runs `part` until the node stops. That it ends by itself, or panics, is told to who waits for it.
    fn spawn(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            let ended = Ended(name, failed);
            if stop.run_until_cancelled(part).await.is_none() {
                std::mem::forget(ended);
            }
        });
    }

    async fn failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(name) = *failed.borrow_and_update() {
                return name;
            }
            let _ = failed.changed().await; // The sender lives as long as this.
        }
    }

    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("messages of other nodes were still in work when this one stopped");
        }
    }
}

/// Says that a part has ended, however it did.
struct Ended(&'static str, watch::Sender<Option<&'static str>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.1.send_replace(Some(self.0));
    }
}
