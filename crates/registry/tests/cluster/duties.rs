//! The duty machine, case by case: the registry's records in, actions out.

use enfilade_registry::{
    Admission, Command, Duty, DutyAction, DutyEvent, Fence, Generation, Holds, Lane, MoveId, NodeId, NotServed, Origin,
    PeerMessage, Run, SlotRecord, Term, Timing,
};

use crate::{Cluster, run, slot};

const A: Run = Run { node: NodeId(1), generation: Generation(1) };
const B: Run = Run { node: NodeId(2), generation: Generation(1) };
const C: Run = Run { node: NodeId(3), generation: Generation(1) };

fn fence(term: u64) -> Fence {
    Fence { slot: slot(0), term: Term(term) }
}

fn duty(me: Run) -> Duty {
    Duty::new(me, slot(0), Timing::default())
}

/// One slot, and the duties of three runs for it.
struct Case {
    cluster: Cluster,
    a: Duty,
    b: Duty,
    now_ms: u64,
}

impl Case {
    /// `A` serves, `B` knows.
    fn new() -> Case {
        let mut cluster = Cluster::new(1, 3);
        cluster.assign(&[A]);
        let mut case = Case { cluster, a: duty(A), b: duty(B), now_ms: 0 };
        assert_eq!(case.apply_a(), [DutyAction::Load { fence: fence(1), origin: Origin::Assigned }]);
        assert_eq!(case.on_a(DutyEvent::Loaded(Term(1))), [DutyAction::Serve(fence(1))]);
        case.apply_b();
        case
    }

    fn record(&self) -> SlotRecord {
        self.cluster.record(0)
    }

    fn on_a(&mut self, event: DutyEvent) -> Vec<DutyAction> {
        self.a.on(self.now_ms, event)
    }

    fn on_b(&mut self, event: DutyEvent) -> Vec<DutyAction> {
        self.b.on(self.now_ms, event)
    }

    fn apply_a(&mut self) -> Vec<DutyAction> {
        let record = self.record();
        self.on_a(DutyEvent::Applied(record))
    }

    fn apply_b(&mut self) -> Vec<DutyAction> {
        let record = self.record();
        self.on_b(DutyEvent::Applied(record))
    }

    /// Begins a move to `B` and freezes; gives its id.
    fn frozen(&mut self) -> MoveId {
        assert_eq!(self.cluster.begin_move(0, B), 1);
        let id = self.record().moving.expect("moves").id;
        let copy = DutyAction::CopyTo { fence: self.a.fence(), lane: Lane::Move(id), to: B, adopted: false };
        assert_eq!(self.apply_a(), [copy]);
        assert_eq!(self.apply_b(), []);
        assert!(self.a.is_serving() && self.a.holds(self.a.fence()) == Holds::Yes, "it copies while it serves");
        let freeze = DutyAction::Freeze { fence: self.a.fence(), id, to: B };
        assert_eq!(self.on_a(DutyEvent::CaughtUp(Lane::Move(id))), [freeze]);
        assert_eq!(self.a.holds(self.a.fence()), Holds::Paused);
        assert_eq!(self.on_a(DutyEvent::Frozen { id, digest: [7; 32] }), []);
        id
    }

    fn ready(&mut self, id: MoveId, digest: [u8; 32]) -> Vec<DutyAction> {
        let message = PeerMessage::Ready { id, generation: B.generation, digest };
        assert_eq!(self.on_b(DutyEvent::Received { id, digest }), [DutyAction::Send { to: A, message }]);
        self.on_a(DutyEvent::Peer { from: B, message })
    }
}

fn propose_done(id: MoveId) -> DutyAction {
    DutyAction::Propose(Command::Done { moves: vec![(slot(0), id)] })
}

fn propose_abort(id: MoveId) -> DutyAction {
    DutyAction::Propose(Command::Abort { moves: vec![(slot(0), id)] })
}

