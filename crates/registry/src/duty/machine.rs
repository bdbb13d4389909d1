//! The machine: the slot's record as applied here, and what this run makes of it.

use super::queue::Admission;
use super::transfer::{Finishing, Incoming, Outgoing, Stage};
use super::{DutyAction, DutyEvent, Holds, PeerMessage};
use crate::copy::Lane;
use crate::{Command, CopyId, Fence, MoveId, NotServed, Origin, Run, Slot, SlotRecord, Term, Timing};

/// Between two proposals, or two `Ready`, of the same thing.
const AGAIN_MS: u64 = 500;

/// Most moves whose calls are being finished at once; the oldest gives way.
const FINISHING_MAX: usize = 8;

/// One slot, as one run sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    me: Run,
    slot: Slot,
    timing: Timing,
    record: SlotRecord,
    role: Role,
    outgoing: Option<Box<Outgoing>>,
    incoming: Option<Incoming>,
    finishing: Vec<Finishing>,
    second: Second,
}

/// What this run is to the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Other,
    /// Its owner, since this term, not ready.
    Loading(Term),
    Serving,
}

/// The copy at the second, as the owner sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    /// The copy that is being filled or kept.
    copy: Option<CopyId>,
    /// What the registry should say of it.
    wanted: Option<bool>,
    proposed_ms: Option<u64>,
}

impl Duty {
    /// A run that knows nothing of the slot yet.
    pub fn new(me: Run, slot: Slot, timing: Timing) -> Duty {
        Duty {
            me,
            slot,
            timing,
            record: SlotRecord::EMPTY,
            role: Role::Other,
            outgoing: None,
            incoming: None,
            finishing: Vec::new(),
            second: Second::default(),
        }
    }

    /// Takes an event in; gives what to do, in order.
    pub fn on(&mut self, now_ms: u64, event: DutyEvent) -> Vec<DutyAction> {
        let mut actions = Vec::new();
        match event {
            DutyEvent::Applied(record) => self.applied(now_ms, record, &mut actions),
            DutyEvent::Loaded(term) => self.loaded(term, now_ms, &mut actions),
            DutyEvent::CaughtUp(Lane::Second(copy)) => self.want_in_sync(now_ms, copy, true, &mut actions),
            DutyEvent::GivenUp(Lane::Second(copy)) => self.want_in_sync(now_ms, copy, false, &mut actions),
            DutyEvent::CaughtUp(Lane::Move(id)) => self.freeze(id, &mut actions),
            // The move's own time limit covers a target that does not answer.
            DutyEvent::GivenUp(Lane::Move(_)) => {}
            DutyEvent::Frozen { id, digest } => {
                if let Some(outgoing) = self.outgoing_at(id, |stage| stage == Stage::Freezing) {
                    outgoing.stage = Stage::Sealed(digest);
                }
            }
            DutyEvent::Received { id, digest } => {
                let early = Incoming { id, from: None, ready: None, said_ms: now_ms };
                let incoming = self.incoming.get_or_insert(early);
                if incoming.id == id {
                    incoming.ready = Some(digest);
                    self.say_ready(now_ms, &mut actions);
                }
            }
            DutyEvent::Peer { from, message } => self.heard(now_ms, from, message, &mut actions),
            DutyEvent::Finished(id) => self.finishing.retain(|finishing| finishing.id != id),
            DutyEvent::Tick => self.tick(now_ms, &mut actions),
        }
        actions
    }

    /// What becomes of a message that an edge sent under `term`. `may_act`: whether there is a lease right now.
    pub fn admit(&mut self, may_act: bool, term: Term, bytes: usize) -> Admission {
        if self.role == Role::Other || term < self.record.term {
            return Admission::Refuse(NotServed::NotOwner);
        }
        // A higher term is one that this node has yet to apply.
        if self.role != Role::Serving || term > self.record.term || !may_act {
            return Admission::Refuse(NotServed::NotReady);
        }
        match self.outgoing.as_mut().filter(|outgoing| outgoing.is_frozen()) {
            Some(outgoing) => outgoing.queue.admit(bytes),
            None => Admission::Run(self.fence()),
        }
    }

