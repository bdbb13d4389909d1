//! What is left of a registry becomes another one: sessions stay, and nothing of before is valid.

use enfilade_registry::{ClusterId, Command, NodeId, Origin, Refusal, StateMachine};

use crate::{Cluster, register, run};

#[test]
fn a_refounded_registry_keeps_its_slots_and_nobody_who_had_them() {
    let mut cluster = Cluster::new(4, 2);
    let (a, b) = (run(1, 1), run(2, 1));
    cluster.ok(Command::Found { cluster: ClusterId(5) });
    cluster.assign(&[a]);
    cluster.second(0, b);
    cluster.begin_move(1, b);
    let (before, applied) = (cluster.record(1), cluster.0.applied());

    let mut again = Cluster(cluster.0.refounded(ClusterId(6)));
    assert_eq!((again.0.cluster(), again.0.applied()), (Some(ClusterId(6)), applied));
    assert!(again.0.members().is_empty());
    for old in [a, b] {
        assert!(again.0.members().is_removed(old.node));
        assert_eq!(again.apply(register(run(old.node.0, 9))), Err(Refusal::NodeRemoved));
    }
    let record = again.record(1);
    assert_eq!((record.owner, record.second, record.moving), (Some(a), None, None));
    assert!(record.term.0 > before.term.0 + 1_000_000, "terms of what was lost are not used again");

    // The next owner begins with a gap: what the former one had in memory is nowhere.
    let c = run(3, 1);
    again.ok(register(c));
    again.take(a, &[c]);
    let taken = again.record(0);
    assert_eq!((taken.owner, taken.origin), (Some(c), Origin::Gap));
}

#[test]
fn it_survives_its_snapshot() {
    let mut cluster = Cluster::new(2, 2);
    cluster.assign(&[run(1, 1)]);
    let state = cluster.0.refounded(ClusterId(7)).refounded(ClusterId(8));
    let again = StateMachine::restore(&state.snapshot());
    // Snapshots are of all slots, this test's registry is of two.
    assert!(again.is_ok_and(|again| again.digest() == state.digest() && again.members().is_removed(NodeId(2))));
}
