//! How a node without a registry finds or founds one: what [`settle`](super::settle) decides, carried out over links.
//! Everything here bears being repeated, and is, until the node belongs to a cluster.

use super::settle::{Me, Step, agrees, next};
use anyhow::Context;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use enfilade_cluster::Switchboard;
use enfilade_membership::Roster;
use enfilade_mesh::{CallError, CallKind, Mesh};
use enfilade_raft::{ControlError, Share};
use enfilade_registry::{COMMAND_FORMAT, ClusterId, Command, NodeId, Run};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Asks a voter whether it agrees to found a cluster with these nodes.
const AGREE: CallKind = CallKind(1000);
/// Asks a member of a cluster to be taken in.
const JOIN: CallKind = CallKind(1001);
/// Asks a member whether the asking node was removed.
const REMOVED: CallKind = CallKind(1002);

/// What its operator is told.
pub(super) const REMOVED_TEXT: &str =
    "this node was removed from the cluster for ever: start with an empty data directory to join as a new node";

/// For one call, and between two attempts.
const CALL: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);

/// Between two rounds of questions whether a node was removed.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A wait that lasts longer is told.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// What is said to a node that wants to be taken in.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Welcome,
    /// Only the leader can; he may be known.
    Ask(Option<NodeId>),
    /// The id was removed for ever.
    Removed,
}

/// What a node needs to come to a registry, and to help others to it.
pub(super) struct Entry {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) voters: Vec<String>,
    pub(super) mesh: Mesh,
    pub(super) share: Share,
    pub(super) roster: watch::Receiver<Arc<Roster>>,
}

impl Entry {
    /// Begins to answer other nodes.
    pub(super) fn serve(self: &Arc<Self>, switchboard: &Switchboard) {
        let own = Arc::clone(self);
        switchboard.on_call(
            AGREE,
            Arc::new(move |_, body| {
                let own = Arc::clone(&own);
                Box::pin(async move { own.agree(body) })
            }),
        );
        let own = Arc::clone(self);
        switchboard.on_call(
            JOIN,
            Arc::new(move |from, _| {
                let own = Arc::clone(&own);
                Box::pin(async move { own.admit(from).await })
            }),
        );
        let own = Arc::clone(self);
        switchboard.on_call(
            REMOVED,
            Arc::new(move |from, _| {
                let removed = own.share.registry().members().is_removed(from.node);
                Box::pin(async move { Ok(Bytes::from_static(if removed { &[1] } else { &[0] })) })
            }),
        );
    }