#[test]
fn an_owner_serves_once_it_has_loaded_and_messages_name_the_term() {
    let mut case = Case::new();
    assert_eq!(case.a.admit(true, Term(1), 10), Admission::Run(fence(1)));
    assert_eq!(case.a.admit(false, Term(1), 10), Admission::Refuse(NotServed::NotReady), "no lease");
    assert_eq!(case.a.admit(true, Term(0), 10), Admission::Refuse(NotServed::NotOwner), "a stale edge");
    assert_eq!(case.a.admit(true, Term(2), 10), Admission::Refuse(NotServed::NotReady), "a stale owner");
    assert_eq!(case.b.admit(true, Term(1), 10), Admission::Refuse(NotServed::NotOwner));
    assert_eq!((case.a.holds(fence(1)), case.a.holds(fence(2))), (Holds::Yes, Holds::Gone));
    assert_eq!(case.b.holds(fence(1)), Holds::Gone);
    let mut fresh = duty(A);
    fresh.on(0, DutyEvent::Applied(case.record()));
    assert_eq!(fresh.admit(true, Term(1), 1), Admission::Refuse(NotServed::NotReady), "not loaded");
    assert_eq!(fresh.holds(fence(1)), Holds::Paused);
    assert_eq!(fresh.on(0, DutyEvent::Loaded(Term(9))), [], "that was asked for another term");
}

#[test]
fn a_planned_move_goes_through() {
    let mut case = Case::new();
    let id = case.frozen();
    assert_eq!(case.a.admit(true, Term(1), 10), Admission::Queue);
    assert_eq!(case.ready(id, [7; 32]), [propose_done(id)]);
    case.cluster.ok(Command::Done { moves: vec![(slot(0), id)] });
    let lane = Lane::Second(case.record().copy);
    assert_eq!(
        case.apply_a(),
        [
            DutyAction::CopyEnds { lane: Lane::Move(id) },
            DutyAction::HandOver { fence: fence(1), id, to: B },
            DutyAction::Adopt { lane, term: Term(2) },
        ]
    );
    assert_eq!(case.a.holds(fence(1)), Holds::Gone);
    assert_eq!(case.a.admit(true, Term(1), 10), Admission::Refuse(NotServed::NotOwner));
    assert_eq!(case.apply_b(), [DutyAction::Load { fence: fence(2), origin: Origin::Move(id) }]);
    let copy = DutyAction::CopyTo { fence: fence(2), lane, to: A, adopted: true };
    assert_eq!(
        case.on_b(DutyEvent::Loaded(Term(2))),
        [copy, DutyAction::Serve(fence(2))],
        "nothing is served without the copy"
    );
    assert_eq!(case.a.finishes(id), Some(B));
    case.now_ms = 59_999;
    assert_eq!(case.on_a(DutyEvent::Tick), []);
    case.now_ms = 60_000;
    assert_eq!(case.on_a(DutyEvent::Tick), [DutyAction::FinishOver { id }]);
    assert_eq!(case.a.finishes(id), None);
}

#[test]
fn only_an_applied_abort_unfreezes() {
    let mut case = Case::new();
    let id = case.frozen();
    case.now_ms = 4_999;
    assert_eq!(case.on_a(DutyEvent::Tick), []);
    case.now_ms = 5_000;
    assert_eq!(case.on_a(DutyEvent::Tick), [propose_abort(id)]);
    assert_eq!(case.on_a(DutyEvent::Tick), [], "not with every tick");
    case.now_ms = 5_500;
    assert_eq!(case.on_a(DutyEvent::Tick), [propose_abort(id)], "but again");
    assert_eq!(case.a.holds(fence(1)), Holds::Paused, "whatever its clock says");
    case.cluster.ok(Command::Abort { moves: vec![(slot(0), id)] });
    let renew = DutyAction::Renew { old: fence(1), new: fence(2) };
    assert_eq!(case.apply_a(), [DutyAction::CopyEnds { lane: Lane::Move(id) }, renew]);
    assert_eq!((case.a.holds(fence(1)), case.a.holds(fence(2))), (Holds::Gone, Holds::Yes));
    assert_eq!(case.apply_b(), [DutyAction::Forget { lane: Lane::Move(id) }]);
    assert_eq!(case.on_b(DutyEvent::Received { id, digest: [7; 32] }), [], "nobody to tell");
    let late = PeerMessage::Ready { id, generation: B.generation, digest: [7; 32] };
    assert_eq!(case.on_a(DutyEvent::Peer { from: B, message: late }), []);
}

