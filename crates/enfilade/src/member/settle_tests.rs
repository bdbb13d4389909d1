//! Tables of what a node does that has no registry yet.

use super::*;
use enfilade_membership::{Hint, Identity};
use enfilade_registry::{ClusterId, Generation, Roles, Run};

fn alive(node: u64, name: &str, hint: Option<Hint>) -> Alive {
    let identity = Identity {
        run: Run { node: NodeId(node), generation: Generation(1) },
        name: name.to_owned(),
        gossip: ([127, 0, 0, 1], 1).into(),
        link: "127.0.0.1:1".to_owned(),
        roles: Roles::ALL,
    };
    Alive { identity, hint }
}

fn empty(node: u64, name: &str) -> Alive {
    alive(node, name, Some(Hint::default()))
}

fn member(node: u64, name: &str, leader: Option<(u64, NodeId)>) -> Alive {
    alive(node, name, Some(Hint { initialised: Some(ClusterId(7)), leader, ..Hint::default() }))
}

const A: NodeId = NodeId(3);
const B: NodeId = NodeId(5);
const C: NodeId = NodeId(9);

fn step(node: NodeId, name: &str, members: Vec<Alive>, connected: &[NodeId]) -> Step {
    let voters = ["a", "b", "c"].map(str::to_owned);
    next(Me { node, name, voters: &voters }, &Roster::new(members), connected)
}

fn all() -> Vec<Alive> {
    vec![empty(3, "a"), empty(5, "b"), empty(9, "c")]
}

#[track_caller]
fn waits(step: Step, what: &str) {
    assert!(matches!(&step, Step::Wait(reason) if reason.contains(what)), "{step:?}");
}

#[test]
fn the_lowest_of_all_voters_proposes() {
    assert_eq!(step(A, "a", all(), &[B, C]), Step::Propose(vec![A, B, C]));
    waits(step(B, "b", all(), &[A, C]), "lowest");
    // Others may be there as well; they are no voters, whatever their ids.
    let more = [all(), vec![empty(1, "d")]].concat();
    assert_eq!(step(A, "a", more.clone(), &[B, C]), Step::Propose(vec![A, B, C]));
    waits(step(NodeId(1), "d", more, &[A, B, C]), "to join");
}

#[test]
fn all_must_be_there_and_linked_and_have_spoken() {
    waits(step(A, "a", all()[..2].to_vec(), &[B]), "for c");
    waits(step(A, "a", all(), &[B]), "link to c");
    waits(step(A, "a", vec![empty(3, "a"), empty(5, "b"), alive(9, "c", None)], &[B, C]), "link to c");
    waits(step(A, "a", [all(), vec![empty(6, "b")]].concat(), &[B, C]), "several");
}

#[test]
fn whoever_sees_a_cluster_joins_it() {
    let founded = vec![empty(3, "a"), member(5, "b", Some((2, B))), member(9, "c", Some((4, C)))];
    assert_eq!(step(A, "a", founded.clone(), &[B, C]), Step::Join(C), "the later leader");
    assert_eq!(step(NodeId(1), "x", founded, &[]), Step::Join(C));
    let leader_is_gone = vec![empty(3, "a"), empty(9, "c"), member(5, "b", Some((2, NodeId(77))))];
    assert_eq!(step(A, "a", leader_is_gone, &[B, C]), Step::Join(B));
    // One among many is enough: a cluster is founded once.
    let one = vec![empty(3, "a"), empty(5, "b"), empty(9, "c"), member(11, "z", None)];
    assert_eq!(step(A, "a", one, &[B, C]), Step::Join(NodeId(11)));
}

#[test]
fn others_agree_only_to_what_they_see_themselves() {
    let voters = ["a", "b", "c"].map(str::to_owned);
    let me = Me { node: B, name: "b", voters: &voters };
    let roster = Roster::new(all());
    assert!(agrees(me, &roster, &[A, C], &[A, B, C]));
    assert!(!agrees(me, &roster, &[A], &[A, B, C]), "no link to c");
    assert!(!agrees(me, &roster, &[A, C], &[A, B]));
    assert!(!agrees(me, &roster, &[A, C], &[NodeId(4), B, C]), "another node of that name");
    let founded = Roster::new([all(), vec![member(11, "z", None)]].concat());
    assert!(!agrees(me, &founded, &[A, C], &[A, B, C]));
    let other = ["a", "b", "d"].map(str::to_owned);
    assert!(!agrees(Me { voters: &other, ..me }, &roster, &[A, C], &[A, B, C]), "another configuration");
}
