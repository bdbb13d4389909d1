//! Who may register, who is removed, and what a cluster's id is good for.

use enfilade_registry::{ClusterId, Command, Generation, NodeId, Refusal, Roles, StateMachine};

use crate::{Cluster, register, run};

#[test]
fn a_cluster_is_founded_once() {
    let mut cluster = Cluster(StateMachine::with_slots(2));
    assert_eq!(cluster.0.cluster(), None);
    let found = |id| Command::Found { cluster: ClusterId(id) };
    cluster.ok(found(u128::MAX));
    cluster.ok(found(u128::MAX));
    assert_eq!(cluster.apply(found(2)), Err(Refusal::OtherCluster));
    assert_eq!(cluster.0.cluster(), Some(ClusterId(u128::MAX)));
}

#[test]
fn generations_rise_and_one_generation_is_one_process() {
    let mut cluster = Cluster::new(2, 0);
    cluster.ok(register(run(1, 3)));
    cluster.ok(register(run(1, 3)));
    let mut moved = register(run(1, 3));
    let Command::Register { link, .. } = &mut moved else { unreachable!("a Register") };
    *link = "elsewhere:7000".into();
    let old = Err(Refusal::OldRun { registered: Generation(3) });
    assert_eq!(cluster.apply(moved), old, "two processes under one generation");
    assert_eq!(cluster.apply(register(run(1, 2))), old);
    cluster.ok(register(run(1, 4)));
    let members = cluster.0.members();
    assert!(members.is_current(run(1, 4)) && members.is_superseded(run(1, 3)) && !members.is_superseded(run(1, 5)));
    assert_eq!(members.len(), 1);
}

#[test]
fn a_drain_outlives_a_repeat_of_its_registration_and_ends_with_the_run() {
    let mut cluster = Cluster::new(2, 1);
    assert_eq!(cluster.apply(Command::Drain { node: NodeId(9), on: true }), Err(Refusal::UnknownNode));
    cluster.ok(Command::Drain { node: NodeId(1), on: true });
    cluster.ok(register(run(1, 1)));
    assert!(cluster.0.members().is_draining(NodeId(1)));
    cluster.ok(register(run(1, 2)));
    assert!(!cluster.0.members().is_draining(NodeId(1)));
}

#[test]
fn a_node_in_use_stays_and_a_removed_one_never_returns() {
    let mut cluster = Cluster::new(4, 2);
    let (a, b) = (run(1, 1), run(2, 1));
    cluster.assign(&[a]);
    cluster.second(0, b);
    cluster.begin_move(1, b);
    assert_eq!(cluster.apply(Command::Remove { node: a.node }), Err(Refusal::NodeInUse { slots: 4 }));
    assert_eq!(cluster.apply(Command::Remove { node: b.node }), Err(Refusal::NodeInUse { slots: 2 }));
    // A later run of the node is the same node.
    cluster.ok(register(run(2, 2)));
    assert_eq!(cluster.apply(Command::Remove { node: b.node }), Err(Refusal::NodeInUse { slots: 2 }));
    let moves = vec![(crate::slot(1), cluster.record(1).moving.expect("moves").id)];
    cluster.ok(Command::Abort { moves });
    cluster.take(b, &[a]);
    cluster.ok(Command::Remove { node: b.node });
    cluster.ok(Command::Remove { node: b.node });
    assert_eq!(cluster.apply(register(run(2, 3))), Err(Refusal::NodeRemoved));
    assert_eq!(cluster.apply(Command::Remove { node: NodeId(7) }), Err(Refusal::UnknownNode));
    assert!(cluster.0.members().is_removed(b.node) && cluster.0.members().get(b.node).is_none());
}

#[test]
fn only_owners_get_slots() {
    let mut cluster = Cluster::new(4, 1);
    let edge = run(2, 1);
    let roles = Roles { edge: true, owner: false, registry: false };
    cluster.ok(Command::Register { run: edge, name: "edge".into(), link: "e:1".into(), roles, formats: 1 });
    let stranger = run(3, 1);
    cluster.assign(&[edge, stranger, run(1, 2)]);
    assert_eq!(cluster.record(0).owner, None);
    cluster.assign(&[edge, stranger, run(1, 1)]);
    assert_eq!(cluster.load(run(1, 1)), 4);
    assert_eq!((cluster.second(0, edge), cluster.begin_move(0, edge)), (0, 0));
    assert_eq!(cluster.0.members().owners().collect::<Vec<_>>(), [run(1, 1)]);
}

#[test]
fn a_later_leader_ends_the_say_of_the_earlier_one() {
    let mut cluster = Cluster::new(2, 2);
    let (a, b) = (run(1, 1), run(2, 1));
    cluster.assign(&[a]);
    cluster.ok(Command::Lead { epoch: 4 });
    let take = |epoch, upto| Command::Take { lost: a, live: vec![b], epoch, upto };
    let late = take(4, cluster.0.applied());
    cluster.ok(Command::Lead { epoch: 5 });
    assert_eq!(cluster.apply(late), Err(Refusal::OldLeader { epoch: 5 }));
    assert_eq!(cluster.apply(Command::Lead { epoch: 4 }), Err(Refusal::OldLeader { epoch: 5 }));
    assert_eq!(cluster.load(a), 2);
    assert_eq!(cluster.count(take(5, 0)), 0, "what a got after the decision is not meant");
    assert_eq!(cluster.count(take(5, cluster.0.applied())), 2);
}