#[test]
fn a_target_that_has_something_else_is_refused() {
    let mut case = Case::new();
    let id = case.frozen();
    let other = |from, generation| DutyEvent::Peer {
        from,
        message: PeerMessage::Ready { id, generation: Generation(generation), digest: [7; 32] },
    };
    assert_eq!(case.on_a(other(C, 1)), [], "not the target");
    assert_eq!(case.on_a(other(run(2, 2), 2)), [], "another run of it");
    assert_eq!(case.ready(id, [8; 32]), [propose_abort(id)]);
    assert_eq!(case.ready(id, [7; 32]), [], "no second chance");
}

#[test]
fn the_queue_of_a_frozen_slot_is_bounded() {
    let mut case = Case::new();
    let id = case.frozen();
    for _ in 0..255 {
        assert_eq!(case.a.admit(true, Term(1), 1), Admission::Queue);
    }
    assert_eq!(case.a.admit(true, Term(1), 1 << 20), Admission::Refuse(NotServed::Busy), "bytes");
    assert_eq!(case.a.admit(true, Term(1), 1), Admission::Queue);
    assert_eq!(case.a.admit(true, Term(1), 1), Admission::Refuse(NotServed::Busy), "messages");
    case.a.left_queue(1);
    assert_eq!(case.a.admit(true, Term(1), 1), Admission::Queue);
    case.cluster.ok(Command::Abort { moves: vec![(slot(0), id)] });
    case.apply_a();
    assert_eq!(case.a.admit(true, Term(2), 1), Admission::Run(fence(2)));
}

#[test]
fn a_take_releases_and_ends_what_was_being_finished() {
    let mut case = Case::new();
    let id = case.frozen();
    case.cluster.take(A, &[C]);
    let ends = DutyAction::CopyEnds { lane: Lane::Move(id) };
    assert_eq!(case.apply_a(), [ends, DutyAction::Release { fence: fence(1) }]);

    let mut case = Case::new();
    let id = case.frozen();
    case.ready(id, [7; 32]);
    case.cluster.ok(Command::Done { moves: vec![(slot(0), id)] });
    case.apply_a();
    case.cluster.take(B, &[A, C]);
    let copy = case.record().origin;
    assert!(matches!(copy, Origin::Copy(_)), "A is B's second");
    let load = DutyAction::Load { fence: fence(3), origin: copy };
    assert_eq!(case.apply_a(), [DutyAction::FinishOver { id }, load], "and its copy is not forgotten");
}

#[test]
fn what_was_frozen_is_a_copy_even_if_the_end_of_the_move_was_never_seen() {
    let mut case = Case::new();
    let id = case.frozen();
    case.ready(id, [7; 32]);
    case.cluster.ok(Command::Done { moves: vec![(slot(0), id)] });
    let lane = Lane::Second(case.record().copy);
    case.cluster.take(B, &[A, C]);
    let load = DutyAction::Load { fence: fence(3), origin: case.record().origin };
    let ends = DutyAction::CopyEnds { lane: Lane::Move(id) };
    let adopt = DutyAction::Adopt { lane, term: Term(3) };
    assert_eq!(case.apply_a(), [ends, adopt, DutyAction::Release { fence: fence(1) }, load]);
}

#[test]
fn calls_are_finished_across_a_second_move() {
    let mut case = Case::new();
    let id = case.frozen();
    case.ready(id, [7; 32]);
    case.cluster.ok(Command::Done { moves: vec![(slot(0), id)] });
    case.apply_a();
    case.cluster.begin_move(0, C);
    let next = case.record().moving.expect("moves").id;
    case.apply_a();
    case.cluster.ok(Command::Done { moves: vec![(slot(0), next)] });
    let lane = Lane::Second(case.record().copy);
    assert_eq!(case.apply_a(), [DutyAction::Forget { lane }], "B is C's second");
    assert_eq!(case.a.finishes(id), Some(B), "B finishes for C, and A for B");
    assert_eq!(case.on_a(DutyEvent::Finished(id)), []);
    assert_eq!(case.a.finishes(id), None);
}

#[test]
fn a_slot_that_went_away_and_came_back_is_another_one() {
    let mut case = Case::new();
    case.cluster.take(A, &[C]);
    case.cluster.take(C, &[A]);
    let load = DutyAction::Load { fence: fence(3), origin: Origin::Gap };
    assert_eq!(case.apply_a(), [DutyAction::Release { fence: fence(1) }, load]);
    assert_eq!(case.a.on(0, DutyEvent::Loaded(Term(1))), []);
    assert_eq!(case.a.on(0, DutyEvent::Loaded(Term(3))), [DutyAction::Serve(fence(3))]);
}

