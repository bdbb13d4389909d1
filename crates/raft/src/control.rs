//! Changing the group: who founds it, who votes, who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use enfilade_registry::NodeId;
use openraft::errors::{InitializeError, LinearizableReadError, RaftError};
use openraft::{EmptyNode, LinearizerOption};
use tokio::time::timeout;

use crate::core::Core;
use crate::{ControlError, NoQuorum, Status};

impl Core {
    pub(crate) async fn bootstrap(&self, voters: BTreeSet<NodeId>) -> Result<(), ControlError> {
        let voters: BTreeMap<u64, EmptyNode> = voters.into_iter().map(|node| (node.0, EmptyNode::default())).collect();
        self.openraft.initialize(voters).await.map_err(|error| match error {
            RaftError::Fatal(_) => ControlError::Stopped,
            RaftError::APIError(InitializeError::NotAllowed(_)) => ControlError::Exists,
            RaftError::APIError(error) => ControlError::Refused(error.to_string()),
        })
    }

    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), ControlError> {
        self.openraft.add_learner(node.0, EmptyNode::default(), false).await?;
        Ok(())
    }

    pub(crate) async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), ControlError> {
        let voters: BTreeSet<u64> = voters.into_iter().map(|node| node.0).collect();
        self.openraft.change_membership(voters, false).await?;
        Ok(())
    }

    pub(crate) async fn remove_learner(&self, node: NodeId) -> Result<(), ControlError> {
        let change = openraft::ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        self.openraft.change_membership(change, false).await?;
        Ok(())
    }

    pub(crate) async fn transfer_leader(&self, to: NodeId, within: Duration) -> Result<(), ControlError> {
        let lead = self.lead();
        if !lead.is_me {
            return Err(ControlError::NotLeader { leader: lead.leader });
        }
        if to == self.me {
            return Ok(());
        }
        if !self.status.borrow().voters.contains(&to) {
            return Err(ControlError::Refused(format!("node {to} does not vote")));
        }
        self.openraft.trigger().transfer_leader(to.0).await?;
        let mut status = self.status.subscribe();
        let led = status.wait_for(|status| status.leader.is_some_and(|leader| leader != self.me) || failed(status));
        match timeout(within, led).await {
            Ok(Ok(status)) if failed(&status) => Err(ControlError::Stopped),
            Ok(Ok(status)) if status.leader == Some(to) => Ok(()),
            Ok(Ok(status)) => Err(ControlError::NotLeader { leader: status.leader }),
            Ok(Err(_)) => Err(ControlError::Stopped),
            Err(_) => Err(ControlError::Late),
        }
    }

    /// Hands leadership to the voter that has most of the log.
    pub(crate) async fn step_down(&self, within: Duration) -> Result<(), ControlError> {
        let best = {
            let status = self.status.borrow();
            let others = status.matched.iter().filter(|(node, _)| **node != self.me && status.voters.contains(node));
            others.max_by_key(|(_, matched)| **matched).map(|(node, _)| *node)
        };
        match best {
            Some(to) => self.transfer_leader(to, within).await,
            None if self.lead().is_me => Err(ControlError::Refused("there is no other voter".to_owned())),
            None => Err(ControlError::NotLeader { leader: self.lead().leader }),
        }
    }

    pub(crate) async fn read_index(&self, within: Duration) -> Result<u64, NoQuorum> {
        // An age of zero: only answers to a round that begins now count. A lease would not do.
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(within);
        let round = async {
            let read = self.openraft.get_read_linearizer(option).await.map_err(|error| match error {
                RaftError::Fatal(_) => NoQuorum::Stopped,
                RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => {
                    NoQuorum::NotLeader { leader: to.leader_id.map(NodeId) }
                }
                RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => NoQuorum::Late,
            })?;
            let applied = read.try_await_ready(&self.openraft, Some(within)).await;
            match applied.map_err(|_| NoQuorum::Stopped)? {
                Ok(_) => Ok(self.state.index()),
                Err(_) => Err(NoQuorum::Late),
            }
        };
        timeout(within, round).await.unwrap_or(Err(NoQuorum::Late))
    }
}

fn failed(status: &Status) -> bool {
    status.failed.is_some()
}
