//! The ways to the other nodes: one long-lived exchange each, for what the nodes of slots say to each other.
//!
//! A word may be lost, with a link or because too many wait. Copies notice, and say it again.

use crate::wire::{self, Word};
use bytes::Bytes;
use enfilade_mesh::{Exchange, Mesh, Open};
use enfilade_registry::NodeId;
use parking_lot::RwLock;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Words that wait for one node.
const WAITING_MAX: usize = 16 * 1024;
/// Words go together up to this many bytes, and this many of them.
const PAYLOAD_BYTES: usize = 128 * 1024;
const PAYLOAD_WORDS: usize = 1024;

pub(crate) struct Wires {
    /// None in tests, which carry the words themselves.
    mesh: Option<Mesh>,
    tasks: TaskTracker,
    to: RwLock<HashMap<NodeId, mpsc::Sender<Word>>>,
    #[cfg(test)]
    said: parking_lot::Mutex<Vec<(NodeId, Word)>>,
}

impl Wires {
    pub(crate) fn new(mesh: Mesh, tasks: TaskTracker) -> Self {
        Self {
            mesh: Some(mesh),
            tasks,
            to: RwLock::default(),
            #[cfg(test)]
            said: parking_lot::Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        Self { mesh: None, tasks: TaskTracker::new(), to: RwLock::default(), said: parking_lot::Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn drain(&self) -> Vec<(NodeId, Word)> {
        std::mem::take(&mut *self.said.lock())
    }

    /// From now on `nodes` can be spoken to, and no others.
    pub(crate) fn set_nodes(&self, nodes: &[NodeId]) {
        let Some(mesh) = &self.mesh else { return };
        let mut to = self.to.write();
        to.retain(|node, _| nodes.contains(node));
        for node in nodes {
            to.entry(*node).or_insert_with(|| {
                let (sender, words) = mpsc::channel(WAITING_MAX);
                self.tasks.spawn(carry(mesh.clone(), *node, words));
                sender
            });
        }
    }

    /// Says something to a node; it may be lost. Does not block.
    pub(crate) fn say(&self, node: NodeId, word: Word) {
        #[cfg(test)]
        if self.mesh.is_none() {
            let mut said = self.said.lock();
            if said.len() < WAITING_MAX {
                said.push((node, word));
            }
            return;
        }
        if let Some(to) = self.to.read().get(&node) {
            let _ = to.try_send(word); // A full queue is a loss like any other.
        }
    }

    /// Nothing is said to anybody any more.
    pub(crate) fn close(&self) {
        self.to.write().clear();
    }
}

/// Carries words to a node until nobody has any more for it.
async fn carry(mesh: Mesh, node: NodeId, mut words: mpsc::Receiver<Word>) {
    let mut exchange: Option<Exchange> = None;
    while let Some(first) = words.recv().await {
        let payload = gather(first, &mut words);
        if let Some(open) = &mut exchange
            && open.send(payload.clone(), false).await.is_ok()
        {
            continue;
        }
        exchange = begin(&mesh, node, payload).await;
    }
}

async fn begin(mesh: &Mesh, node: NodeId, payload: Bytes) -> Option<Exchange> {
    let open = Open { kind: wire::kind::WORDS, payload, ..Open::default() };
    mesh.open(node, open).await.ok()
}

/// What is ready together.
fn gather(first: Word, words: &mut mpsc::Receiver<Word>) -> Bytes {
    let mut bytes = first.bytes();
    let mut all = vec![first];
    while bytes < PAYLOAD_BYTES && all.len() < PAYLOAD_WORDS {
        let Ok(word) = words.try_recv() else { break };
        bytes += word.bytes();
        all.push(word);
    }
    wire::encode_words(all)
}
