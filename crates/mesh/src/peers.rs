//! The other nodes that are known, the links to them, and which of them can relay to which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use enfilade_registry::{ClusterId, NodeId, Run};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Peer;
use crate::calls::Line;
use crate::link::Link;

/// A link and the cluster that the node at its other end belonged to when it was made.
#[derive(Clone)]
pub(crate) struct Linked {
    pub(crate) link: Arc<Link>,
    pub(crate) cluster: Option<ClusterId>,
}

/// One other node.
pub(crate) struct Known {
    pub(crate) target: watch::Sender<Peer>,
    /// Raised when the node is heard of by other ways: a pause before the next attempt is cut short.
    pub(crate) heard: tokio::sync::Notify,
    /// Ends the task that keeps the link.
    pub(crate) stop: CancellationToken,
    pub(crate) calls: Line,
    link: Mutex<Option<Linked>>,
}

pub(crate) struct Peers {
    known: RwLock<BTreeMap<NodeId, Arc<Known>>>,
    connected: watch::Sender<Vec<NodeId>>,
    /// Spreads relayed exchanges.
    turn: AtomicUsize,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { known: RwLock::default(), connected: watch::Sender::new(Vec::new()), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<NodeId>> {
        self.connected.subscribe()
    }

    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.connected.borrow().clone()
    }

    /// Takes the list of nodes; returns those that are new, and need a task that keeps their link.
    pub(crate) fn set(&self, me: NodeId, peers: Vec<Peer>, stop: &CancellationToken) -> Vec<Arc<Known>> {
        let wanted: BTreeMap<NodeId, Peer> =
            peers.into_iter().filter(|peer| peer.run.node != me).map(|peer| (peer.run.node, peer)).collect();
        let mut known = self.known.write();
        known.retain(|node, entry| {
            let stays = wanted.contains_key(node);
            if !stays {
                entry.stop.cancel();
            }
            stays
        });
        let mut added = Vec::new();
        for (node, peer) in wanted {
            match known.get(&node) {
                Some(entry) => entry.retarget(peer),
                None => {
                    let entry = Arc::new(Known::new(peer, stop.child_token()));
                    known.insert(node, Arc::clone(&entry));
                    added.push(entry);
                }
            }
        }
        added
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Known>> {
        self.known.read().get(&node).cloned()
    }

    /// The link to a node, when there is one.
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.known.read().get(&node)?.link()
    }

    /// A link to a node that says it has a link to `node`, in turn.
    pub(crate) fn relay(&self, node: NodeId) -> Option<Arc<Link>> {
        let mut relays: Vec<Arc<Link>> = self.links();
        relays.retain(|link| link.peer.node != node && link.reaches(node));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (!relays.is_empty()).then(|| relays.swap_remove(turn % relays.len()))
    }

    /// The run of a node that is known of, whether it can be reached or not.
    pub(crate) fn run(&self, node: NodeId) -> Option<Run> {
        let known = self.get(node)?;
        let run = known.target.borrow().run;
        Some(run)
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.known.read().values().filter_map(|known| known.link()).collect()
    }

    /// The known nodes without a link.
    pub(crate) fn unreachable(&self) -> Vec<NodeId> {
        self.known.read().iter().filter(|(_, known)| known.link.lock().is_none()).map(|(node, _)| *node).collect()
    }

    /// Enters a new link, or that there is none any more; tells those who watch.
    pub(crate) fn linked(&self, known: &Known, link: Option<Linked>) {
        *known.link.lock() = link;
        // Read and published under the watch's lock, so that of two changes the later is not overwritten.
        self.connected.send_if_modified(|connected| {
            let links = self.links();
            let now: Vec<NodeId> = links.iter().map(|link| link.peer.node).collect();
            let changed = *connected != now;
            *connected = now;
            changed
        });
    }

    /// A node greeted this one: if its link here belongs to an earlier run, that link is dead.
    pub(crate) fn heard(&self, run: Run) {
        let Some(known) = self.get(run.node) else { return };
        match known.link() {
            Some(link) if link.peer.generation < run.generation => link.close(),
            Some(_) => {}
            None => known.heard.notify_one(),
        }
    }

    /// Closes the links to nodes of another cluster.
    pub(crate) fn belong_to(&self, cluster: ClusterId) {
        for known in self.known.read().values() {
            let strange =
                known.link.lock().clone().filter(|linked| linked.cluster.is_some_and(|theirs| theirs != cluster));
            if let Some(linked) = strange {
                linked.link.close();
            }
        }
    }
}

impl Known {
    fn new(peer: Peer, stop: CancellationToken) -> Self {
        Self {
            target: watch::Sender::new(peer),
            heard: tokio::sync::Notify::new(),
            stop,
            calls: Line::default(),
            link: Mutex::new(None),
        }
    }

    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().as_ref().map(|linked| Arc::clone(&linked.link))
    }

    /// Takes what is newly known; a run that was superseded is not gone back to.
    fn retarget(&self, peer: Peer) {
        self.target.send_if_modified(|target| {
            let news = *target != peer && peer.run.generation >= target.run.generation;
            if news {
                *target = peer;
            }
            news
        });
    }
}
