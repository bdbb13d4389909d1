//! What the parts of a replica share.

use std::sync::Arc;

use enfilade_registry::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use crate::Config;
use crate::network::Receiver;
use crate::state::{Machine, State};
use crate::status::Status;
use crate::submit::{Lead, Way};
use crate::types::{Cut, Proposal, Types};

/// What the parts of a replica share.
pub(crate) struct Core {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    pub(crate) openraft: openraft::Raft<Types, Machine>,
    pub(crate) state: Arc<State>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) receiver: Receiver,
    /// True once this replica is closed: those who watch it go elsewhere.
    pub(crate) closed: watch::Sender<bool>,
}

impl Core {
    pub(crate) fn lead(&self) -> Lead {
        Lead::of(&self.status.borrow())
    }

    /// The way of this node's commands.
    pub(crate) fn way(&self) -> Way {
        Way {
            run: self.config.run,
            submitting: self.config.submitting,
            transport: self.config.transport.clone(),
            pending: self.state.pending.clone(),
            applied: self.state.watch_index(),
            status: self.status.subscribe(),
            openraft: Some(self.openraft.clone()),
        }
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
            match tokio::time::timeout(self.config.submitting.within, proposed).await {
                Ok(Ok(_)) => {}
                // The next entry finds that a cut is due still.
                Ok(Err(error)) => tracing::debug!(%error, "a cut was not made"),
                Err(_) => tracing::debug!("a cut was not made in time"),
            }
        }
    }
}
