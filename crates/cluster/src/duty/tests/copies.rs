//! What copies are told when one of them begins.

use super::World;
use crate::wire::Word;
use enfilade_registry::copy::CopyPart;
use enfilade_registry::{Command, Run, Term};

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
    let mut world = with_entries(17_000);
    let target = world.nodes[2].run;
    world.registry.apply(&Command::Move { slots: vec![(World::slot(), Term(1))], to: target }).expect("moves");
    world.pass(200);
    assert_eq!((world.owner(), world.has(2)), (2, 17_000));
    assert!(world.second_of(World::slot()).1, "its former owner has all of it");
}