    /// A message that was queued is not there any more: its deadline passed, or its client left.
    pub fn left_queue(&mut self, bytes: usize) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.queue.left(bytes);
        }
    }

    /// Whether an effect of `fence` may leave, as far as the slot is concerned; ask the lease too.
    pub fn holds(&self, fence: Fence) -> Holds {
        let frozen = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_frozen());
        match self.role {
            _ if fence != self.fence() => Holds::Gone,
            Role::Other => Holds::Gone,
            Role::Serving if !frozen => Holds::Yes,
            Role::Loading(_) | Role::Serving => Holds::Paused,
        }
    }

    /// The fence of the present term.
    pub fn fence(&self) -> Fence {
        Fence { slot: self.slot, term: self.record.term }
    }

    /// Whether time alone makes this run do something for the slot. If not, [`DutyEvent::Tick`] changes nothing, whenever
    /// it comes: it may be left out until another event was taken in.
    pub fn waits(&self) -> bool {
        self.second.wanted.is_some()
            || self.outgoing.is_some()
            || self.incoming.is_some_and(|incoming| incoming.is_to_be_said())
            || !self.finishing.is_empty()
    }

    /// The record as last applied.
    pub fn record(&self) -> &SlotRecord {
        &self.record
    }

    /// Whether this run owns the slot and has loaded it.
    pub fn is_serving(&self) -> bool {
        self.role == Role::Serving
    }

    /// Whether this run finishes calls of the move, and for whom.
    pub fn finishes(&self, id: MoveId) -> Option<Run> {
        self.finishing.iter().find(|finishing| finishing.id == id).map(|finishing| finishing.to)
    }

    fn owns(&self) -> bool {
        self.role != Role::Other
    }

    fn outgoing_at(&mut self, id: MoveId, at: impl Fn(Stage) -> bool) -> Option<&mut Outgoing> {
        self.outgoing.as_deref_mut().filter(|outgoing| outgoing.id == id && at(outgoing.stage))
    }

    fn applied(&mut self, now_ms: u64, new: SlotRecord, actions: &mut Vec<DutyAction>) {
        if new.term < self.record.term || new == self.record {
            return;
        }
        let (old, old_fence) = (self.record, self.fence());
        self.record = new;
        let mine = new.owner == Some(self.me);
        self.end_finishing(&old, actions);
        if self.owns() && !(mine && new.since == old.since) {
            self.lost(now_ms, old_fence, actions);
        }
        self.follow_as_second(&old, actions);
        self.follow_as_target(now_ms, old.term, actions);
        if mine && !self.owns() {
            self.role = Role::Loading(new.term);
            actions.push(DutyAction::Load { fence: self.fence(), origin: new.origin });
        } else if mine && new.term > old.term {
            self.renewed(old_fence, actions);
        }
        self.follow_as_owner(now_ms, actions);
    }

    /// The slot went to another run, or went there and came back.
    fn lost(&mut self, now_ms: u64, fence: Fence, actions: &mut Vec<DutyAction>) {
        self.role = Role::Other;
        let copies = self.second.copy.map(Lane::Second).into_iter();
        let copies = copies.chain(self.outgoing.as_ref().map(|outgoing| Lane::Move(outgoing.id)));
        actions.extend(copies.map(|lane| DutyAction::CopyEnds { lane }));
        self.second = Second::default();
        let outgoing = self.outgoing.take();
        // Committed since the last record: the move's end, and the loss of its target, to which this run is the second.
        if let (Some(_), Origin::Copy(copy)) = (outgoing.as_ref().filter(|out| out.is_frozen()), self.record.origin)
            && self.record.owner == Some(self.me)
        {
            actions.push(DutyAction::Adopt { lane: Lane::Second(copy), term: self.record.term });
        }
        let moved = outgoing.filter(|outgoing| self.record.origin == Origin::Move(outgoing.id));
        let Some(moved) = moved else { return actions.push(DutyAction::Release { fence }) };
        actions.push(DutyAction::HandOver { fence, id: moved.id, to: moved.to });
        if self.finishing.len() == FINISHING_MAX {
            actions.push(DutyAction::FinishOver { id: self.finishing.remove(0).id });
        }
        let until_ms = now_ms.saturating_add(self.timing.drain_ms);
        self.finishing.push(Finishing { id: moved.id, to: moved.to, term: self.record.term, until_ms });
    }

    /// Calls are finished for the new owner and those it hands over to; a take ends them all.
    fn end_finishing(&mut self, old: &SlotRecord, actions: &mut Vec<DutyAction>) {
        let taken = self.record.since != old.since && !matches!(self.record.origin, Origin::Move(_));
        self.finishing.retain(|finishing| {
            let over = taken && self.record.term > finishing.term;
            if over {
                actions.push(DutyAction::FinishOver { id: finishing.id });
            }
            !over
        });
    }

    /// A move was aborted: the same owner, under a new term.
    fn renewed(&mut self, old: Fence, actions: &mut Vec<DutyAction>) {
        if let Some(outgoing) = self.outgoing.take() {
            actions.push(DutyAction::CopyEnds { lane: Lane::Move(outgoing.id) });
        }
        actions.push(DutyAction::Renew { old, new: self.fence() });
    }

    fn follow_as_second(&mut self, old: &SlotRecord, actions: &mut Vec<DutyAction>) {
        let new = &self.record;
        let (was, is) = (old.second == Some(self.me), new.second == Some(self.me));
        let promoted = new.owner == Some(self.me) && matches!(new.origin, Origin::Copy(_));
        if was && !is && !promoted {
            actions.push(DutyAction::Forget { lane: Lane::Second(new.copy) });
        }
        if is && new.in_sync && new.copy.0 == new.since && (!was || old.copy != new.copy) {
            actions.push(DutyAction::Adopt { lane: Lane::Second(new.copy), term: new.term });
        }
    }

    fn follow_as_target(&mut self, now_ms: u64, old_term: Term, actions: &mut Vec<DutyAction>) {
        let to_me = self.record.moving.filter(|moving| moving.to == self.me);
        let same = |incoming: &Incoming| to_me.is_some_and(|moving| moving.id == incoming.id);
        // A copy that came before the move was applied here waits for that, as long as the term is the same.
        let early = |incoming: &Incoming| incoming.from.is_none() && self.record.term == old_term;
        if let Some(incoming) = self.incoming.filter(|incoming| !same(incoming) && !early(incoming)) {
            self.incoming = None;
            if self.record.origin != Origin::Move(incoming.id) || self.record.owner != Some(self.me) {
                actions.push(DutyAction::Forget { lane: Lane::Move(incoming.id) });
            }
        }
        let Some(moving) = to_me else { return };
        let incoming =
            self.incoming.get_or_insert(Incoming { id: moving.id, from: None, ready: None, said_ms: now_ms });
        if incoming.from.is_none() && incoming.id == moving.id {
            incoming.from = self.record.owner;
            self.say_ready(now_ms, actions);
        }
    }

    /// What the record asks of an owner that serves: a copy for its second, a move.
    fn follow_as_owner(&mut self, now_ms: u64, actions: &mut Vec<DutyAction>) {
        if self.role != Role::Serving {
            return;
        }
        let record = self.record;
        let copy = record.second.map(|_| record.copy);
        if copy != self.second.copy {
            let ended = std::mem::replace(&mut self.second, Second { copy, ..Second::default() }).copy;
            match record.second {
                Some(to) => {
                    let (lane, adopted) = (Lane::Second(record.copy), record.in_sync);
                    actions.push(DutyAction::CopyTo { fence: self.fence(), lane, to, adopted });
                }
                None => actions.extend(ended.map(|copy| DutyAction::CopyEnds { lane: Lane::Second(copy) })),
            }
        }
        // A copy that was given up stays so until it has a new id, which is dealt with above.
        if self.second.wanted == Some(true) && record.in_sync {
            self.second.wanted = None;
        }
        if let (Some(moving), None) = (record.moving, &self.outgoing) {
            let (lane, to) = (Lane::Move(moving.id), moving.to);
            self.outgoing = Some(Box::new(Outgoing::new(now_ms, moving)));
            actions.push(DutyAction::CopyTo { fence: self.fence(), lane, to, adopted: false });
        }
    }

    fn loaded(&mut self, term: Term, now_ms: u64, actions: &mut Vec<DutyAction>) {
        if self.role == Role::Loading(term) {
            self.role = Role::Serving;
            // The copy first: what is served before it is there would leave without it.
            self.follow_as_owner(now_ms, actions);
            actions.push(DutyAction::Serve(self.fence()));
        }
    }

    fn want_in_sync(&mut self, now_ms: u64, copy: CopyId, in_sync: bool, actions: &mut Vec<DutyAction>) {
        if self.role != Role::Serving || self.second.copy != Some(copy) {
            return;
        }
        // A copy that was given up stays so until the registry gives it a new id.
        if self.second.wanted == Some(false) || self.second.wanted == Some(in_sync) {
            return;
        }
        self.second.wanted = Some(in_sync);
        self.second.proposed_ms = None;
        self.propose_in_sync(now_ms, actions);
    }

    fn propose_in_sync(&mut self, now_ms: u64, actions: &mut Vec<DutyAction>) {
        let (Some(in_sync), Some(second)) = (self.second.wanted, self.record.second) else { return };
        if is_due(&mut self.second.proposed_ms, now_ms) {
            let slots = vec![(self.slot, self.record.term, self.record.copy)];
            actions.push(DutyAction::Propose(Command::InSync { slots, second, in_sync }));
        }
    }

    fn freeze(&mut self, id: MoveId, actions: &mut Vec<DutyAction>) {
        let fence = self.fence();
        if let Some(outgoing) = self.outgoing_at(id, |stage| stage == Stage::Copying) {
            outgoing.stage = Stage::Freezing;
            actions.push(DutyAction::Freeze { fence, id, to: outgoing.to });
        }
    }

    fn heard(&mut self, now_ms: u64, from: Run, message: PeerMessage, actions: &mut Vec<DutyAction>) {
        let PeerMessage::Ready { id, generation, digest } = message;
        let Some(outgoing) = self.outgoing_at(id, |stage| matches!(stage, Stage::Sealed(_))) else { return };
        if outgoing.to != from || generation != from.generation {
            return;
        }
        outgoing.stage = if outgoing.stage == Stage::Sealed(digest) { Stage::Ready } else { Stage::Spoilt };
        self.propose_end(now_ms, actions);
    }

    /// Proposes what should end the move: `Done` when the target has everything, an abort when it never will, or when
    /// it takes too long. Exactly one wins, in the registry.
    fn propose_end(&mut self, now_ms: u64, actions: &mut Vec<DutyAction>) {
        let (slot, move_ms) = (self.slot, self.timing.move_ms);
        let Some(outgoing) = &mut self.outgoing else { return };
        let late = now_ms.saturating_sub(outgoing.since_ms) >= move_ms;
        let abort = late || outgoing.stage == Stage::Spoilt;
        if !abort && outgoing.stage != Stage::Ready || !is_due(&mut outgoing.proposed_ms, now_ms) {
            return;
        }
        let moves = vec![(slot, outgoing.id)];
        actions.push(DutyAction::Propose(if abort { Command::Abort { moves } } else { Command::Done { moves } }));
    }

    fn say_ready(&mut self, now_ms: u64, actions: &mut Vec<DutyAction>) {
        let Some(incoming) = &mut self.incoming else { return };
        if let (Some(digest), Some(to)) = (incoming.ready, incoming.from) {
            incoming.said_ms = now_ms;
            let message = PeerMessage::Ready { id: incoming.id, generation: self.me.generation, digest };
            actions.push(DutyAction::Send { to, message });
        }
    }

    fn tick(&mut self, now_ms: u64, actions: &mut Vec<DutyAction>) {
        self.propose_in_sync(now_ms, actions);
        self.propose_end(now_ms, actions);
        if self.incoming.is_some_and(|incoming| now_ms.saturating_sub(incoming.said_ms) >= AGAIN_MS) {
            self.say_ready(now_ms, actions);
        }
        self.finishing.retain(|finishing| {
            if now_ms >= finishing.until_ms {
                actions.push(DutyAction::FinishOver { id: finishing.id });
            }
            now_ms < finishing.until_ms
        });
    }
}

/// Whether something is to be proposed (again) now; notes that it was.
fn is_due(proposed_ms: &mut Option<u64>, now_ms: u64) -> bool {
    let due = proposed_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= AGAIN_MS);
    if due {
        *proposed_ms = Some(now_ms);
    }
    due
}
