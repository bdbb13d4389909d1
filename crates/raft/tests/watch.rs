//! Nodes without a replica: what they see, and that they lose nothing when the replica they watch is lost.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use enfilade_raft::{Parts, Raft, RaftCall, Transport, Unreachable, WatchTransport, Watcher, WatcherConfig};
use enfilade_registry::{
    BoxFuture, Command, EndReason, Generation, NodeId, Outcome, Reader, Refusal, Roles, Run, SessionId, WriteError,
    Writer,
};
use futures::StreamExt as _;
use parking_lot::Mutex;
use support::{Group, Link, Net, WITHIN, applied, session};
use tokio::sync::watch;
use tokio::time::timeout;

/// Calls as replicas do, and watches.
struct Wires {
    link: Link,
    /// Whom it watches now.
    watched: Mutex<Option<NodeId>>,
}

impl Transport for Wires {
    fn call(
        &self,
        to: NodeId,
        kind: RaftCall,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unreachable>> {
        self.link.call(to, kind, body, within)
    }
}

impl WatchTransport for Wires {
    fn watch(&self, to: NodeId, asked: Bytes) -> BoxFuture<'_, Result<Parts, Unreachable>> {
        let (net, me): (Arc<Net>, NodeId) = (self.link.net.clone(), self.link.me);
        Box::pin(async move {
            net.pass(me, to).await;
            let down = || Unreachable { to, why: "down".to_owned() };
            let replica = net.replica(to).ok_or_else(down)?;
            let run = Run { node: me, generation: Generation(1) };
            let parts = replica.watch(run, asked).map_err(|_| down())?;
            *self.watched.lock() = Some(to);
            let parts = parts.then(move |part| {
                let net = net.clone();
                async move {
                    net.pass(to, me).await;
                    Ok(part)
                }
            });
            Ok(parts.boxed())
        })
    }
}

/// A node without a replica.
struct Node {
    run: Run,
    watcher: Arc<Watcher>,
    wires: Arc<Wires>,
    _replicas: watch::Sender<Vec<NodeId>>,
    ended: Arc<Mutex<Vec<SessionId>>>,
}

impl Node {
    /// Starts it, and registers it with these roles.
    async fn start(group: &Group, node: u64, owner: bool) -> Node {
        let run = Run { node: NodeId(node), generation: Generation(1) };
        let wires = Arc::new(Wires { link: Link { net: group.net.clone(), me: run.node }, watched: Mutex::new(None) });
        let (_replicas, present) = watch::channel(group.running());
        let watcher = Arc::new(Watcher::start(WatcherConfig::new(run, wires.clone(), present)));
        let ended: Arc<Mutex<Vec<SessionId>>> = Arc::default();
        let heard = ended.clone();
        watcher.on_ended(Arc::new(move |all| heard.lock().extend(all.iter().map(|one| one.id))));
        let node = Node { run, watcher, wires, _replicas, ended };
        let roles = Roles { edge: true, owner, registry: false };
        let (name, link) = ("n".into(), "l:1".into());
        let register = Command::Register { run, name, link, roles, formats: 1 };
        assert_eq!(node.watcher.submit(register).await, Ok(Outcome::Done));
        node
    }

    async fn applied(&self, index: u64) {
        let mut applied = self.watcher.applied();
        timeout(WITHIN, applied.wait_for(|applied| *applied >= index)).await.expect("in time").expect("it runs");
    }

    /// The replica that it watches.
    fn watched(&self) -> NodeId {
        self.wires.watched.lock().expect("it watches")
    }

    async fn create(&self, n: u128) -> Result<SessionId, WriteError> {
        let new = session(n);
        let id = new.id;
        match self.watcher.submit(Command::CreateSession(new)).await? {
            Outcome::Created(record) => assert_eq!(record.id, id),
            other => panic!("created, and not {other:?}"),
        }
        Ok(id)
    }
}

/// Three replicas, and two owners without one that share the slots.
async fn world() -> (Group, [Node; 2]) {
    let group = Group::founded(3, |_| {}).await;
    let nodes = [Node::start(&group, 11 << 8, true).await, Node::start(&group, 12 << 8, true).await];
    let live = nodes.iter().map(|node| node.run).collect();
    nodes[0].watcher.submit(Command::Assign { live }).await.expect("assigned");
    (group, nodes)
}

