//! A cluster node before it runs: its sessions need its slots, and it needs its sessions.

use super::Cluster;
use super::follow::{follow, register};
use super::running::Running;
use super::shared::Shared;
use crate::clock::Clock;
use crate::config::Config;
use crate::duty::{Held, Inbox, Lanes, SecondCopies, Wires};
use crate::finish::Finishers;
use crate::leader::{Beat, Beats, Leading};
use crate::map::{Loads, Map, Maps};
use crate::roster::Roster;
use crate::router::{Local, Router};
use crate::switchboard::{self, Switchboard};
use crate::tenure::OwnSlots;
use enfilade_mesh::Mesh;
use enfilade_raft::Share;
use enfilade_registry::{SessionKeys, TimingError};
use enfilade_session::Node;
use enfilade_session::copy::Copies;
use enfilade_session::slots::Slots;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
        share: &Share,
        keys: Arc<SessionKeys>,
        clock: Clock,
    ) -> Result<Self, TimingError> {
        config.timing.check()?;
        let tasks = TaskTracker::new();
        let slots = Arc::new(OwnSlots::new(clock.clone()));
        let (registry, raft) = (share.registry(), share.raft().cloned());
        let maps = Arc::new(Maps::new(Map { slots: registry.slot_table(), members: registry.members() }));
        let loads = Arc::new(Loads::default());
        let roster = Roster::new(mesh.clone(), loads.clone());
        let (beats, beating) = Beats::new();
        let (inbox, wires) = (Arc::new(Inbox::default()), Arc::new(Wires::new(mesh.clone(), tasks.clone())));
        let stop = CancellationToken::new();
        let finishers = Finishers::new(Some(mesh.clone()), keys.clone(), inbox.clone(), tasks.clone(), stop.clone());
        let lanes = Arc::new(Lanes::new(clock.clone(), config.timing.copy_ms, wires.clone(), inbox.clone()));
        let held = Arc::new(Held::new(keys.clone()));
        let copies = SecondCopies { lanes: lanes.clone(), held: held.clone() };
        registry.on_ended(Arc::new(move |all| all.iter().for_each(|one| copies.ended(&one.id))));
        let shared = Shared {
            config,
            mesh,
            registry,
            raft,
            keys,
            clock,
            slots,
            maps,
            roster,
            loads,
            registered: watch::Sender::new(false),
            dealt: watch::Sender::new(0),
            lanes,
            held,
            inbox,
            wires,
            finishers,
            tasks,
            asked: TaskTracker::new(),
            stop,
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
            heir: shared.heir(node.clone()),
            beats: beats.clone(),
        });
        let router = Router::new(shared.router_parts(local));
        let parts = Running::new(shared.tasks.clone(), shared.stop.clone());
        let here = Handle::current();
        let control = shared.config.control.clone().unwrap_or_else(|| here.clone());
        parts.spawn(&here, "slot table", follow(shared.clone(), shared.desk(node.clone())));
        if let Some(raft) = shared.raft.clone() {
            let leading = Leading::new(raft, shared.clock.clone(), shared.config.timing, beating);
            parts.spawn(&control, "leases of others", leading.run());
        }
        parts.spawn(&control, "lease", shared.lease(beats).run());
        parts.spawn(&here, "registration", register(shared.clone()));
        Cluster { shared, router, node, switchboard: switchboard.clone(), parts }
    }
}
