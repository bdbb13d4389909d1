//! Whom this node knows: the members of the registry, and whom gossip sees. Links and loads follow.

use crate::map::{Loads, Map};
use enfilade_mesh::{Mesh, Peer};
use enfilade_registry::Run;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node as gossip sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its run.
    pub run: Run,
    /// `host:port` of its links.
    pub link: String,
    /// How much it has to do.
    pub load: u32,
}

/// Merges what is known of nodes.
pub(crate) struct Roster {
    mesh: Mesh,
    loads: Arc<Loads>,
    seen: Mutex<Vec<Seen>>,
}

impl Roster {
    pub(crate) fn new(mesh: Mesh, loads: Arc<Loads>) -> Self {
        Self { mesh, loads, seen: Mutex::default() }
    }

    /// Gossip changed.
    pub(crate) fn see(&self, seen: Vec<Seen>, map: &Map) {
        self.loads.set(seen.iter().map(|node| (node.run.node, node.load)).collect());
        *self.seen.lock() = seen;
        self.link(map);
    }

    /// Keeps links to all that are known: of two runs of a node to the later, of two addresses to what gossip says.
    pub(crate) fn link(&self, map: &Map) {
        let mut peers: BTreeMap<_, Peer> = BTreeMap::new();
        for (node, member) in map.members.iter() {
            let run = Run { node, generation: member.generation };
            peers.insert(node, Peer { run, address: member.link.to_string() });
        }
        for seen in self.seen.lock().iter().filter(|seen| !map.members.is_removed(seen.run.node)) {
            let newer = peers.get(&seen.run.node).is_none_or(|known| known.run.generation <= seen.run.generation);
            if newer {
                peers.insert(seen.run.node, Peer { run: seen.run, address: seen.link.clone() });
            }
        }
        self.mesh.set_peers(peers.into_values().collect());
    }
}
