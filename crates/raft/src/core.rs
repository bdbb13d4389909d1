//! What the parts of a replica share.

use std::sync::Arc;

use enfilade_registry::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use crate::Config;
use crate::network::Receiver;
use crate::state::{Machine, State};
use crate::status::Status;
use crate::types::{Cut, Proposal, Types};

/// What the parts of a replica share.
pub(crate) struct Core {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    pub(crate) openraft: openraft::Raft<Types, Machine>,
    pub(crate) state: Arc<State>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) receiver: Receiver,
}

/// Whom a node believes to lead, and in which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) leader: Option<NodeId>,
    pub(crate) is_me: bool,
    pub(crate) term: u64,
}

impl Core {
    pub(crate) fn lead(&self) -> Lead {
        let status = self.status.borrow();
        Lead { leader: status.leader, is_me: status.is_leader, term: status.raft_term }
    }

    /// Waits until somebody else leads than `seen`, or it is another term.
    pub(crate) async fn lead_changed(&self, seen: Lead) {
        let mut status = self.status.subscribe();
        let differs = |status: &Status| {
            (status.leader, status.is_leader, status.raft_term) != (seen.leader, seen.is_me, seen.term)
        };
        // The sender is in this core: it outlives the wait.
        let _ = status.wait_for(differs).await;
    }

    /// Keeps the status up to date, until openraft ends.
    pub(crate) async fn watch_metrics(self: Arc<Core>) {
        let mut metrics = self.openraft.metrics();
        loop {
            let status = Status::from_metrics(&metrics.borrow_and_update());
            let failed = status.failed.is_some();
            self.status.send_if_modified(|now| {
                let differs = *now != status;
                *now = status;
                differs
            });
            if failed || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Proposes cuts when they are due, and has snapshots taken where they were made.
    pub(crate) async fn take_snapshots(self: Arc<Core>) {
        loop {
            self.state.cuts.changed().await;
            if self.state.cuts.is_taken() && self.openraft.trigger().snapshot().await.is_err() {
                return;
            }
            if !self.state.cuts.is_due() || !self.lead().is_me {
                continue;
            }
            let cut = Proposal::Cut(Cut { previous: self.state.cuts.newest() });
            let proposed = self.openraft.client_write(cut);
            match tokio::time::timeout(self.config.submit_within, proposed).await {
                Ok(Ok(_)) => {}
                // The next entry finds that a cut is due still.
                Ok(Err(error)) => tracing::debug!(%error, "a cut was not made"),
                Err(_) => tracing::debug!("a cut was not made in time"),
            }
        }
    }
}
