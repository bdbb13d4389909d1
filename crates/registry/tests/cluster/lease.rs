//! Leases, case by case: when an owner stops, when its slots are given away, and who is not acknowledged.

use enfilade_registry::{
    Ack, Command, Heartbeat, Holder, Keeper, LeaseRefused, NodeId, Receipt, Run, Timing, TimingError,
};

use crate::{Cluster, register, run};

fn timing() -> Timing {
    Timing::default()
}

const A: Run = Run { node: NodeId(1), generation: enfilade_registry::Generation(1) };
const B: Run = Run { node: NodeId(2), generation: enfilade_registry::Generation(1) };
const C: Run = Run { node: NodeId(3), generation: enfilade_registry::Generation(1) };

fn ack(seq: u64, applied: u64) -> Ack {
    Ack { seq, applied }
}

#[test]
fn default_times_are_sound_and_others_say_what_to_change() {
    assert_eq!(timing().check(), Ok(()));
    let cases = [
        (Timing { act_ms: 2300, ..timing() }, "raise give_away_ms above 2556 or lower act_ms"),
        (Timing { give_away_ms: 2223, ..timing() }, "raise give_away_ms above 2223"),
        (Timing { election_max_ms: 700, ..timing() }, "raise act_ms, or lower the others"),
        (Timing { heartbeat_ms: 450, ..timing() }, "raise act_ms, or lower the others"),
        (Timing { raft_heartbeat_ms: 200, ..timing() }, "at least twice raft_heartbeat_ms"),
        (Timing { election_min_ms: 500, ..timing() }, "below election_max_ms"),
        (Timing { fenced_ms: 400, ..timing() }, "at least twice heartbeat_ms"),
        (Timing { hold_ms: 5000, ..timing() }, "raise hold_ms"),
        (Timing { copy_ms: 0, ..timing() }, "copy_ms is 0"),
        (Timing { act_ms: u64::MAX, ..timing() }, "lower act_ms"),
    ];
    for (timing, says) in cases {
        let error: TimingError = timing.check().expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(Timing { give_away_ms: 2224, ..timing() }.check(), Ok(()));
}

#[test]
fn an_owner_acts_until_two_seconds_after_it_sent() {
    let mut holder = Holder::new(A, timing());
    assert!(!holder.may_act(0) && holder.is_fenced());
    let beat = holder.beat(1000, vec![C.node]);
    assert_eq!(beat, Heartbeat { run: A, seq: 1, fenced: true, unreachable: vec![C.node] });
    holder.acked(1900, ack(1, 0));
    assert_eq!(holder.until_ms(), 3000, "from the sending, not from the answer");
    assert!(holder.may_act(2999) && !holder.may_act(3000) && holder.is_fenced());
}

#[test]
fn an_ack_counts_once_its_index_is_applied() {
    let mut holder = Holder::new(A, timing());
    holder.beat(0, vec![]);
    holder.acked(100, ack(1, 7));
    holder.applied(6);
    assert!(!holder.may_act(100));
    holder.applied(7);
    assert!(holder.may_act(100));
    // A later ack whose index is not applied takes nothing away, and gives nothing yet.
    holder.beat(1000, vec![]);
    holder.acked(1100, ack(2, 9));
    assert!(holder.may_act(1999));
    holder.applied(9);
    assert_eq!(holder.until_ms(), 3000);
}

#[test]
fn a_fenced_owner_ignores_what_it_sent_before() {
    let mut holder = Holder::new(A, timing());
    holder.beat(0, vec![]);
    holder.acked(10, ack(1, 0));
    holder.beat(1900, vec![]);
    assert!(!holder.may_act(2000));
    holder.acked(2001, ack(2, 0));
    assert!(!holder.may_act(2001), "it was sent before the fence");
    assert!(holder.beat(2002, vec![]).fenced);
    holder.acked(2003, ack(3, 0));
    assert!(holder.may_act(2004) && !holder.beat(2005, vec![]).fenced);
}

#[test]
fn a_clock_that_jumps_fences_before_anything_else_happens() {
    // Nobody asked `may_act` while the machine slept: the ack that waited in the socket must not count.
    let mut holder = Holder::new(A, timing());
    holder.beat(0, vec![]);
    holder.acked(10, ack(1, 0));
    holder.beat(250, vec![]);
    holder.acked(2_100, ack(2, 0));
    assert!(!holder.may_act(2_100), "fenced at 2,000, and the second was sent before");
    // The same for an index that is applied too late.
    let mut holder = Holder::new(A, timing());
    holder.beat(0, vec![]);
    holder.acked(10, ack(1, 5));
    holder.applied(5);
    assert!(!holder.may_act(60_000));
}

#[test]
fn unknown_and_repeated_acks_give_nothing() {
    let mut holder = Holder::new(A, timing());
    holder.acked(0, ack(1, 0));
    holder.acked(0, ack(0, 0));
    assert!(!holder.may_act(0));
    holder.beat(0, vec![]);
    holder.beat(500, vec![]);
    holder.acked(600, ack(2, 0));
    holder.acked(700, ack(1, 0));
    assert_eq!(holder.until_ms(), 2500, "an earlier ack that comes late shortens nothing");
}

/// A leader with three registered nodes, and the heartbeats that they sent.
struct Lead {
    cluster: Cluster,
    keeper: Keeper,
    seqs: [u64; 4],
}

impl Lead {
    /// `A` owns everything.
    fn new() -> Lead {
        let mut cluster = Cluster::new(3, 3);
        cluster.assign(&[A]);
        let keeper = Keeper::elected(0, timing(), 0, cluster.0.slots().holders());
        Lead { cluster, keeper, seqs: [0; 4] }
    }

    fn hear(&mut self, now_ms: u64, run: Run, fenced: bool, unreachable: &[Run]) -> Result<Receipt, LeaseRefused> {
        let seq = &mut self.seqs[run.node.0 as usize];
        *seq += 1;
        let unreachable = unreachable.iter().map(|run| run.node).collect();
        let beat = Heartbeat { run, seq: *seq, fenced, unreachable };
        let members = self.cluster.0.members().clone();
        self.keeper.heard(now_ms, &beat, &members)
    }

    /// A heartbeat that is acknowledged at once, if it may be.
    fn beat(&mut self, now_ms: u64, run: Run, fenced: bool) -> Result<Ack, LeaseRefused> {
        let receipt = self.hear(now_ms, run, fenced, &[])?;
        let round = self.keeper.begin_round();
        self.keeper.acknowledge(now_ms, receipt, round, 0)
    }

    fn observe(&mut self, now_ms: u64) {
        let (members, slots) = (self.cluster.0.members().clone(), self.cluster.0.slots().clone());
        self.keeper.observe(now_ms, &members, &slots);
    }

    /// Looks every 100 ms from `from_ms` on while `live` beat; when `A` is lost.
    fn lost_at(&mut self, from_ms: u64, live: &[Run]) -> u64 {
        for now_ms in (from_ms..from_ms + 10_000).step_by(100) {
            for run in live {
                let _ = self.beat(now_ms, *run, false);
            }
            if self.keeper.lost(now_ms).contains(&A) {
                return now_ms;
            }
        }
        panic!("never lost");
    }
}

#[test]
fn slots_are_given_away_after_the_last_acknowledged_receipt() {
    let mut lead = Lead::new();
    lead.beat(100, A, false).expect("acknowledged");
    let unacknowledged = lead.hear(700, A, false, &[]);
    assert!(unacknowledged.is_ok());
    assert_eq!(lead.lost_at(800, &[B]), 2600);
    assert_eq!(lead.beat(2650, A, false), Err(LeaseRefused::TakePending));
    assert_eq!(lead.keeper.lost(2700), [A], "until it is taken");
    let live = lead.keeper.live(2700);
    assert_eq!(lead.keeper.takes(2700, 9), [Command::Take { lost: A, live, epoch: 0, upto: 9 }]);
}

#[test]
fn a_new_leader_waits_for_all() {
    let mut lead = Lead::new();
    assert_eq!(lead.lost_at(0, &[B, C]), 2500);
}

#[test]
fn a_round_from_before_the_heartbeat_proves_nothing() {
    let mut lead = Lead::new();
    let early = lead.keeper.begin_round();
    let receipt = lead.hear(0, A, false, &[]).expect("heard");
    assert_eq!(lead.keeper.acknowledge(5, receipt, early, 0), Err(LeaseRefused::RoundTooEarly));
    let round = lead.keeper.begin_round();
    let other = lead.hear(4, B, true, &[]).expect("heard");
    assert_eq!(lead.keeper.acknowledge(5, receipt, round, 3), Ok(ack(1, 3)));
    assert_eq!(lead.keeper.acknowledge(5, other, round, 3), Err(LeaseRefused::RoundTooEarly));
}

#[test]
fn an_acknowledgement_that_a_take_overtook_is_not_given() {
    let mut lead = Lead::new();
    let receipt = lead.hear(0, A, false, &[]).expect("heard");
    let round = lead.keeper.begin_round();
    lead.lost_at(0, &[B]);
    assert_eq!(lead.keeper.acknowledge(2500, receipt, round, 0), Err(LeaseRefused::TakePending));
    lead.cluster.take(A, &[B]);
    lead.keeper.took(A);
    lead.observe(2500);
    assert_eq!(lead.keeper.acknowledge(2500, receipt, round, 0), Err(LeaseRefused::TakePending));
    lead.beat(2600, A, true).expect("it begins anew, with nothing");
    assert!(!lead.keeper.live(2600).contains(&A), "not before it says that it heard");
    lead.beat(2700, A, false).expect("acknowledged");
    assert_eq!(lead.keeper.live(2700), [A, B]);
}

#[test]
fn an_owner_that_stays_fenced_does_not_hear_us() {
    let mut lead = Lead::new();
    lead.beat(0, B, false).expect("acknowledged");
    for now_ms in (0..1000).step_by(250) {
        lead.beat(now_ms, A, true).expect("it may have just lost its lease");
    }
    assert_eq!(lead.beat(1000, A, true), Err(LeaseRefused::Fenced));
    assert_eq!(lead.lost_at(1100, &[B]), 3300, "2.5 s after the last acknowledged receipt at 750");
    // One that holds nothing is acknowledged as long as it likes, and is never given slots.
    for now_ms in (0..5000).step_by(250) {
        lead.beat(now_ms, C, true).expect("harmless");
    }
    assert!(!lead.keeper.live(4800).contains(&C));
}

#[test]
fn a_pause_of_the_quorum_is_no_reason_to_take() {
    let mut lead = Lead::new();
    // For three seconds nothing is acknowledged, and everybody says that he is fenced.
    for now_ms in (0..3000).step_by(250) {
        for run in [A, B] {
            lead.hear(now_ms, run, true, &[]).expect("heard");
        }
        assert!(lead.keeper.lost(now_ms).is_empty(), "nobody is there to take anything");
    }
    lead.beat(3000, A, true).expect("it was not acknowledged while it was fenced");
    lead.beat(3000, B, true).expect("acknowledged");
    lead.beat(3250, A, false).expect("acknowledged");
    lead.beat(3250, B, false).expect("acknowledged");
    assert!(lead.keeper.lost(3300).is_empty());
    assert_eq!(lead.keeper.live(3300), [A, B]);
}

#[test]
fn a_leader_that_stood_still_waits_as_if_elected() {
    let mut lead = Lead::new();
    lead.beat(0, A, false).expect("acknowledged");
    lead.beat(0, B, false).expect("acknowledged");
    assert!(lead.keeper.lost(100).is_empty());
    lead.beat(9000, B, false).expect("the first that is heard again");
    assert!(lead.keeper.lost(9001).is_empty(), "A's heartbeats wait in the socket");
    lead.beat(9002, A, true).expect("acknowledged");
    assert_eq!(lead.lost_at(9100, &[B]), 11_600);
}

#[test]
fn the_only_owner_is_never_lost_and_gets_its_lease_again() {
    let mut lead = Lead::new();
    for now_ms in (0..20_000).step_by(250) {
        assert!(lead.keeper.lost(now_ms).is_empty());
        // It hears nothing for a long time.
        let _ = lead.beat(now_ms, A, now_ms < 15_000);
    }
    assert_eq!(lead.keeper.live(19_800), [A]);
}

#[test]
fn a_later_run_proves_that_the_earlier_one_is_gone() {
    let mut lead = Lead::new();
    lead.beat(0, A, false).expect("acknowledged");
    lead.beat(0, B, false).expect("acknowledged");
    lead.cluster.ok(register(run(1, 2)));
    lead.observe(10);
    assert_eq!(lead.keeper.lost(10), [A], "at once");
    assert_eq!(lead.beat(20, A, false), Err(LeaseRefused::Over));
    assert_eq!(lead.beat(20, run(1, 3), true), Err(LeaseRefused::NotRegistered));
    lead.seqs[1] = 0;
    lead.beat(20, run(1, 2), true).expect("the new run");
    lead.cluster.take(A, &[B]);
    lead.keeper.took(A);
    lead.observe(30);
    assert!(lead.keeper.lost(30).is_empty());
}

#[test]
fn a_slot_that_a_lost_run_gets_after_all_is_taken_too() {
    let mut lead = Lead::new();
    lead.cluster.begin_move(0, C);
    let moves = vec![(crate::slot(0), lead.cluster.record(0).moving.expect("moves").id)];
    lead.lost_at(0, &[B]);
    assert_eq!(lead.lost_at(2600, &[B]), 2600);
    lead.cluster.take(A, &[B]);
    lead.keeper.took(A);
    lead.observe(2700);
    lead.cluster.ok(Command::Done { moves });
    // The take won; a C that never spoke gets something by another move.
    lead.cluster.begin_move(1, C);
    let moves = vec![(crate::slot(1), lead.cluster.record(1).moving.expect("moves").id)];
    lead.cluster.ok(Command::Done { moves });
    lead.observe(2800);
    for now_ms in (2800..5300).step_by(100) {
        lead.beat(now_ms, B, false).expect("acknowledged");
        assert!(lead.keeper.lost(now_ms).is_empty(), "it is new among the holders");
    }
    lead.beat(5300, B, false).expect("acknowledged");
    assert_eq!(lead.keeper.lost(5300), [C]);
}

#[test]
fn an_owner_that_a_majority_cannot_reach_is_given_up() {
    let mut lead = Lead::new();
    for now_ms in (0..5000).step_by(250) {
        lead.hear(now_ms, B, false, &[A]).expect("heard");
        lead.hear(now_ms, C, false, &[A]).expect("heard");
        lead.beat(now_ms, A, false).expect("not long enough");
    }
    lead.hear(5100, B, false, &[A]).expect("heard");
    assert_eq!(lead.beat(5250, A, false), Err(LeaseRefused::Unreachable));
    lead.hear(5300, B, false, &[]).expect("heard");
    lead.beat(5400, A, false).expect("one of them reaches it again");
}

#[test]
fn of_two_nodes_that_do_not_see_each_other_neither_is_given_up() {
    let mut lead = Lead::new();
    for now_ms in (0..20_000).step_by(250) {
        lead.hear(now_ms, A, false, &[B]).expect("heard");
        lead.hear(now_ms, B, false, &[A]).expect("heard");
    }
    // A third that reaches both changes nothing.
    for now_ms in (20_000..40_000).step_by(250) {
        lead.hear(now_ms, A, false, &[B]).expect("heard");
        lead.hear(now_ms, B, false, &[A]).expect("heard");
        lead.hear(now_ms, C, false, &[]).expect("heard");
    }
}

#[test]
fn old_heartbeats_and_strangers_are_refused() {
    let mut lead = Lead::new();
    lead.hear(0, A, false, &[]).expect("heard");
    lead.seqs[1] -= 1;
    assert_eq!(lead.hear(10, A, true, &[]), Err(LeaseRefused::OldBeat));
    lead.cluster.take(C, &[]);
    lead.cluster.ok(Command::Remove { node: C.node });
    assert_eq!(lead.hear(10, C, true, &[]), Err(LeaseRefused::Over));
    let stranger = Heartbeat { run: run(9, 1), seq: 1, fenced: true, unreachable: vec![] };
    let members = lead.cluster.0.members().clone();
    assert_eq!(lead.keeper.heard(10, &stranger, &members), Err(LeaseRefused::NotRegistered));
}
