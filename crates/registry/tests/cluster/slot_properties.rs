//! What holds of slots after any commands, sensible or stale.

use std::collections::BTreeMap;

use enfilade_registry::{
    Command, CopyId, MOVING_MAX, MoveId, NodeId, Origin, Run, Slot, SlotRecord, SlotTable, StateMachine, Term,
};
use proptest::prelude::*;

use crate::{register, run, slot};

const SLOTS: u16 = 6;
const NODES: u64 = 4;

/// A command that is filled in from the state that it meets, more or less truly.
#[derive(Clone, Debug)]
enum Step {
    Register { node: u64, again: bool },
    Drain { node: u64, on: bool },
    Remove { node: u64 },
    Lead { up: u64 },
    Take { lost: u64, live: u8, behind: u64 },
    Assign { live: u8 },
    Seconds { slot: u16, node: u64, off: u64 },
    InSync { slot: u16, off: u64, in_sync: bool },
    Move { slot: u16, node: u64, off: u64 },
    Done { slot: u16, off: u64 },
    Abort { slot: u16, off: u64 },
    Plan { live: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (slots, nodes) = (|| 0..SLOTS, || 1..=NODES);
    // How far the proposer is off: mostly not at all.
    let off = || prop_oneof![6 => Just(0u64), 1 => Just(1u64)];
    let live = || prop_oneof![3 => Just(0xffu8), 2 => any::<u8>()];
    prop_oneof![
        3 => (nodes(), any::<bool>()).prop_map(|(node, again)| Step::Register { node, again }),
        1 => (nodes(), any::<bool>()).prop_map(|(node, on)| Step::Drain { node, on }),
        1 => nodes().prop_map(|node| Step::Remove { node }),
        1 => (0..2u64).prop_map(|up| Step::Lead { up }),
        3 => (nodes(), live(), off()).prop_map(|(lost, live, behind)| Step::Take { lost, live, behind }),
        2 => live().prop_map(|live| Step::Assign { live }),
        4 => (slots(), nodes(), off()).prop_map(|(slot, node, off)| Step::Seconds { slot, node, off }),
        4 => (slots(), off(), any::<bool>()).prop_map(|(slot, off, in_sync)| Step::InSync { slot, off, in_sync }),
        4 => (slots(), nodes(), off()).prop_map(|(slot, node, off)| Step::Move { slot, node, off }),
        3 => (slots(), off()).prop_map(|(slot, off)| Step::Done { slot, off }),
        2 => (slots(), off()).prop_map(|(slot, off)| Step::Abort { slot, off }),
        2 => live().prop_map(|live| Step::Plan { live }),
    ]
}

fn present(state: &StateMachine, node: u64) -> Run {
    state.members().run_of(NodeId(node)).unwrap_or(run(node, 1))
}

fn live(state: &StateMachine, mask: u8) -> Vec<Run> {
    (1..=NODES).filter(|node| mask >> node & 1 == 1).map(|node| present(state, node)).collect()
}

fn moving(state: &StateMachine, number: u16, off: u64) -> Vec<(Slot, MoveId)> {
    let id = state.slots().get(slot(number)).moving.map_or(0, |moving| moving.id.0);
    vec![(slot(number), MoveId(id + off))]
}

/// The commands of a step, in the present state.
fn commands(state: &StateMachine, step: &Step) -> Vec<Command> {
    let at = |number: u16, off: u64| {
        let record = state.slots().get(slot(number));
        (slot(number), Term(record.term.0.saturating_sub(off)), CopyId(record.copy.0.saturating_sub(off)))
    };
    let command = match *step {
        Step::Register { node, again } => {
            let present = present(state, node);
            register(if again { present } else { run(node, present.generation.0 + 1) })
        }
        Step::Drain { node, on } => Command::Drain { node: NodeId(node), on },
        Step::Remove { node } => Command::Remove { node: NodeId(node) },
        Step::Lead { up } => Command::Lead { epoch: state.epoch() + up },
        Step::Take { lost, live: mask, behind } => {
            // An earlier run of the node, if one still has something.
            let holders = state.slots().holders();
            let lost = holders.into_iter().find(|run| run.node.0 == lost).unwrap_or(present(state, lost));
            let (live, upto) = (live(state, mask), state.applied() - behind);
            Command::Take { lost, live, epoch: state.epoch() + behind, upto }
        }
        Step::Assign { live: mask } => Command::Assign { live: live(state, mask) },
        Step::Seconds { slot, node, off } => {
            let (slot, term, _) = at(slot, off);
            Command::Seconds { slots: vec![(slot, term)], second: present(state, node) }
        }
        Step::InSync { slot: number, off, in_sync } => {
            let second = state.slots().get(slot(number)).second.unwrap_or(run(1, 1));
            Command::InSync { slots: vec![at(number, off)], second, in_sync }
        }
        Step::Move { slot, node, off } => {
            let (slot, term, _) = at(slot, off);
            Command::Move { slots: vec![(slot, term)], to: present(state, node) }
        }
        Step::Done { slot, off } => Command::Done { moves: moving(state, slot, off) },
        Step::Abort { slot, off } => Command::Abort { moves: moving(state, slot, off) },
        Step::Plan { live: mask } => return state.plan(&live(state, mask)),
    };
    vec![command]
}

/// What one command may do to a slot.
fn check_change(slot: Slot, before: &SlotRecord, after: &SlotRecord, command: &Command, index: u64) {
    let what = || format!("slot {slot}: {before:?} -> {after:?} by {command:?}");
    let (owner, second) = (before.owner != after.owner, before.second != after.second);
    assert!(after.term >= before.term, "{}", what());
    assert_eq!(after.since != before.since, owner, "{}", what());
    assert!(!owner || after.term > before.term && after.since == index, "{}", what());
    if owner && second {
        let swapped = matches!(command, Command::Done { .. }) && after.second.is_none_or(|s| Some(s) == before.owner);
        assert!(swapped || after.second.is_none(), "owner and second change together: {}", what());
    }
    if after.in_sync && !before.in_sync {
        let by_done = matches!(command, Command::Done { .. }) && after.second == before.owner;
        let by_owner = matches!(command, Command::InSync { .. }) && after.copy == before.copy;
        assert!(by_done || by_owner, "{}", what());
    }
    if owner && let Origin::Copy(copy) = after.origin {
        assert!(before.in_sync && before.second == after.owner && before.copy == copy, "unsynced heir: {}", what());
    }
    if owner && let Origin::Move(id) = after.origin {
        assert!(before.moving.is_some_and(|moving| moving.id == id && Some(moving.to) == after.owner), "{}", what());
    }
}

/// What a table always is.
fn check_table(table: &SlotTable) {
    assert_eq!(table.moving(), table.records().iter().filter(|record| record.moving.is_some()).count());
    assert!(table.moving() <= MOVING_MAX);
    for record in table.records() {
        assert!(record.second.is_none() || record.second != record.owner, "{record:?}");
        assert!(!record.in_sync || record.second.is_some(), "{record:?}");
        assert!(record.moving.is_none_or(|moving| Some(moving.to) != record.owner), "{record:?}");
        assert!(record.owner.is_some() || record.second.is_none() && record.moving.is_none(), "{record:?}");
    }
}

/// Runs the steps on two replicas, the second of which is restored from a snapshot once, if at all.
fn check(mut one: StateMachine, steps: &[Step], cut: Option<usize>) -> Result<(), TestCaseError> {
    let mut two = one.clone();
    let mut owners: BTreeMap<(Slot, Term), Run> = BTreeMap::new();
    for command in (1..=NODES).map(|node| register(run(node, 1))) {
        let index = one.applied() + 1;
        prop_assert_eq!(one.apply(index, &command), two.apply(index, &command));
    }
    for (n, step) in steps.iter().enumerate() {
        for command in commands(&one, step) {
            let (before, index) = (one.slots().clone(), one.applied() + 1);
            let foretold = one.check(&command).err();
            let result = one.apply(index, &command);
            prop_assert_eq!(foretold, result.as_ref().err().copied());
            prop_assert_eq!(&result, &two.apply(index, &Command::decode(&command.encode()).expect("decodes")));
            check_table(one.slots());
            let changed = before.iter().filter(|(at, record)| *record != one.slots().get(*at)).map(|(at, _)| at);
            let changed: Vec<Slot> = changed.collect();
            for at in &changed {
                check_change(*at, before.get(*at), one.slots().get(*at), &command, index);
            }
            let named = result.as_ref().map(|outcome| outcome.slots().to_vec()).unwrap_or_default();
            prop_assert!(changed.iter().all(|slot| named.contains(slot)), "{:?}", command);
            prop_assert_eq!(one.map_version() == index, !changed.is_empty());
        }
        for (at, record) in one.slots().iter().take(usize::from(SLOTS)) {
            if let Some(owner) = record.owner {
                let first = *owners.entry((at, record.term)).or_insert(owner);
                prop_assert_eq!(first, owner, "two owners of slot {} in one term", at);
            }
        }
        if Some(n) == cut {
            two = StateMachine::restore(&two.snapshot()).expect("an own snapshot is sound");
        }
    }
    prop_assert_eq!(one.digest(), two.digest());
    prop_assert_eq!(one.snapshot(), two.snapshot());
    prop_assert_eq!(one.members(), two.members());
    prop_assert_eq!(one.slots(), two.slots());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn terms_rise_and_owners_are_one(steps in proptest::collection::vec(step(), 0..150)) {
        check(StateMachine::with_slots(SLOTS), &steps, None)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn replicas_agree_across_snapshots(steps in proptest::collection::vec(step(), 0..40), cut in 0..40usize) {
        check(StateMachine::new(), &steps, Some(cut))?;
    }
}
