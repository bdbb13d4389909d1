//! Gossip's two directions: what this node says of itself, and whom it has heard of, for those who hold links.
//! A hint is said again at once when something changed that others wait for; its load now and then.

use super::control::Control;
use crate::config::Cluster as Section;
use crate::keys::Keys;
use anyhow::Context;
use enfilade_cluster::{Cluster, Seen};
use enfilade_membership::{GossipKeys, Hint, Identity, Membership, Roster};
use enfilade_mesh::{Mesh, Peer};
use enfilade_raft::Registry;
use enfilade_registry::{NodeId, Run};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// How often the load is told.
const LOAD: Duration = Duration::from_secs(2);

/// Begins to gossip.
///
/// # Errors
/// A name is too long, or the address cannot be told to others.
pub(super) async fn start(
    section: &Section,
    keys: &Keys,
    run: Run,
    socket: UdpSocket,
    (gossip, link): (SocketAddr, String),
    control: &Control,
) -> anyhow::Result<Membership> {
    let secrets = GossipKeys::new(1, &keys.gossip)?;
    let mut config = enfilade_membership::Config::new(&section.name, secrets, section.seeds.clone());
    config.started_ms = crate::compose::started_at_ms()?;
    let me = Identity { run, name: section.node.clone(), gossip, link, roles: section.roles() };
    let socket = socket.into_std()?;
    // It waits for packets where it lives.
    let started =
        control.run(async move { anyhow::Ok(Membership::start(config, me, UdpSocket::from_std(socket)?).await?) });
    started.await?.context("gossip cannot start")
}

/// What others are told of this node.
pub(super) struct Voice {
    membership: Arc<Membership>,
    mesh: Mesh,
    registry: Arc<dyn Registry>,
    cluster: OnceLock<Arc<Cluster>>,
    draining: AtomicBool,
}

impl Voice {
    pub(super) fn new(membership: Arc<Membership>, mesh: Mesh, registry: Arc<dyn Registry>) -> Self {
        Self { membership, mesh, registry, cluster: OnceLock::new(), draining: AtomicBool::new(false) }
    }

    /// From now on its load is told.
    pub(super) fn speak_for(&self, cluster: Arc<Cluster>) {
        // A second one would be a mistake of the composition; the first stays.
        let _ = self.cluster.set(cluster);
    }

    /// From now on others are told that this node is being emptied.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Says what changed, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let (mut status, mut links) = (self.registry.status(), self.mesh.watch());
        let mut last = Hint::default();
        for version in 1.. {
            let hint = loop {
                let hint = self.hint(last.version);
                if hint != last || version == 1 {
                    break hint;
                }
                tokio::select! {
                    Ok(()) = status.changed() => {}
                    Ok(()) = links.changed() => {}
                    () = tokio::time::sleep(LOAD) => {}
                }
            };
            last = Hint { version, ..hint };
            self.membership.set_hint(last.clone());
            // What changes many times a moment is told once.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn hint(&self, version: u64) -> Hint {
        let status = self.registry.status().borrow().clone();
        let load = self.cluster.get().map_or(0, |cluster| cluster.load());
        Hint {
            version,
            load,
            draining: self.draining.load(Ordering::Relaxed),
            initialised: self.registry.cluster(),
            leader: status.leader.map(|leader| (status.raft_term, leader)),
            sees: self.mesh.connected(),
        }
    }
}

/// Tells those who hold links whom gossip sees: the mesh at first, the cluster once there is one. Ends with gossip.
pub(super) async fn follow(
    mut roster: watch::Receiver<Arc<Roster>>,
    mesh: Mesh,
    mut cluster: watch::Receiver<Option<Arc<Cluster>>>,
) {
    loop {
        let seen = roster.borrow_and_update().clone();
        match cluster.borrow_and_update().clone() {
            Some(cluster) => cluster.set_roster(seen.members().iter().map(heard).collect()),
            None => mesh.set_peers(seen.members().iter().map(peer).collect()),
        }
        tokio::select! {
            changed = roster.changed() => if changed.is_err() { return },
            Ok(()) = cluster.changed() => {}
        }
    }
}

/// Tells which nodes with a replica of the registry have a link to this one. Ends with gossip.
pub(super) async fn replicas(mut roster: watch::Receiver<Arc<Roster>>, mesh: Mesh, tell: watch::Sender<Vec<NodeId>>) {
    let mut links = mesh.watch();
    // Gossip may lose sight of one that a link leads to still.
    let mut known = BTreeSet::new();
    loop {
        let seen = roster.borrow_and_update().clone();
        let registries = seen.members().iter().filter(|alive| alive.identity.roles.registry);
        known.extend(registries.map(|alive| alive.identity.run.node));
        let linked: Vec<NodeId> =
            links.borrow_and_update().iter().copied().filter(|node| known.contains(node)).collect();
        tell.send_if_modified(|told| {
            let differs = *told != linked;
            *told = linked;
            differs
        });
        tokio::select! {
            changed = roster.changed() => if changed.is_err() { return },
            changed = links.changed() => if changed.is_err() { return },
        }
    }
}

fn peer(alive: &enfilade_membership::Alive) -> Peer {
    Peer { run: alive.identity.run, address: alive.identity.link.clone() }
}

fn heard(alive: &enfilade_membership::Alive) -> Seen {
    let load = alive.hint.as_ref().map_or(0, |hint| hint.load);
    Seen { run: alive.identity.run, link: alive.identity.link.clone(), load }
}