fn same(raft: &Raft, node: &Node) {
    assert_eq!((raft.slot_table(), raft.members(), raft.limits()), {
        let watcher = &node.watcher;
        (watcher.slot_table(), watcher.members(), watcher.limits())
    });
    let owned = |id: &SessionId| raft.slot_table().get(id.slot()).names(node.run);
    let mine: Vec<_> = raft.page(None, usize::MAX).into_iter().filter(|record| owned(&record.id)).collect();
    assert_eq!(node.watcher.page(None, usize::MAX), mine);
    assert_eq!(node.watcher.counts(), raft.counts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_has_the_sessions_of_its_slots_and_an_edge_none() {
    let (group, nodes) = world().await;
    let edge = Node::start(&group, 13 << 8, false).await;
    let mut mine = Vec::new();
    for n in 0..200 {
        let id = nodes[n % 2].create(n as u128).await.expect("created");
        let owner = nodes[0].watcher.slot_table().get(id.slot()).owner;
        let at_owner = owner == Some(nodes[n % 2].run);
        assert_eq!(
            nodes[n % 2].watcher.session(&id).is_some(),
            at_owner,
            "it reads what it wrote, if it is to have it"
        );
        mine.extend((owner == Some(nodes[0].run)).then_some(id));
    }
    let raft = group.node(1);
    let index = nodes[1].watcher.index();
    applied(&raft, index).await;
    let index = raft.index();
    for node in nodes.iter().chain([&edge]) {
        node.applied(index).await;
        same(&raft, node);
    }
    assert!(!mine.is_empty() && edge.watcher.page(None, 1).is_empty());
    assert_eq!(edge.watcher.counts().sessions, 200);

    // Ends and refusals come by as well.
    let end = Command::EndSession { id: mine[0], reason: EndReason::Client };
    assert!(matches!(nodes[1].watcher.submit(end.clone()).await, Ok(Outcome::Ended(_))));
    assert_eq!(nodes[1].watcher.submit(end).await, Err(WriteError::Refused(Refusal::UnknownSession)));
    nodes[0].applied(nodes[1].watcher.index()).await;
    assert!(nodes[0].watcher.session(&mine[0]).is_none());
    assert_eq!((nodes[0].ended.lock().clone(), nodes[1].ended.lock().len()), (vec![mine[0]], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_with_the_slots() {
    let (group, nodes) = world().await;
    for n in 0..300 {
        nodes[0].create(n).await.expect("created");
    }
    let [lost, heir] = [nodes[0].run, nodes[1].run];
    let take = Command::Take { lost, live: vec![heir], epoch: 0, upto: u64::MAX };
    // Nobody leads by the protocol here: the epoch is that of the beginning.
    nodes[1].watcher.submit(take).await.expect("taken");
    let table = nodes[1].watcher.slot_table();
    assert!(table.records().iter().all(|record| record.owner == Some(heir)));
    assert_eq!(nodes[1].watcher.page(None, 1000).len(), 300, "with the index at which it owns them");
    nodes[0].applied(nodes[1].watcher.index()).await;
    assert_eq!(nodes[0].watcher.page(None, 1000).len(), 0);
    assert!(nodes[0].ended.lock().is_empty(), "they did not end");
    same(&group.node(2), &nodes[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_is_lost_with_a_replica() {
    let (group, nodes) = world().await;
    let node = &nodes[0];
    let leader = group.leader().await;
    let victim = node.watched();
    let creating = {
        let (watcher, from) = (node.watcher.clone(), 1000);
        tokio::spawn(async move {
            let mut created = 0;
            for n in from..from + 400u128 {
                match watcher.submit(Command::CreateSession(session(n))).await {
                    Ok(Outcome::Created(_)) => created += 1,
                    other => panic!("session {n}: {other:?}"),
                }
            }
            created
        })
    };
    let begun = Instant::now();
    let before = node.watcher.counts().sessions;
    timeout(WITHIN, node.watcher.applied().wait_for(|_| node.watcher.counts().sessions > before + 50))
        .await
        .expect("in time")
        .expect("it runs");
    // Nothing says that it is gone: what is committed from here on is answered by the next one.
    group.net.isolate(victim);
    group.net.cut_one_way(victim, node.run.node);
    group.net.cut_one_way(node.run.node, victim);
    assert_eq!(timeout(WITHIN, creating).await.expect("in time").expect("no panic"), 400);
    println!("400 commands in {:?}, while replica {victim} (leader {leader}) was lost", begun.elapsed());
    assert_ne!(node.watched(), victim);
    group.net.heal();
    let raft = group.node(victim.0);
    applied(&raft, node.watcher.index()).await;
    assert_eq!(raft.counts().sessions, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_is_left() {
    let (group, nodes) = world().await;
    let node = &nodes[0];
    let cut = node.watched();
    // Cut off from the other replicas, and not from the node.
    for other in group.running().into_iter().filter(|other| *other != cut) {
        group.net.cut_one_way(cut, other);
        group.net.cut_one_way(other, cut);
    }
    let begun = Instant::now();
    let created = timeout(WITHIN, async {
        // While no leader is known to be lost, the first one may not be answered in time.
        loop {
            match node.create(5).await {
                Ok(id) => return id,
                Err(error) => assert_eq!(error, WriteError::Unavailable),
            }
        }
    });
    created.await.expect("in time");
    println!("a command was answered {:?} after the watched replica was cut off", begun.elapsed());
    assert_ne!(node.watched(), cut);
    group.net.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_gets_what_it_missed() {
    let (group, nodes) = world().await;
    let first = nodes[0].create(1).await.expect("created");
    nodes[1].applied(nodes[0].watcher.index()).await;
    let at = usize::from(nodes[0].watcher.session(&first).is_none());
    let (owner, other) = (&nodes[at], &nodes[1 - at]);
    group.net.isolate(owner.run.node);
    let end = Command::EndSession { id: first, reason: EndReason::Client };
    other.watcher.submit(end).await.expect("ended");
    for n in 2..60 {
        other.create(n).await.expect("created");
    }
    assert!(owner.watcher.session(&first).is_some() && owner.watcher.index() < other.watcher.index());
    group.net.heal();
    owner.applied(other.watcher.index()).await;
    same(&group.node(1), owner);
    assert_eq!(*owner.ended.lock(), [first]);
}
