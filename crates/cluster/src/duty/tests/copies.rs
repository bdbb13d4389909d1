//! What copies are told when one of them begins.

use super::{Arc, Inbox, Lanes, World, in_sync};
use crate::duty::SecondCopies;
use crate::duty::wires::Wires;
use crate::wire::Word;
use enfilade_registry::copy::{CopyAnswer, CopyPart, CopySaid, Lane};
use enfilade_registry::{Command, Fence, Generation, MoveId, NodeId, Run, Term};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A world in which node 1 became the second of a slot with so many entries, and in step.
fn with_entries(count: u64) -> World {
    let mut world = World::new(3);
    for seq in 0..count {
        world.say(0, seq);
    }
    let (slots, second) = (vec![(World::slot(), Term(1))], world.nodes[1].run);
    world.registry.apply(&Command::Seconds { slots, second }).expect("chosen");
    world.pass(200);
    assert_eq!(world.second_of(World::slot()), (Some(second), true));
    world
}

fn is_entry(word: &Word) -> bool {
    matches!(word, Word::Copy(message) if matches!(message.part, CopyPart::Entry(_)))
}

#[test]
fn a_copy_that_begins_is_told_what_there_is_and_no_other() {
    let mut world = with_entries(50);
    let (second, target) = (world.nodes[1].run, world.nodes[2].run);
    world.said.clear();
    world.registry.apply(&Command::Move { slots: vec![(World::slot(), Term(1))], to: target }).expect("moves");
    world.pass(200);
    let told = |to: Run| world.said.iter().filter(|(_, node, word)| *node == to.node && is_entry(word)).count();
    assert_eq!((told(second), told(target)), (0, 50));
    assert_eq!((world.owner(), world.has(2)), (2, 50));
}

#[test]
fn a_slot_has_copies_also_where_there_is_more_than_may_be_on_the_way() {
    let mut world = with_entries(40_000);
    let target = world.nodes[2].run;
    world.registry.apply(&Command::Move { slots: vec![(World::slot(), Term(1))], to: target }).expect("moves");
    world.pass(200);
    assert_eq!((world.owner(), world.has(2)), (2, 40_000));
    assert!(world.second_of(World::slot()).1, "its former owner has all of it");
}

#[test]
fn a_session_that_was_inherited_and_ended_is_not_kept_by_a_copy_that_is_told_of_it_late() {
    let mut world = in_sync();
    // Node 1 inherits it; nobody takes it up. Node 0 becomes the second, and hears of the end before it is told of it.
    let (former, owner) = (world.nodes[0].run, world.nodes[1].run);
    world.registry.apply(&Command::Take { lost: former, live: vec![owner], epoch: 0, upto: u64::MAX }).expect("taken");
    world.run();
    let (session, ended) = (world.session(), |world: &World, at: usize| {
        let (lanes, held) = (world.nodes[at].lanes.clone(), world.nodes[at].held.clone());
        SecondCopies { lanes, held }.ended(&world.session());
    });
    ended(&world, 0);
    world.registry.apply(&Command::Seconds { slots: vec![(World::slot(), Term(2))], second: former }).expect("chosen");
    world.pass(100);
    assert!(world.nodes[0].held.holds(&session), "the owner has not heard yet");
    ended(&world, 1);
    world.pass(100);
    assert!(!world.nodes[0].held.holds(&session));
}

/// Nobody says that a copy is complete while it is told what there is, whatever its other side says at that moment. Where
/// looking and answering are not one step, an old acknowledgement comes in between.
#[test]
fn an_old_acknowledgement_completes_no_copy_that_is_begun_again() {
    const ROUNDS: usize = 500;
    let (wires, inbox) = (Arc::new(Wires::in_memory()), Arc::new(Inbox::default()));
    let lanes = Lanes::new(Arc::new(|| 1_000), 300, wires.clone(), inbox);
    let (fence, lane) = (Fence { slot: World::slot(), term: Term(1) }, Lane::Move(MoveId(9)));
    let is_complete =
        |(_, word): &(NodeId, Word)| matches!(word, Word::Copy(message) if message.part == CopyPart::Complete);
    lanes.own(fence);
    lanes.begin(fence, lane, Run { node: NodeId(2), generation: Generation(1) });
    let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                lanes.answered(CopyAnswer { fence, lane, said: CopySaid::Upto(0) });
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (started, mut rounds, mut early) = (Instant::now(), 0, 0);
        'rounds: while rounds < ROUNDS {
            // What was answered as it was begun has had its effect once more is answered.
            let before = answers.load(Ordering::Relaxed);
            while answers.load(Ordering::Relaxed) < before + 2 {
                std::thread::yield_now();
            }
            early += wires.drain().iter().filter(|said| is_complete(said)).count();
            lanes.told(fence.slot);
            // Once; then it says so no more until it is begun again.
            while !wires.drain().iter().any(is_complete) {
                if early > 0 || started.elapsed() > Duration::from_secs(120) {
                    break 'rounds;
                }
                std::thread::yield_now();
            }
            lanes.restart(fence.slot, lane);
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!((early, rounds), (0, ROUNDS));
    });
}