#[test]
fn a_move_that_is_aborted_while_the_owner_loads_changes_its_term_only() {
    let mut cluster = Cluster::new(1, 2);
    cluster.assign(&[A]);
    let mut a = duty(A);
    a.on(0, DutyEvent::Applied(cluster.record(0)));
    cluster.begin_move(0, B);
    assert_eq!(a.on(0, DutyEvent::Applied(cluster.record(0))), [], "nothing to copy yet");
    let id = cluster.record(0).moving.expect("moves").id;
    cluster.ok(Command::Abort { moves: vec![(slot(0), id)] });
    let renew = DutyAction::Renew { old: fence(1), new: fence(2) };
    assert_eq!(a.on(0, DutyEvent::Applied(cluster.record(0))), [renew]);
    assert_eq!(a.on(0, DutyEvent::Loaded(Term(1))), [DutyAction::Serve(fence(2))]);
}

#[test]
fn old_records_are_ignored() {
    let mut case = Case::new();
    let old = case.record();
    case.cluster.take(A, &[C]);
    case.apply_a();
    assert_eq!(case.on_a(DutyEvent::Applied(old)), []);
    assert_eq!(case.a.holds(fence(1)), Holds::Gone);
}

#[test]
fn the_second_is_filled_declared_and_given_up_by_the_registry_only() {
    let mut case = Case::new();
    case.cluster.second(0, B);
    let copy = case.record().copy;
    let lane = Lane::Second(copy);
    assert_eq!(case.apply_a(), [DutyAction::CopyTo { fence: fence(1), lane, to: B, adopted: false }]);
    assert_eq!(case.apply_b(), []);
    let say = |copy, in_sync| {
        let slots = vec![(slot(0), Term(1), copy)];
        DutyAction::Propose(Command::InSync { slots, second: B, in_sync })
    };
    assert_eq!(case.on_a(DutyEvent::CaughtUp(lane)), [say(copy, true)]);
    case.now_ms = 500;
    assert_eq!(case.on_a(DutyEvent::Tick), [say(copy, true)], "until it is applied");
    case.cluster.in_sync(0, true);
    assert_eq!(case.apply_a(), []);
    case.now_ms = 1000;
    assert_eq!(case.on_a(DutyEvent::Tick), []);
    assert_eq!(case.on_a(DutyEvent::GivenUp(lane)), [say(copy, false)]);
    assert_eq!(case.on_a(DutyEvent::GivenUp(lane)), []);
    assert_eq!(case.on_a(DutyEvent::CaughtUp(lane)), [], "too late");
    case.cluster.in_sync(0, false);
    let next = case.record().copy;
    let again = DutyAction::CopyTo { fence: fence(1), lane: Lane::Second(next), to: B, adopted: false };
    assert_eq!(case.apply_a(), [again], "it is filled again, under another id");
    assert_eq!(case.apply_b(), [], "the owner will say when it begins");
    assert_eq!(case.on_a(DutyEvent::GivenUp(lane)), [], "that was the copy before");
    case.cluster.take(B, &[A]);
    assert_eq!(case.apply_a(), [DutyAction::CopyEnds { lane: Lane::Second(next) }]);
    let upto = Lane::Second(case.record().copy);
    assert_eq!(case.apply_b(), [DutyAction::Forget { lane: upto }]);
}

#[test]
fn a_copy_that_arrives_before_its_move_is_applied_waits_for_it() {
    let mut case = Case::new();
    case.cluster.begin_move(0, B);
    let id = case.record().moving.expect("moves").id;
    assert_eq!(case.on_b(DutyEvent::Received { id, digest: [7; 32] }), []);
    let message = PeerMessage::Ready { id, generation: B.generation, digest: [7; 32] };
    assert_eq!(case.apply_b(), [DutyAction::Send { to: A, message }]);
    case.now_ms = 500;
    assert_eq!(case.on_b(DutyEvent::Tick), [DutyAction::Send { to: A, message }], "in case it was lost");
    case.cluster.take(A, &[C]);
    assert_eq!(case.apply_b(), [DutyAction::Forget { lane: Lane::Move(id) }]);
}
