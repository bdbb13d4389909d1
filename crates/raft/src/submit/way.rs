//! What batches of a node need, whatever the node has of the registry: who leads, who waits, what is applied here.

use std::sync::Arc;

use enfilade_registry::{NodeId, Run};
use openraft::errors::RaftError;
use tokio::sync::watch;

use crate::config::Submitting;
use crate::pending::Pending;
use crate::state::Machine;
use crate::status::Status;
use crate::transport::Transport;
use crate::types::{Batch, Proposal, Types};

/// The way of this node's commands into the log.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) run: Run,
    pub(crate) submitting: Submitting,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) pending: Arc<Pending>,
    /// The index applied here; changes after those that wait for it were answered.
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) status: watch::Receiver<Status>,
    /// Where there is a replica: it may lead.
    pub(crate) openraft: Option<openraft::Raft<Types, Machine>>,
}

/// Whom a node believes to lead, and in which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) leader: Option<NodeId>,
    pub(crate) is_me: bool,
    pub(crate) term: u64,
}

impl Lead {
    pub(crate) fn of(status: &Status) -> Lead {
        Lead { leader: status.leader, is_me: status.is_leader, term: status.raft_term }
    }
}

/// What came of one attempt to bring a batch into the log.
pub(crate) enum Attempt {
    /// It is in the log at this index, for good.
    Committed(u64),
    /// It may be in the log or not.
    Again,
    /// This replica has stopped.
    Stopped,
}

impl Way {
    pub(crate) fn lead(&self) -> Lead {
        Lead::of(&self.status.borrow())
    }

    /// Waits until somebody else leads than `seen`, or it is another term.
    pub(crate) async fn lead_changed(&self, seen: Lead) {
        let mut status = self.status.clone();
        if status.wait_for(|status| Lead::of(status) != seen).await.is_err() {
            // This node stops: nobody leads any more, as far as it is concerned.
            std::future::pending::<()>().await;
        }
    }

    /// Puts the batch into the log, if this node leads.
    pub(crate) async fn propose(&self, batch: Arc<Batch>) -> Attempt {
        let Some(openraft) = &self.openraft else { return Attempt::Again };
        match openraft.client_write(Proposal::Batch(batch)).await {
            Ok(written) => Attempt::Committed(written.log_id.index),
            // It does not lead, or has no majority's answer yet, or hands over, or was deposed meanwhile.
            Err(RaftError::APIError(error)) => {
                tracing::debug!(%error, "a batch was not written");
                Attempt::Again
            }
            Err(RaftError::Fatal(_)) => Attempt::Stopped,
        }
    }
}
