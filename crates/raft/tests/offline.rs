//! What one replica has on its disk, and a group that begins with it.

mod support;

use std::collections::BTreeSet;

use enfilade_raft::offline;
use enfilade_registry::{ClusterId, NodeId, Reader as _};

use support::{Group, WITHIN, applied, create, create_all, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_that_is_left_begins_a_group_of_its_own() {
    let mut group = Group::founded(3, |_| ()).await;
    let leader = group.node(group.leader().await.0);
    create_all(&leader, 0..300).await;
    group.agrees().await;
    drop(leader);
    let left = NodeId(2);
    let dir = group.dir(left);
    assert!(offline::read(&dir).await.is_err(), "it runs");
    for node in 1..=3 {
        group.stop(NodeId(node)).await;
    }

    let found = offline::read(&dir).await.expect("a replica");
    assert_eq!(found.registry.counts().sessions, 300);
    assert_eq!(found.voters, BTreeSet::from([1, 2, 3].map(NodeId)));
    let again = offline::read(&dir).await.expect("reading changes nothing");
    assert_eq!((again.last_log, again.registry.digest()), (found.last_log, found.registry.digest()));

    let (index, term) = (found.last_log, found.raft_term);
    let registry = found.registry.refounded(ClusterId(9));
    let new = group.dir(NodeId(4));
    offline::found(&new, NodeId(4), &registry, term, index).await.expect("an empty directory");
    assert!(offline::found(&new, NodeId(4), &registry, term, index).await.is_err(), "there is a replica");

    let raft = group.start(4).await;
    assert!(raft.status().borrow().is_initialised, "from the first moment");
    group.leader().await;
    raft.read_index(WITHIN).await.expect("it leads alone");
    assert_eq!((raft.counts().sessions, raft.cluster()), (300, Some(ClusterId(9))));
    assert!(raft.session(&session(7).id).is_some());
    create(&raft, 1000).await.expect("it writes");
    let status = raft.status().borrow().clone();
    assert!(status.raft_term > term && status.last_log > index, "{status:?}");

    // Another one comes to it: its whole log is gone, so it gets the snapshot.
    let other = group.start(5).await;
    raft.add_learner(NodeId(5)).await.expect("the leader adds it");
    applied(&other, raft.index()).await;
    assert_eq!(other.counts().sessions, 301);
}
