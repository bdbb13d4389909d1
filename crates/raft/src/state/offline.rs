//! A replica's directory without its group: what it holds, and a new one that begins with a given state.
//!
//! Rule: nobody else has the directory meanwhile; the log's lock sees to it. What is read counts every entry of the log,
//! also those of which the replica did not hear whether they were committed: some of them were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use enfilade_journal::Snapshots;
use enfilade_registry::{NodeId, Run, StateMachine};
use openraft::storage::RaftLogStorage as _;
use openraft::{EmptyNode, RaftLogReader as _};

use super::{State, StateError, file};
use crate::OpenError;
use crate::log::{LogOwner, LogStore};
use crate::types::{Content, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

/// Bytes of the log kept in memory while it is read.
const CACHE_BYTES: u64 = 16 << 20;

/// What a replica has on its disk.
#[derive(Debug)]
pub struct Left {
    /// The registry, with every entry of the log applied.
    pub registry: StateMachine,
    /// The index of the last entry. Of a group's replicas the one with the highest term and then index has most.
    pub last_log: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// The highest Raft term that the replica knows of.
    pub raft_term: u64,
    /// Who voted, as far as it knows. While voters changed: those of both configurations.
    pub voters: BTreeSet<NodeId>,
}

/// Reads the replica in `dir`, of a node that does not run.
///
/// # Errors
/// It is in use, or what it holds cannot be understood.
pub async fn read(dir: &Path) -> Result<Left, OpenError> {
    let (mut log, _owner) = open_log(dir).await?;
    let path = dir.join("state");
    // Nothing is written, so whose run it is and when snapshots are due means nothing.
    let opened = tokio::task::spawn_blocking(move || State::open(&path, Run::default(), u64::MAX)).await;
    let state = opened.map_err(failed)?.map_err(unusable)?;
    let last = log.get_log_state().await.map_err(failed)?.last_log_id;
    let vote = log.read_vote().await.map_err(failed)?;
    // The first entry, which founded the group, has index 0.
    let mut next = state.applied.read().last.map_or(0, |last| last.index + 1);
    while last.is_some_and(|last| next <= last.index) {
        let entries = log.limited_get_log_entries(next, u64::MAX).await.map_err(failed)?;
        let read = entries.len() as u64;
        match entries.first() {
            Some(first) if first.log_id.index == next => {}
            _ => return Err(OpenError::Start(format!("entry {next} of the log is missing"))),
        }
        for entry in entries {
            state.apply(entry).map_err(failed)?;
        }
        next += read;
    }
    let applied = state.applied.into_inner();
    let (last_term, last_log) = last.max(applied.last).map_or((0, 0), |last| (last.leader_id.term, last.index));
    let term = last_term.max(vote.map_or(0, |vote| vote.leader_id.term));
    Ok(Left {
        raft_term: term.max(applied.registry.epoch()),
        registry: applied.registry,
        last_log,
        last_term,
        voters: applied.membership.membership().voter_ids().map(NodeId).collect(),
    })
}

/// Makes a replica in `dir`, which must not hold one: `node` alone votes, and it begins with `registry` as if applied at
/// `index` in the Raft term `term`. What is elected there has a higher one.
///
/// # Errors
/// There is one, or it cannot be written.
pub async fn found(dir: &Path, node: NodeId, registry: &StateMachine, term: u64, index: u64) -> Result<(), OpenError> {
    if ["log", "state"].iter().any(|part| dir.join(part).exists()) {
        return Err(OpenError::Start(format!("there is something in {} already", dir.display())));
    }
    let leader_id = LeaderId { term, node_id: node.0 };
    let last = LogId { leader_id, index: index.max(registry.applied()) };
    let nodes = BTreeMap::from([(node.0, EmptyNode::default())]);
    let membership = Membership::new(vec![BTreeSet::from([node.0])], nodes).map_err(failed)?;
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), membership) };
    let content = Content { origins: super::Origins::default(), registry: registry.snapshot().into() };
    let path = dir.join("state");
    let written = tokio::task::spawn_blocking(move || {
        let snapshots = Snapshots::open(&path)?;
        file::write(&snapshots, &meta, &content)
    });
    written.await.map_err(failed)?.map_err(unusable)?;
    let (mut log, _owner) = open_log(dir).await?;
    log.save_vote(&Vote { leader_id, committed: false }).await.map_err(failed)
}

async fn open_log(dir: &Path) -> Result<(LogStore, LogOwner), OpenError> {
    let path = dir.join("log");
    Ok(tokio::task::spawn_blocking(move || LogStore::open(&path, CACHE_BYTES)).await.map_err(failed)??)
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Start(error.to_string())
}

fn unusable(error: StateError) -> OpenError {
    OpenError::Snapshot(error.to_string())
}
