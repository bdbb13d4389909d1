//! What takes, seconds and moves do to a slot, and which of them wins.

use enfilade_registry::{Command, CopyId, MOVING_MAX, MoveId, NodeId, Origin, Refusal, Run, Slot, SlotRecord, Term};

use crate::{Cluster, register, run, slot};

const A: Run = Run { node: NodeId(1), generation: enfilade_registry::Generation(1) };
const B: Run = Run { node: NodeId(2), generation: enfilade_registry::Generation(1) };
const C: Run = Run { node: NodeId(3), generation: enfilade_registry::Generation(1) };

/// One slot at A, with B as its in-sync second, and C without anything.
fn in_sync_pair() -> Cluster {
    let mut cluster = Cluster::new(1, 3);
    cluster.assign(&[A]);
    assert_eq!(cluster.second(0, B), 1);
    assert_eq!(cluster.in_sync(0, true), 1);
    cluster
}

#[test]
fn a_take_prefers_the_second_that_has_everything() {
    let mut cluster = in_sync_pair();
    let copy = cluster.record(0).copy;
    assert_eq!(cluster.take(A, &[B, C]), 1);
    let record = cluster.record(0);
    assert_eq!((record.owner, record.term, record.origin), (Some(B), Term(2), Origin::Copy(copy)));
    assert_eq!((record.second, record.in_sync), (None, false), "owner and second never change in one commit");
    assert_eq!(cluster.take(A, &[B, C]), 0, "again it does nothing");
    assert_eq!(cluster.record(0), record);
}

#[test]
fn a_second_that_cannot_vouch_is_not_promoted() {
    type Spoil = fn(&mut Cluster);
    let cases: [(&str, Spoil, &[Run], Run); 5] = [
        ("not in sync", |cluster| assert_eq!(cluster.in_sync(0, false), 1), &[B, C], B),
        ("not live", |_| {}, &[C], C),
        ("restarted", |cluster| drop(cluster.ok(register(run(2, 2)))), &[run(2, 2), C], run(2, 2)),
        ("restarted, and the leader has not noticed", |cluster| drop(cluster.ok(register(run(2, 2)))), &[B, C], C),
        ("itself lost before", |cluster| assert_eq!(cluster.take(B, &[A, C]), 1), &[C], C),
    ];
    for (case, spoil, live, owner) in cases {
        let mut cluster = in_sync_pair();
        spoil(&mut cluster);
        cluster.take(A, live);
        let record = cluster.record(0);
        assert_eq!((record.owner, record.origin), (Some(owner), Origin::Gap), "{case}");
        assert_eq!((record.second, record.in_sync), (None, false), "{case}");
    }
}

#[test]
fn a_take_without_anybody_to_give_to_waits() {
    let mut cluster = in_sync_pair();
    for live in [&[][..], &[A], &[run(9, 1)]] {
        assert_eq!(cluster.take(A, live), 0);
        assert!(cluster.record(0).in_sync && cluster.record(0).owner == Some(A));
    }
    cluster.take(A, &[B]);
    assert_eq!(cluster.record(0).owner, Some(B), "the second came back with its copy");
}

#[test]
fn a_take_shares_slots_without_an_heir_evenly_and_clears_seconds() {
    let mut cluster = Cluster::new(30, 4);
    cluster.assign(&[A, B, C]);
    let d = run(4, 1);
    for number in 0..30 {
        if cluster.record(number).owner == Some(B) {
            cluster.second(number, A);
            cluster.in_sync(number, true);
        }
    }
    assert_eq!(cluster.take(A, &[B, C, d]), 20, "ten owned, ten seconded");
    assert_eq!((cluster.load(B), cluster.load(C), cluster.load(d)), (10, 10, 10));
    assert!(cluster.0.slots().records().iter().all(|record| !record.names(A) && !record.in_sync));
    let origins = cluster.0.slots().records().iter().filter(|record| record.origin == Origin::Gap).count();
    assert_eq!(origins, 10);
}

