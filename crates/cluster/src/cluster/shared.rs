//! What the parts of a cluster node share, and how each part is made of it.

use crate::clock::Clock;
use crate::config::Config;
use crate::duty::{Desk, Held, Inbox, Lanes, Listener, Proposals, Sessions, Tools, Wires};
use crate::finish::{Finishers, Heir};
use crate::leader::Beats;
use crate::map::{Loads, Map, Maps};
use crate::roster::Roster;
use crate::router::{Local, MeshDoors, Parts};
use crate::serve::Server;
use crate::tenure::{Lease, OwnSlots};
use enfilade_mesh::Mesh;
use enfilade_raft::{Raft, Registry};
use enfilade_registry::{NodeId, SessionKeys};
use enfilade_session::Node;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a cluster node shares among its parts.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) mesh: Mesh,
    /// The registry as this node has it.
    pub(super) registry: Arc<dyn Registry>,
    /// Where there is a replica of it: this node may lead.
    pub(super) raft: Option<Arc<Raft>>,
    pub(super) keys: Arc<SessionKeys>,
    pub(super) clock: Clock,
    pub(super) slots: Arc<OwnSlots>,
    pub(super) maps: Arc<Maps>,
    pub(super) roster: Roster,
    pub(super) loads: Arc<Loads>,
    pub(super) registered: watch::Sender<bool>,
    /// Up to which index every slot was dealt with.
    pub(super) dealt: watch::Sender<u64>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) held: Arc<Held>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) wires: Arc<Wires>,
    pub(super) finishers: Arc<Finishers>,
    /// Ends with the node.
    pub(super) tasks: TaskTracker,
    /// Messages of other nodes in work.
    pub(super) asked: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn router_parts(&self, local: Arc<dyn Local>) -> Parts {
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
            maps: self.maps.clone(),
            loads: self.loads.clone(),
            keys: self.keys.clone(),
            servers: self.config.servers.clone(),
            timing: self.config.timing,
        }
    }

    pub(super) fn lease(&self, beats: Beats) -> Lease {
        Lease {
            me: self.config.me,
            timing: self.config.timing,
            clock: self.clock.clone(),
            slots: self.slots.clone(),
            mesh: self.mesh.clone(),
            registry: self.registry.clone(),
            dealt: self.dealt.subscribe(),
            beats,
        }
    }

    pub(super) fn server(&self, local: Arc<dyn Local>) -> Arc<Server> {
        Server::new(local, self.slots.clone(), self.keys.clone(), &self.config, self.asked.clone())
    }

    pub(super) fn listener(&self) -> Arc<Listener> {
        Arc::new(Listener {
            held: self.held.clone(),
            lanes: self.lanes.clone(),
            inbox: self.inbox.clone(),
            wires: self.wires.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        })
    }

    pub(super) fn heir(&self, node: Arc<Node>) -> Arc<Heir> {
        Arc::new(Heir {
            node,
            slots: self.slots.clone(),
            keys: self.keys.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        })
    }

    pub(super) fn desk(&self, sessions: Arc<dyn Sessions>) -> Desk {
        let tools = Tools {
            clock: self.clock.clone(),
            slots: self.slots.clone(),
            lanes: self.lanes.clone(),
            held: self.held.clone(),
            inbox: self.inbox.clone(),
            wires: self.wires.clone(),
            sessions,
            finishers: self.finishers.clone(),
        };
        Desk::new(self.config.me, self.config.timing, tools, Proposals::new(self.registry.clone()))
    }

    /// Whom this node can speak to about slots.
    pub(super) fn others(&self, map: &Map) -> Vec<NodeId> {
        map.members.iter().map(|(node, _)| node).filter(|node| *node != self.config.me.node).collect()
    }
}
