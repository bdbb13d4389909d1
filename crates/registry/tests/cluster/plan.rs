//! Plans: balanced within one slot, in the fewest moves, and draining nodes end empty.

use std::collections::BTreeMap;

use enfilade_registry::{Command, LateMoves, MOVING_MAX, MoveId, Run, Slot, StateMachine};
use proptest::prelude::*;

use crate::{Cluster, register, run, slot};

/// Does what the plan says until it says nothing more; gives the number of moves.
fn settle(cluster: &mut Cluster, live: &[Run]) -> usize {
    let mut moved = 0;
    for round in 0..1000u64 {
        let commands = cluster.0.plan(live);
        if commands.is_empty() && cluster.0.slots().moving() == 0 {
            return moved;
        }
        for command in commands {
            let is_move = matches!(command, Command::Move { .. });
            let applied = cluster.count(command);
            moved += if is_move { applied } else { 0 };
            assert!(cluster.0.slots().moving() <= MOVING_MAX);
        }
        let moves: Vec<(Slot, MoveId)> = cluster
            .0
            .slots()
            .iter()
            .filter_map(|(slot, record)| Some((slot, record.moving?.id)))
            // Some take longer than others.
            .filter(|(slot, _)| !(u64::from(slot.get()) + round).is_multiple_of(3))
            .collect();
        cluster.ok(Command::Done { moves });
    }
    panic!("the plan never comes to rest");
}

/// The fewest slots that have to change hands: what each target lacks, with the larger shares where most is.
fn fewest(loads: &BTreeMap<Run, usize>, targets: &[Run]) -> usize {
    let total: usize = loads.values().sum();
    let mut held: Vec<usize> = targets.iter().map(|run| loads.get(run).copied().unwrap_or(0)).collect();
    held.sort_unstable_by(|a, b| b.cmp(a));
    let (share, over) = (total / held.len(), total % held.len());
    held.iter().enumerate().map(|(n, held)| (share + usize::from(n < over)).saturating_sub(*held)).sum()
}

fn check_balanced(cluster: &Cluster, targets: &[Run]) {
    let loads: Vec<usize> = targets.iter().map(|run| cluster.load(*run)).collect();
    let (min, max) = (loads.iter().min().expect("some"), loads.iter().max().expect("some"));
    assert!(max - min <= 1, "balanced within one: {loads:?}");
    assert_eq!(loads.iter().sum::<usize>(), cluster.0.slots().records().len());
}

#[test]
fn three_five_three_nodes_move_no_slot_too_many() {
    let mut cluster = Cluster(StateMachine::new());
    let runs: Vec<Run> = (1..=5).map(|node| run(node, 1)).collect();
    for run in &runs {
        cluster.ok(register(*run));
    }
    assert_eq!(settle(&mut cluster, &runs[..3]), 0);
    check_balanced(&cluster, &runs[..3]);
    assert!(cluster.0.slots().records().iter().all(|record| record.second.is_some()));
    assert_eq!(settle(&mut cluster, &runs), 4096 / 5 * 2);
    check_balanced(&cluster, &runs);
    for run in &runs[3..] {
        cluster.ok(Command::Drain { node: run.node, on: true });
    }
    assert_eq!(settle(&mut cluster, &runs), 819 + 819);
    check_balanced(&cluster, &runs[..3]);
    assert!(cluster.0.slots().records().iter().all(|record| !record.names(runs[3]) && !record.names(runs[4])));
    cluster.ok(Command::Remove { node: runs[3].node });
}

#[test]
fn seconds_are_spread_and_never_the_owner() {
    let mut cluster = Cluster::new(120, 4);
    let runs: Vec<Run> = (1..=4).map(|node| run(node, 1)).collect();
    settle(&mut cluster, &runs);
    let mut seconds: BTreeMap<Run, usize> = BTreeMap::new();
    for record in cluster.0.slots().records() {
        assert_ne!(record.owner, record.second);
        *seconds.entry(record.second.expect("has one")).or_default() += 1;
    }
    assert!(seconds.values().all(|count| (29..=31).contains(count)), "{seconds:?}");
}

