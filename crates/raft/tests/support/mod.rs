//! A group of replicas in one process, over a network that can be cut.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use enfilade_raft::{Config, OpenError, Raft, RaftCall, Status, Transport, Unreachable};
use enfilade_registry::{
    BoxFuture, Command, Generation, NewSession, NodeId, Outcome, Reader as _, Run, SessionId, SessionKeys, Slot,
    WriteError, Writer as _,
};
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;
use tokio::time::timeout;

/// The most that any condition is waited for. Far more than it takes: the machine may be busy.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// Nodes that reach each other, but where they are cut.
#[derive(Default)]
pub(crate) struct Net {
    nodes: Mutex<HashMap<NodeId, Weak<Raft>>>,
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
}

impl Net {
    /// Nothing that `from` sends reaches `to` any more. Neither hears of it.
    pub(crate) fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.cut.lock().insert((from, to));
    }

    /// Nothing passes between `node` and any other.
    pub(crate) fn isolate(&self, node: NodeId) {
        let others: Vec<NodeId> = self.nodes.lock().keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.cut_one_way(node, other);
            self.cut_one_way(other, node);
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.cut.lock().clear();
    }

    /// The replica of a node that runs.
    pub(crate) fn replica(&self, node: NodeId) -> Option<Arc<Raft>> {
        self.nodes.lock().get(&node).and_then(Weak::upgrade)
    }

    /// Resolves if something passes now.
    pub(crate) async fn pass(&self, from: NodeId, to: NodeId) {
        if self.cut.lock().contains(&(from, to)) {
            pending::<()>().await;
        }
    }
}

/// One node's view of the network.
pub(crate) struct Link {
    pub(crate) net: Arc<Net>,
    pub(crate) me: NodeId,
}

impl Transport for Link {
    fn call(
        &self,
        to: NodeId,
        kind: RaftCall,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unreachable>> {
        let unreachable = move |why: &str| Unreachable { to, why: why.to_owned() };
        Box::pin(async move {
            let call = async {
                self.net.pass(self.me, to).await;
                let node = self.net.nodes.lock().get(&to).and_then(Weak::upgrade).ok_or(unreachable("down"))?;
                let me = self.me;
                // As on a network, the callee goes on when the caller no longer waits.
                let served = tokio::spawn(async move { node.serve(kind, me, body).await });
                let answer = served.await.map_err(|_| unreachable("panicked"))?;
                self.net.pass(to, self.me).await;
                answer.map_err(|error| unreachable(&error.to_string()))
            };
            timeout(within, call).await.unwrap_or(Err(unreachable("late")))
        })
    }
}

/// A disk that can be made to stand still.
#[derive(Default)]
pub(crate) struct Disk {
    still: Mutex<bool>,
    moved: Condvar,
}

impl Disk {
    /// From now on writes wait, or none does any more.
    pub(crate) fn stand_still(&self, still: bool) {
        *self.still.lock() = still;
        self.moved.notify_all();
    }

    fn before_write(&self) {
        // A test that failed must end all the same.
        self.moved.wait_while_for(&mut self.still.lock(), |still| *still, WITHIN);
    }
}

/// Replicas with their directories.
pub(crate) struct Group {
    pub(crate) net: Arc<Net>,
    pub(crate) configure: fn(&mut Config),
    dirs: BTreeMap<NodeId, TempDir>,
    generations: BTreeMap<NodeId, u64>,
    nodes: BTreeMap<NodeId, Arc<Raft>>,
    disks: BTreeMap<NodeId, Arc<Disk>>,
}

impl Group {
    /// Nodes 1 to `count`, without a group.
    pub(crate) async fn new(count: u64, configure: fn(&mut Config)) -> Group {
        let mut group = Group {
            net: Arc::default(),
            configure,
            dirs: BTreeMap::new(),
            generations: BTreeMap::new(),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
        };
        for node in 1..=count {
            group.start(node).await;
        }
        group
    }

    /// Nodes 1 to `count`, all voters, with a leader that all of them know.
    pub(crate) async fn founded(count: u64, configure: fn(&mut Config)) -> Group {
        let group = Group::new(count, configure).await;
        group.node(1).bootstrap((1..=count).map(NodeId)).await.expect("an empty group");
        group.leader().await;
        group
    }

    /// Starts a node, in its old directory if it had one.
    pub(crate) async fn start(&mut self, node: u64) -> Arc<Raft> {
        self.try_start(node).await.expect("a replica")
    }

    pub(crate) async fn try_start(&mut self, node: u64) -> Result<Arc<Raft>, OpenError> {
        let id = NodeId(node);
        let dir = self.dirs.entry(id).or_insert_with(|| tempfile::tempdir().expect("a directory"));
        let generation = self.generations.entry(id).or_default();
        *generation += 1;
        let run = Run { node: id, generation: Generation(*generation) };
        let mut config = Config::new(dir.path(), run, Arc::new(Link { net: self.net.clone(), me: id }));
        let disk = self.disks.entry(id).or_default().clone();
        config.before_write = Some(Arc::new(move || disk.before_write()));
        (self.configure)(&mut config);
        let raft = Arc::new(Raft::open(config).await?);
        self.net.nodes.lock().insert(id, Arc::downgrade(&raft));
        self.nodes.insert(id, raft.clone());
        Ok(raft)
    }