    /// Resolves when another node says that this one was removed. It cannot know by itself: nobody gives it the log, and
    /// the leader that it last heard of may still be named in its vote.
    pub(super) async fn removed(&self) {
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            for node in self.mesh.connected() {
                match self.mesh.call(node, REMOVED, Bytes::new(), CALL).await {
                    Ok(answer) if answer[..] == [1] => return,
                    _ => {}
                }
            }
        }
    }

    fn me(&self) -> Me<'_> {
        Me { node: self.node, name: &self.name, voters: &self.voters }
    }

    fn is_empty(&self) -> bool {
        !self.share.registry().status().borrow().is_initialised
    }

    /// Waits until this node belongs to a cluster, and does what it can for it.
    ///
    /// # Errors
    /// It was removed for ever, or its registry cannot be written.
    pub(super) async fn settle(&self) -> anyhow::Result<ClusterId> {
        let (mut roster, mut links, mut status) =
            (self.roster.clone(), self.mesh.watch(), self.share.registry().status());
        let (mut waiting, mut leader) = (Waiting::default(), None);
        while self.is_empty() {
            let step = next(self.me(), &roster.borrow_and_update(), &links.borrow_and_update());
            match step {
                Step::Wait(reason) => waiting.on(&reason),
                Step::Propose(nodes) => self.propose(nodes).await?,
                // Who holds no replica has nothing to be given: it watches one as soon as it sees it.
                Step::Join(_) if self.share.raft().is_none() => waiting.on("for a node with the registry"),
                Step::Join(host) => leader = self.join(leader.unwrap_or(host)).await?,
            }
            tokio::select! {
                changed = roster.changed() => changed.context("gossip has stopped")?,
                _ = links.changed() => {}
                _ = status.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        self.founded(&mut waiting).await
    }

    /// Waits until the registry knows the cluster; its first leader gives it its id.
    async fn founded(&self, waiting: &mut Waiting) -> anyhow::Result<ClusterId> {
        let registry = self.share.registry();
        let mut status = registry.status();
        loop {
            if let Some(cluster) = registry.cluster() {
                return Ok(cluster);
            }
            if status.borrow_and_update().is_leader {
                // Nobody is a member yet whom a newer format would shut out.
                let version = u32::from(COMMAND_FORMAT);
                if let Err(error) = registry.submit(Command::Finalise { version }).await {
                    tracing::debug!(%error, "the new cluster begins with the first format");
                }
                let cluster = ClusterId(fresh_id()?);
                // Another leader may have been first; then its id counts.
                if let Err(error) = registry.submit(Command::Found { cluster }).await {
                    tracing::debug!(%error, "the cluster was not founded by this node");
                }
            }
            waiting.on("for a leader of the registry");
            // What is applied shows in the status as well.
            let _ = tokio::time::timeout(AGAIN, status.changed()).await;
        }
    }

    /// Founds the registry if all others agree.
    async fn propose(&self, nodes: Vec<NodeId>) -> anyhow::Result<()> {
        // A node that votes has a replica; the configuration is checked for that.
        let Some(raft) = self.share.raft() else { return Ok(()) };
        let mut body = BytesMut::new();
        nodes.iter().for_each(|node| body.put_u64(node.0));
        let body = body.freeze();
        let others = nodes.iter().filter(|node| **node != self.node);
        let asked = others.map(|node| self.mesh.call(*node, AGREE, body.clone(), CALL));
        let answers = futures::future::join_all(asked).await;
        if answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer[..] == [1])) {
            tracing::info!(voters = nodes.len(), "founds the cluster");
            match raft.bootstrap(nodes).await {
                // Its status says so a moment later.
                Ok(()) | Err(ControlError::Exists) => {}
                Err(error) => return Err(error).context("the registry cannot be founded"),
            }
        }
        Ok(())
    }

    fn agree(&self, mut body: Bytes) -> Result<Bytes, CallError> {
        let mut nodes = Vec::new();
        while let Ok(node) = body.try_get_u64() {
            nodes.push(NodeId(node));
        }
        let yes = self.is_empty() && agrees(self.me(), &self.roster.borrow(), &self.mesh.connected(), &nodes);
        Ok(Bytes::from_static(if yes { &[1] } else { &[0] }))
    }

    /// Asks to be taken in; gives whom to ask next.
    async fn join(&self, host: NodeId) -> anyhow::Result<Option<NodeId>> {
        let answer = match self.mesh.call(host, JOIN, Bytes::new(), CALL).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(node = %host, %error, "not taken in");
                return Ok(None);
            }
        };
        match Admission::decode(answer) {
            Some(Admission::Welcome) => {
                tracing::info!(by = %host, "taken in");
                Ok(Some(host))
            }
            Some(Admission::Ask(leader)) => Ok(leader),
            Some(Admission::Removed) => {
                anyhow::bail!(REMOVED_TEXT)
            }
            None => Ok(None),
        }
    }

    async fn admit(&self, from: Run) -> Result<Bytes, CallError> {
        let registry = self.share.registry();
        let (is_leader, leader) = {
            let status = registry.status();
            let status = status.borrow();
            (status.is_leader, status.leader)
        };
        let admission = if registry.members().is_removed(from.node) {
            Admission::Removed
        } else if let (true, Some(raft)) = (is_leader, self.share.raft()) {
            raft.add_learner(from.node).await.map_err(|error| {
                tracing::warn!(node = %from, %error, "cannot be taken in now");
                CallError::Unavailable
            })?;
            tracing::info!(node = %from, "a node joins");
            Admission::Welcome
        } else {
            Admission::Ask(leader)
        };
        Ok(admission.encode())
    }
}

impl Admission {
    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::Welcome => bytes.put_u8(0),
            Self::Ask(leader) => {
                bytes.put_u8(1);
                bytes.put_u64(leader.map_or(0, |leader| leader.0));
            }
            Self::Removed => bytes.put_u8(2),
        }
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            0 => Some(Self::Welcome),
            1 => Some(Self::Ask(Some(bytes.try_get_u64().ok()?).filter(|leader| *leader != 0).map(NodeId))),
            2 => Some(Self::Removed),
            _ => None,
        }
    }
}

fn fresh_id() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(u128::from_ne_bytes(bytes))
}

/// Tells what is waited for when it takes long, and again when it is something else.
#[derive(Default)]
struct Waiting {
    since: Option<Instant>,
    told: String,
}

impl Waiting {
    fn on(&mut self, reason: &str) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= TELL_AFTER && self.told != reason {
            tracing::info!("waits {reason}");
            reason.clone_into(&mut self.told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admissions_keep_their_bytes() {
        let table = [
            (Admission::Welcome, &[0][..]),
            (Admission::Ask(None), &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Admission::Ask(Some(NodeId(7))), &[1, 0, 0, 0, 0, 0, 0, 0, 7]),
            (Admission::Removed, &[2]),
        ];
        for (admission, bytes) in table {
            assert_eq!(admission.encode(), bytes);
            assert_eq!(Admission::decode(Bytes::copy_from_slice(bytes)), Some(admission));
        }
        for bad in [&[][..], &[3], &[1, 2]] {
            assert_eq!(Admission::decode(Bytes::copy_from_slice(bad)), None, "{bad:?}");
        }
    }
}
