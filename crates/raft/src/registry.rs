//! What a node has of the registry: a whole replica, or the part that it watches.

use std::sync::Arc;

use enfilade_registry::{Configuration, OnEnded, Reader, Writer};
use tokio::sync::watch;

use crate::{Raft, Status, Watcher};

/// The registry as a node has it.
pub trait Registry: Reader + Writer {
    /// What this node knows of the Raft group, and every change of it.
    fn status(&self) -> watch::Receiver<Status>;

    /// The index up to which this node has applied, and every change of it.
    fn applied(&self) -> watch::Receiver<u64>;

    /// Who hears of sessions that end. Called where changes are applied: it must not block.
    fn on_ended(&self, hear: OnEnded);

    /// The cluster's configuration. Cheap: a reference to what all readers share.
    fn configuration(&self) -> Arc<Configuration>;
}

/// A node's share of the registry. Cheap to clone.
#[derive(Clone)]
pub enum Share {
    /// A replica: all of it.
    Replica(Arc<Raft>),
    /// What concerns the node.
    Watched(Arc<Watcher>),
}

impl Share {
    /// To read and to write.
    pub fn registry(&self) -> Arc<dyn Registry> {
        match self {
            Share::Replica(raft) => raft.clone(),
            Share::Watched(watcher) => watcher.clone(),
        }
    }

    /// The replica, where there is one.
    pub fn raft(&self) -> Option<&Arc<Raft>> {
        match self {
            Share::Replica(raft) => Some(raft),
            Share::Watched(_) => None,
        }
    }

    /// Stops it. Nothing acknowledged is lost.
    pub async fn close(&self) {
        match self {
            Share::Replica(raft) => raft.close().await,
            Share::Watched(watcher) => watcher.close().await,
        }
    }
}

impl Registry for Raft {
    fn status(&self) -> watch::Receiver<Status> {
        Raft::status(self)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        Raft::applied(self)
    }

    fn on_ended(&self, hear: OnEnded) {
        Raft::on_ended(self, hear);
    }

    fn configuration(&self) -> Arc<Configuration> {
        self.read(|state| state.configuration().clone())
    }
}

impl Registry for Watcher {
    fn status(&self) -> watch::Receiver<Status> {
        Watcher::status(self)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        Watcher::applied(self)
    }

    fn on_ended(&self, hear: OnEnded) {
        Watcher::on_ended(self, hear);
    }

    fn configuration(&self) -> Arc<Configuration> {
        self.read(|watched| watched.state().configuration().clone())
    }
}