#[test]
fn a_node_alone_has_no_second_and_nobody_plans_for_nobody() {
    let mut cluster = Cluster::new(8, 1);
    assert_eq!(cluster.0.plan(&[]), []);
    settle(&mut cluster, &[run(1, 1)]);
    assert_eq!(cluster.load(run(1, 1)), 8);
    // The last one that drains keeps what it has.
    cluster.ok(Command::Drain { node: run(1, 1).node, on: true });
    assert_eq!(cluster.0.plan(&[run(1, 1)]), []);
    assert_eq!(cluster.0.plan(&[run(1, 2), run(7, 1)]), [], "nobody who is not registered");
}

#[test]
fn a_slot_moves_to_its_second_where_it_can() {
    let mut cluster = Cluster::new(10, 3);
    let (a, b, c) = (run(1, 1), run(2, 1), run(3, 1));
    cluster.assign(&[a]);
    for number in 0..10 {
        cluster.second(number, if number < 4 { b } else { c });
    }
    settle(&mut cluster, &[a, b, c]);
    let kept = (0..4).filter(|number| cluster.record(*number).owner == Some(b)).count();
    assert_eq!((kept, cluster.load(b)), (3, 3), "all that b got had been copied to it");
}

#[test]
fn a_move_to_a_run_that_is_gone_is_given_up() {
    let mut cluster = Cluster::new(4, 3);
    let (a, b, c) = (run(1, 1), run(2, 1), run(3, 1));
    cluster.assign(&[a]);
    cluster.begin_move(0, b);
    let id = cluster.record(0).moving.expect("moves").id;
    let abort = Command::Abort { moves: vec![(slot(0), id)] };
    assert_eq!(cluster.0.plan(&[a, c]).first(), Some(&abort));
    assert!(!cluster.0.plan(&[a, b, c]).contains(&abort));
    let mut late = LateMoves::default();
    assert_eq!(late.look(100, cluster.0.slots(), 5000), None);
    assert_eq!(late.look(5099, cluster.0.slots(), 5000), None);
    assert_eq!(late.look(5100, cluster.0.slots(), 5000), Some(abort));
    cluster.ok(Command::Abort { moves: vec![(slot(0), id)] });
    cluster.begin_move(0, b);
    assert_eq!(late.look(5200, cluster.0.slots(), 5000), None, "another move, another time");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn from_any_spread_the_plan_balances_in_the_fewest_moves(
        owners in proptest::collection::vec(0..5u64, 40),
        draining in proptest::collection::vec(any::<bool>(), 5),
        lives in 1..=5usize,
    ) {
        let mut cluster = Cluster::new(40, 5);
        for (number, owner) in owners.iter().enumerate() {
            // One slot at a time to the one wanted: `Assign` fills what is empty.
            if number == 0 {
                cluster.assign(&[run(1, 1)]);
            }
            if cluster.begin_move(number as u16, run(owner + 1, 1)) == 1 {
                let moves = vec![(slot(number as u16), cluster.record(number as u16).moving.expect("moves").id)];
                cluster.ok(Command::Done { moves });
            }
        }
        for (n, drains) in draining.iter().enumerate() {
            cluster.ok(Command::Drain { node: run(n as u64 + 1, 1).node, on: *drains });
        }
        let live: Vec<Run> = (1..=lives as u64).map(|node| run(node, 1)).collect();
        let targets: Vec<Run> = live.iter().copied().filter(|run| cluster.0.members().takes_slots(*run)).collect();
        // What the dead own waits for its take.
        let dead: Vec<Run> = (lives as u64 + 1..=5).map(|node| run(node, 1)).collect();
        for run in dead {
            cluster.take(run, &live);
        }
        let loads = cluster.0.slots().loads();
        let moved = settle(&mut cluster, &live);
        if targets.is_empty() {
            prop_assert_eq!(moved, 0);
        } else {
            prop_assert_eq!(moved, fewest(&loads, &targets));
            check_balanced(&cluster, &targets);
        }
    }
}