#[test]
fn draining_nodes_get_slots_only_if_nobody_else_is_there() {
    let mut cluster = Cluster::new(4, 3);
    cluster.assign(&[A]);
    cluster.ok(Command::Drain { node: B.node, on: true });
    assert_eq!(cluster.begin_move(0, B), 0);
    assert_eq!(cluster.second(0, B), 0);
    cluster.take(A, &[B, C]);
    assert_eq!(cluster.load(C), 4);
    cluster.take(C, &[B]);
    assert_eq!(cluster.load(B), 4);
}

#[test]
fn what_an_earlier_run_owned_stays_its_own_until_a_take() {
    let mut cluster = in_sync_pair();
    cluster.ok(register(run(1, 2)));
    assert_eq!(cluster.record(0).owner, Some(A));
    assert_eq!(cluster.begin_move(0, C), 0, "the dead have nothing to hand over");
    assert_eq!(cluster.take(A, &[run(1, 2), C]), 1);
    assert_ne!(cluster.record(0).owner, Some(A));
}

#[test]
fn a_second_is_chosen_where_there_is_none_or_one_that_must_go() {
    let mut cluster = in_sync_pair();
    assert_eq!(cluster.second(0, C), 0, "there is one");
    cluster.ok(Command::Drain { node: B.node, on: true });
    assert_eq!(cluster.second(0, A), 0, "the owner is not its own second");
    assert_eq!(cluster.second(0, C), 1);
    assert!(!cluster.record(0).in_sync);
    let stale = Command::Seconds { slots: vec![(slot(0), Term(9))], second: C };
    assert_eq!(cluster.count(stale), 0);
}

#[test]
fn a_late_word_for_a_copy_that_was_given_up_is_not_believed() {
    let mut cluster = in_sync_pair();
    let record = cluster.record(0);
    let late = |in_sync| Command::InSync { slots: vec![(slot(0), record.term, record.copy)], second: B, in_sync };
    assert_eq!(cluster.count(late(false)), 1);
    assert_eq!(cluster.count(late(true)), 0, "it was said of the copy before");
    assert_eq!(cluster.count(late(false)), 0);
    assert!(!cluster.record(0).in_sync && cluster.record(0).copy > record.copy);
    assert_eq!(cluster.in_sync(0, true), 1);
    // A second that restarted has nothing, whatever its owner thinks.
    cluster.in_sync(0, false);
    cluster.ok(register(run(2, 2)));
    assert_eq!(cluster.in_sync(0, true), 0);
}

#[test]
fn a_move_swaps_owner_and_second() {
    let mut cluster = in_sync_pair();
    assert_eq!(cluster.begin_move(0, C), 1);
    let id = cluster.record(0).moving.expect("moves").id;
    assert_eq!(id, MoveId(cluster.0.applied()));
    assert_eq!(cluster.begin_move(0, B), 0, "one move at a time");
    let done = Command::Done { moves: vec![(slot(0), id)] };
    assert_eq!(cluster.count(done.clone()), 1);
    let at = cluster.0.applied();
    let expected = SlotRecord {
        term: Term(2),
        owner: Some(C),
        origin: Origin::Move(id),
        since: at,
        second: Some(A),
        in_sync: true,
        copy: CopyId(at),
        moving: None,
    };
    assert_eq!(cluster.record(0), expected);
    assert_eq!(cluster.count(done), 0);
}

#[test]
fn exactly_one_of_done_abort_and_take_wins() {
    let orders: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut cluster = in_sync_pair();
        cluster.begin_move(0, C);
        let moves = vec![(slot(0), cluster.record(0).moving.expect("moves").id)];
        let upto = cluster.0.applied();
        let ends = [
            Command::Done { moves: moves.clone() },
            Command::Abort { moves: moves.clone() },
            Command::Take { lost: A, live: vec![B, C], epoch: 0, upto },
        ];
        let won: Vec<usize> = order
            .into_iter()
            .filter(|n| {
                let owner = cluster.record(0).owner;
                let moved = cluster.count(ends[*n].clone()) > 0;
                // After a Done, the take only clears the second; after an abort it is an ordinary one.
                moved && (*n != 2 || owner == Some(A) && cluster.record(0).moving.is_none())
            })
            .collect();
        assert_eq!(won[0], order[0], "the first wins");
        assert!(!won[1..].iter().any(|n| *n != 2), "no move ends twice: {order:?}");
        assert_eq!(cluster.record(0).moving, None);
        assert_eq!(cluster.0.slots().moving(), 0);
    }
}

