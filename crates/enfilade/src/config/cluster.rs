//! The section `cluster`: who a node is among others, and where they meet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Other nodes connect here by default; gossip uses the same number over UDP.
const PORT: u16 = 8908;

/// Longer than a machine needs to start again.
const REPLACE_AFTER_MS: u64 = 600_000;

/// A node of a cluster. Without this section it is one node alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The cluster's name: nodes of another name are not listened to.
    pub(crate) name: String,
    /// This node's name; it must be given, and no other node may have it: lower-case letters, digits, `-` and `.`.
    pub(crate) node: String,
    /// What this node does.
    pub(crate) roles: Vec<Role>,
    /// Address and port (TCP) where other nodes connect; port 0 lets the system choose.
    pub(crate) link: SocketAddr,
    /// `HOST:PORT` at which others reach `link`; where it is bound when left out.
    pub(crate) link_advertise: Option<String>,
    /// Address and port (UDP) for gossip; port 0 lets the system choose.
    pub(crate) gossip: SocketAddr,
    /// Address and port at which others reach `gossip`; where it is bound when left out.
    pub(crate) gossip_advertise: Option<SocketAddr>,
    /// `HOST:PORT` of the gossip of some nodes, asked for ever; this node may be among them.
    pub(crate) seeds: Vec<String>,
    /// The names of the nodes that found the cluster, the same everywhere: 1, 3 or 5 with the role `registry`. A node
    /// that is not among them joins. Once the cluster is founded only their number counts: while fewer vote, others that
    /// joined are given a vote.
    pub(crate) voters: Vec<String>,
    /// The folder that `enfilade keys` made, the same at every node.
    pub(crate) keys: Option<PathBuf>,
    /// A voter that is away for this long is replaced by a node with the role `registry` that does not vote, if there
    /// is one; milliseconds. It cannot come back after that. 0: never.
    pub(crate) replace_after_ms: u64,
    /// Times that the nodes agree on, in milliseconds: the same at every node.
    pub(crate) timing: Timing,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Clients connect to it.
    Edge,
    /// It runs sessions and talks to upstreams; no other node needs any configured.
    Owner,
    /// It holds the whole registry, and may vote. Nodes without it watch one of these.
    Registry,
}

/// Times of leases, elections and moves. Combinations that are not safe are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timing {
    /// How often an owner renews its lease.
    pub(crate) heartbeat_ms: u64,
    /// How long an owner may act after it sent what was acknowledged.
    pub(crate) act_ms: u64,
    /// Silence after which an owner's slots are given to others.
    pub(crate) give_away_ms: u64,
    /// The least time without a leader until a registry node stands for election.
    pub(crate) election_min_ms: u64,
    /// The longest time without a leader until a registry node stands for election.
    pub(crate) election_max_ms: u64,
    /// How often the registry's leader is heard.
    pub(crate) raft_heartbeat_ms: u64,
    /// An owner without a lease for this long loses its slots.
    pub(crate) fenced_ms: u64,
    /// An owner that most nodes cannot reach for this long loses its slots.
    pub(crate) unreachable_ms: u64,
    /// How long the copy of a stream's events is waited for before the owner goes on alone.
    pub(crate) copy_ms: u64,
    /// How long the move of a slot may take before it is called off.
    pub(crate) move_ms: u64,
    /// How long a request waits for an owner that may not act.
    pub(crate) hold_ms: u64,
    /// How long a node that leaves finishes its calls.
    pub(crate) drain_ms: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "enfilade".to_owned(),
            node: String::new(),
            roles: vec![Role::Edge, Role::Owner, Role::Registry],
            link: (Ipv4Addr::LOCALHOST, PORT).into(),
            link_advertise: None,
            gossip: (Ipv4Addr::LOCALHOST, PORT).into(),
            gossip_advertise: None,
            seeds: Vec::new(),
            voters: Vec::new(),
            keys: None,
            replace_after_ms: REPLACE_AFTER_MS,
            timing: Timing::default(),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        let times = enfilade_registry::Timing::default();
        Self {
            heartbeat_ms: times.heartbeat_ms,
            act_ms: times.act_ms,
            give_away_ms: times.give_away_ms,
            election_min_ms: times.election_min_ms,
            election_max_ms: times.election_max_ms,
            raft_heartbeat_ms: times.raft_heartbeat_ms,
            fenced_ms: times.fenced_ms,
            unreachable_ms: times.unreachable_ms,
            copy_ms: times.copy_ms,
            move_ms: times.move_ms,
            hold_ms: times.hold_ms,
            drain_ms: times.drain_ms,
        }
    }
}

impl Timing {
    /// As the registry has it.
    pub(crate) fn registry(&self) -> enfilade_registry::Timing {
        enfilade_registry::Timing {
            heartbeat_ms: self.heartbeat_ms,
            act_ms: self.act_ms,
            give_away_ms: self.give_away_ms,
            election_min_ms: self.election_min_ms,
            election_max_ms: self.election_max_ms,
            raft_heartbeat_ms: self.raft_heartbeat_ms,
            fenced_ms: self.fenced_ms,
            unreachable_ms: self.unreachable_ms,
            copy_ms: self.copy_ms,
            move_ms: self.move_ms,
            hold_ms: self.hold_ms,
            drain_ms: self.drain_ms,
        }
    }
}

impl Cluster {
    /// Whether the node plays this role.
    pub(crate) fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// As the registry has them.
    pub(crate) fn roles(&self) -> enfilade_registry::Roles {
        enfilade_registry::Roles {
            edge: self.plays(Role::Edge),
            owner: self.plays(Role::Owner),
            registry: self.plays(Role::Registry),
        }
    }
}
