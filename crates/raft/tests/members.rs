//! Snapshots, learners and changes of voters.

mod support;

use std::time::Duration;

use enfilade_raft::{Config, ControlError, Status};
use enfilade_registry::{NodeId, Reader as _};

use support::{Group, WITHIN, applied, create, create_all, session, wait_for};

/// Snapshots after little log, of which little is kept.
fn small(config: &mut Config) {
    config.snapshot_log_bytes_min = 16 << 10;
    config.kept_entries = 4;
    config.snapshot_chunk_bytes = 10_000;
    config.log_cache_bytes_max = 32 << 10;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_taken_at_the_same_index_everywhere() {
    let mut group = Group::founded(3, small).await;
    create_all(&group.node(1), 0..400).await;
    let first = wait_for(&group.node(1), |status| status.snapshot.is_some()).await.snapshot.expect("waited for");
    for node in 2..=3 {
        wait_for(&group.node(node), |status| status.snapshot >= Some(first)).await;
    }
    // The next cut compares the digests.
    create_all(&group.node(2), 1000..4000).await;
    let next = wait_for(&group.node(1), |status| status.snapshot > Some(first)).await.snapshot.expect("waited for");
    for node in 1..=3 {
        let status = wait_for(&group.node(node), |status| status.snapshot >= Some(next)).await;
        assert_eq!(status.failed, None);
    }
    group.agrees().await;
    for node in group.running() {
        group.stop(node).await;
    }
    for node in 1..=3 {
        group.start(node).await;
    }
    group.node(group.leader().await.0).read_index(WITHIN).await.expect("it leads");
    group.agrees().await;
    assert_eq!(group.node(3).counts().sessions, 3400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_learner_and_a_lagging_follower_get_the_snapshot() {
    let mut group = Group::founded(3, small).await;
    let lagging = group.follower().await;
    group.net.isolate(lagging);
    let leader = group.node(group.leader_among(&others(&group, lagging)).await.0);
    create_all(&leader, 0..600).await;
    wait_for(&leader, |status| status.snapshot.is_some()).await;
    let learner = group.start(4).await;
    // It is cut off from the one that lags.
    leader.add_learner(NodeId(4)).await.expect("added");
    applied(&learner, leader.index()).await;
    let learns = |status: &Status| status.snapshot.is_some() && status.learners.contains(&NodeId(4));
    let status = wait_for(&learner, learns).await;
    assert!(!status.voters.contains(&NodeId(4)));
    assert_eq!(learner.counts().sessions, 600);

    group.net.heal();
    applied(&group.node(lagging.0), leader.index()).await;
    wait_for(&group.node(lagging.0), |status| status.snapshot.is_some()).await;
    group.agrees().await;
    create(&learner, 1_000_000).await.expect("a learner submits, too");
    drop((leader, learner));

    group.stop(NodeId(4)).await;
    let learner = group.start(4).await;
    applied(&learner, group.node(lagging.0).index()).await;
    assert!(learner.session(&session(1_000_000).id).is_some());
    group.agrees().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_replaced() {
    let mut group = Group::founded(3, small).await;
    create_all(&group.node(1), 0..100).await;
    let dead = group.follower().await;
    group.stop(dead).await;
    let leader = group.node(group.leader().await.0);
    group.start(4).await;
    let unknown = leader.change_voters([NodeId(4), NodeId(9)]).await;
    assert!(matches!(unknown, Err(ControlError::Refused(_))), "{unknown:?}");
    leader.add_learner(NodeId(4)).await.expect("added");
    wait_for(&leader, |status| status.matched.get(&NodeId(4)).is_some_and(Option::is_some)).await;
    let mut voters = others(&group, dead);
    assert!(voters.contains(&NodeId(4)));
    leader.change_voters(voters.clone()).await.expect("changed");
    for node in &voters {
        let status = wait_for(&group.node(node.0), |status| !status.voters.contains(&dead)).await;
        assert_eq!(status.voters.into_iter().collect::<Vec<_>>(), voters);
        assert!(status.learners.is_empty());
    }
    drop(leader);
    // The new one counts: without it there would be no majority.
    let gone = voters.iter().copied().find(|node| *node != NodeId(4)).expect("three voters");
    group.stop(gone).await;
    voters.retain(|node| *node != gone);
    let leader = group.leader_among(&voters).await;
    create(&group.node(leader.0), 1_000_000).await.expect("created");
    group.agrees().await;
    assert_eq!(group.node(4).counts().sessions, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_from_one_and_its_founder_may_leave() {
    let mut group = Group::founded(1, small).await;
    create_all(&group.node(1), 0..100).await;
    let founder = group.node(1);
    for node in 2..=4 {
        group.start(node).await;
        founder.add_learner(NodeId(node)).await.expect("added");
    }
    founder.change_voters((1..=3).map(NodeId)).await.expect("changed");
    founder.remove_learner(NodeId(4)).await.expect("removed");
    group.stop(NodeId(4)).await;
    founder.change_voters([NodeId(2), NodeId(3)]).await.expect("changed");
    wait_for(&founder, |status| !status.is_leader).await;
    drop(founder);
    group.stop(NodeId(1)).await;
    let leader = group.leader_among(&[NodeId(2), NodeId(3)]).await;
    create(&group.node(leader.0), 1_000_000).await.expect("created");
    assert_eq!(group.node(leader.0).counts().sessions, 101);
    assert!(tokio::time::timeout(Duration::from_secs(10), group.agrees()).await.is_ok());
}

fn others(group: &Group, node: NodeId) -> Vec<NodeId> {
    group.running().into_iter().filter(|other| *other != node).collect()
}