#[test]
fn an_abort_keeps_the_owner_under_a_new_term() {
    let mut cluster = in_sync_pair();
    let before = cluster.record(0);
    cluster.begin_move(0, C);
    let id = cluster.record(0).moving.expect("moves").id;
    let wrong = Command::Abort { moves: vec![(slot(0), MoveId(id.0 + 1))] };
    assert_eq!(cluster.count(wrong), 0);
    assert_eq!(cluster.count(Command::Abort { moves: vec![(slot(0), id)] }), 1);
    assert_eq!(cluster.record(0), SlotRecord { term: Term(2), ..before });
    assert_eq!(cluster.count(Command::Done { moves: vec![(slot(0), id)] }), 0);
}

#[test]
fn a_done_checks_both_generations() {
    let mut cluster = in_sync_pair();
    cluster.begin_move(0, C);
    let moves = vec![(slot(0), cluster.record(0).moving.expect("moves").id)];
    cluster.ok(register(run(3, 2)));
    assert_eq!(cluster.count(Command::Done { moves: moves.clone() }), 0, "the target's memory is gone");
    cluster.ok(Command::Abort { moves });

    let mut cluster = in_sync_pair();
    cluster.begin_move(0, C);
    let moves = vec![(slot(0), cluster.record(0).moving.expect("moves").id)];
    cluster.ok(register(run(1, 2)));
    assert_eq!(cluster.count(Command::Done { moves }), 1, "the target has everything, the owner is gone");
    assert_eq!((cluster.record(0).owner, cluster.record(0).second), (Some(C), None));
    assert!(!cluster.record(0).in_sync);
}

#[test]
fn sixty_four_slots_move_at_a_time() {
    let mut cluster = Cluster::new(100, 2);
    cluster.assign(&[A]);
    let slots: Vec<(Slot, Term)> = (0..100).map(|number| (slot(number), Term(1))).collect();
    assert_eq!(cluster.count(Command::Move { slots: slots.clone(), to: B }), MOVING_MAX);
    assert_eq!(cluster.count(Command::Move { slots: slots.clone(), to: B }), 0);
    let moves = vec![(slot(0), cluster.record(0).moving.expect("moves").id)];
    cluster.ok(Command::Done { moves });
    assert_eq!(cluster.count(Command::Move { slots, to: B }), 1);
}

#[test]
fn the_version_of_the_map_rises_with_changes_only() {
    let mut cluster = in_sync_pair();
    let version = cluster.0.map_version();
    cluster.ok(Command::Tick { elapsed_ms: 1 });
    cluster.take(C, &[A, B]);
    cluster.in_sync(0, true);
    assert_eq!(cluster.0.map_version(), version);
    let shared = cluster.0.slots().clone();
    cluster.in_sync(0, false);
    assert_eq!(cluster.0.map_version(), cluster.0.applied());
    assert!(shared.get(slot(0)).in_sync, "readers keep what they hold");
}

#[test]
fn a_batch_shares_one_index_and_each_command_stands_alone() {
    let mut cluster = Cluster::new(2, 1);
    let commands = [
        Command::Assign { live: vec![A] },
        Command::Drain { node: NodeId(9), on: true },
        Command::Tick { elapsed_ms: 5 },
    ];
    let results = cluster.0.apply_batch(7, &commands);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((cluster.0.applied(), cluster.0.now_ms(), cluster.record(0).since), (7, 5, 7));
    let again = cluster.0.apply_batch(7, &commands);
    assert!(again.iter().all(|result| *result == Err(Refusal::OldIndex { applied: 7 })));
}

#[test]
fn commands_are_bounded() {
    let mut cluster = Cluster::new(2, 1);
    let moves = vec![(slot(0), MoveId(1)); 4097];
    assert_eq!(cluster.apply(Command::Abort { moves }), Err(Refusal::TooManySlots));
}