    /// The directory of a node, which may be new.
    pub(crate) fn dir(&mut self, node: NodeId) -> std::path::PathBuf {
        self.dirs.entry(node).or_insert_with(|| tempfile::tempdir().expect("a directory")).path().to_owned()
    }

    /// Stops a node. Its directory stays.
    pub(crate) async fn stop(&mut self, node: NodeId) {
        self.net.nodes.lock().remove(&node);
        let raft = self.nodes.remove(&node).expect("a node that runs");
        raft.close().await;
    }

    /// Lets go of a node without a word. Nobody else may have it.
    pub(crate) fn abandon(&mut self, node: NodeId) {
        self.net.nodes.lock().remove(&node);
        let raft = self.nodes.remove(&node).expect("a node that runs");
        drop(Arc::into_inner(raft).expect("the last one"));
    }

    pub(crate) fn node(&self, node: u64) -> Arc<Raft> {
        self.nodes[&NodeId(node)].clone()
    }

    pub(crate) fn disk(&self, node: NodeId) -> &Disk {
        &self.disks[&node]
    }

    /// The disks of all nodes stand still, or move again.
    pub(crate) fn stand_still(&self, still: bool) {
        self.disks.values().for_each(|disk| disk.stand_still(still));
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The node that all running ones hold for the leader, as soon as they do.
    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_among(&self.running()).await
    }

    /// The node among these that all of these hold for the leader, as soon as they do.
    pub(crate) async fn leader_among(&self, nodes: &[NodeId]) -> NodeId {
        let known = async {
            loop {
                let is_among = |leader: &NodeId| nodes.contains(leader);
                let first =
                    wait_for(&self.node(nodes[0].0), |status| status.leader.as_ref().is_some_and(is_among)).await;
                let leader = first.leader.expect("waited for");
                let agreed = async {
                    for node in nodes {
                        wait_for(&self.node(node.0), |status| status.leader == Some(leader)).await;
                    }
                    wait_for(&self.node(leader.0), |status| status.is_leader).await;
                };
                // Another one may have been elected meanwhile: then this never comes true.
                if timeout(Duration::from_secs(2), agreed).await.is_ok() {
                    return leader;
                }
            }
        };
        timeout(WITHIN, known).await.expect("a leader that all know")
    }

    /// A running node that is not the leader.
    pub(crate) async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        self.running().into_iter().find(|node| *node != leader).expect("another node")
    }

    /// Waits until every running node has applied what the furthest one has, and their states are equal.
    pub(crate) async fn agrees(&self) {
        let furthest = self.nodes.values().map(|raft| raft.index()).max().expect("a node");
        let mut digests = BTreeSet::new();
        for raft in self.nodes.values() {
            applied(raft, furthest).await;
            digests.insert(raft.read(|state| state.digest()));
        }
        assert_eq!(digests.len(), 1, "all states are equal");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stand_still(false);
    }
}

/// Waits for a status.
pub(crate) async fn wait_for(raft: &Raft, is: impl FnMut(&Status) -> bool) -> Status {
    let mut status = raft.status();
    let found = timeout(WITHIN, status.wait_for(is)).await;
    match found {
        Ok(found) => found.expect("a replica that runs").clone(),
        Err(_) => panic!("it did not come to pass: {:?}", *raft.status().borrow()),
    }
}

/// Waits until the node has applied the index.
pub(crate) async fn applied(raft: &Raft, index: u64) {
    let mut applied = raft.applied();
    timeout(WITHIN, applied.wait_for(|applied| *applied >= index)).await.expect("in time").expect("it runs");
}

pub(crate) fn session(n: u128) -> NewSession {
    let keys = SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough");
    NewSession {
        id: keys.mint(Slot::new((n % 4096) as u16).expect("in range"), n.to_be_bytes()),
        principal: format!("principal-{n}").into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: r#"{"name":"client","version":"1.0.0"}"#.into(),
        capabilities: r#"{"roots":{"listChanged":true},"sampling":{}}"#.into(),
        log_level: None,
    }
}

/// Creates session `n` at this node.
pub(crate) async fn create(raft: &Raft, n: u128) -> Result<SessionId, WriteError> {
    let new = session(n);
    let id = new.id;
    match raft.submit(Command::CreateSession(new)).await? {
        Outcome::Created(record) => assert_eq!(record.id, id),
        other => panic!("created, and not {other:?}"),
    }
    assert!(raft.session(&id).is_some(), "applied where it was submitted");
    Ok(id)
}

/// Creates sessions at this node, many at a time.
pub(crate) async fn create_all(raft: &Arc<Raft>, range: std::ops::Range<u128>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in range {
        let raft = raft.clone();
        tasks.spawn(async move { create(&raft, n).await.expect("created") });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

/// Sends one command's bytes to a node as another node would: batch `seq` of a run of its own.
pub(crate) async fn submit_raw(
    raft: &Raft,
    seq: u64,
    command: &[u8],
) -> Result<enfilade_proto::raft::submit_response::Result, enfilade_raft::ServeError> {
    use enfilade_proto::raft as pb;
    use prost::Message as _;
    let origin = Some(pb::Run { node: 99, generation: 1 });
    let batch = pb::Batch { origin, seq, commands: vec![Bytes::copy_from_slice(command)] };
    let asked = pb::SubmitRequest { batch: Some(batch) };
    let answer = raft.serve(RaftCall::Submit, NodeId(99), asked.encode_to_vec().into()).await?;
    Ok(pb::SubmitResponse::decode(answer).expect("an answer").result())
}
