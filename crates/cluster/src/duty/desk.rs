//! The desk: every change of the slot table, every word of another node and every tick goes through the machine of its
//! slot, and what that says is done here, in order.
//!
//! Proposals of many slots are made together. Invariant: the index that is published is one up to which every slot was dealt with. A lease counts only from there
//! on, so that no slot is served that the registry has given away.

use super::changes::Changes;
use super::closing::{Close, Closings, frozen};
use super::held::Held;
use super::inbox::{Happened, Inbox};
use super::lanes::Lanes;
use super::proposals::Proposals;
use super::sessions::Sessions;
use super::waiting::Waiting;
use super::wires::Wires;
use crate::clock::Clock;
use crate::finish::Finishers;
use crate::tenure::{OwnSlots, State};
use crate::wire::Word;
use enfilade_registry::copy::Lane;
use enfilade_registry::duty::{Duty, DutyAction, DutyEvent};
use enfilade_registry::{Fence, MoveId, Run, Slot, SlotTable, Timing};
use enfilade_session::copy::CopyEntry;
use std::sync::Arc;

/// What the desk works with.
pub(crate) struct Tools {
    pub(crate) clock: Clock,
    pub(crate) slots: Arc<OwnSlots>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) held: Arc<Held>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) finishers: Arc<Finishers>,
}

pub(crate) struct Desk {
    me: Run,
    tools: Tools,
    pub(super) duties: Vec<Duty>,
    /// Those of them that wait for time.
    pub(super) waiting: Waiting,
    table: Arc<SlotTable>,
    closings: Closings,
    pub(crate) proposals: Proposals,
    /// What came of the present look, for the log.
    changes: Changes,
}

impl Tools {
    /// What there is of a slot as it is frozen: it may become a copy. What its calls say from now on is not of it.
    fn keep(&self, slot: Slot) {
        self.held.keep(slot, [self.held.leftover(slot), self.sessions.freeze(slot)].concat());
    }
}

impl Desk {
    pub(crate) fn new(me: Run, timing: Timing, tools: Tools, proposals: Proposals) -> Self {
        Self {
            me,
            tools,
            duties: Slot::all().map(|slot| Duty::new(me, slot, timing)).collect(),
            waiting: Waiting::default(),
            table: Arc::default(),
            closings: Closings::default(),
            proposals,
            changes: Changes::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        (self.tools.clock)()
    }

    /// Another slot table was applied.
    pub(crate) fn look(&mut self, table: &Arc<SlotTable>) {
        if Arc::ptr_eq(&self.table, table) {
            return;
        }
        let before = std::mem::replace(&mut self.table, table.clone());
        for ((slot, old), (_, new)) in before.iter().zip(table.iter()) {
            if old != new {
                self.tools.held.learned(slot, new.term);
                self.event(slot, DutyEvent::Applied(*new));
            }
        }
        self.changes.copies(table.uncopied(self.me));
        self.settle();
    }

    /// Something happened elsewhere.
    pub(crate) fn happened(&mut self) {
        for (slot, happened) in self.tools.inbox.take() {
            match happened {
                Happened::Duty(event) => self.event(slot, event),
                Happened::Overflow(lane) => {
                    if self.tools.lanes.restart(slot, lane) {
                        self.tell(slot, lane);
                    }
                }
            }
        }
        self.settle();
    }

    /// Time passed: expected every 100 ms.
    pub(crate) fn tick(&mut self) {
        self.changes.tick(self.now_ms());
        self.tools.lanes.tick();
        let waiting: Vec<Slot> = self.waiting.slots().collect();
        waiting.into_iter().for_each(|slot| self.event(slot, DutyEvent::Tick));
        self.settle();
    }

    /// Whether [`Desk::beat`] is expected every few ms: slots wait to be frozen, or proposals to be made together.
    pub(crate) fn is_busy(&self) -> bool {
        !self.closings.is_empty() || !self.proposals.is_empty()
    }

    /// Looks whether slots can be frozen, and proposes what came together.
    pub(crate) fn beat(&mut self) {
        self.close();
        self.proposals.flush();
        self.settle();
    }

    fn close(&mut self) {
        let (now_ms, sessions) = (self.now_ms(), self.tools.sessions.clone());
        for close in self.closings.tick(now_ms, |slot| sessions.commit(slot)) {
            match close {
                Close::Shut(fence) => self.tools.slots.change(fence, State::Serving, State::Closed),
                Close::Open(fence) => self.tools.slots.change(fence, State::Closed, State::Serving),
                Close::Freeze(fence, id) => {
                    self.tools.slots.change(fence, State::Closed, State::Frozen);
                    self.tools.keep(fence.slot);
                    if let Some(digest) = self.tools.lanes.seal(fence.slot, Lane::Move(id)) {
                        self.event(fence.slot, frozen(id, digest));
                    }
                }
            }
        }
    }

    fn settle(&mut self) {
        self.changes.settle();
        self.tools.slots.settle(&self.table);
    }

    fn event(&mut self, slot: Slot, event: DutyEvent) {
        let now_ms = self.now_ms();
        let mut follows = Vec::new();
        let duty = &mut self.duties[usize::from(slot.get())];
        let mut actions = duty.on(now_ms, event);
        self.waiting.note(slot, duty.waits());
        // Nothing is served before its copy is there to be told.
        actions.sort_by_key(|action| matches!(action, DutyAction::Serve(_)));
        for action in actions {
            follows.extend(self.act(slot, action));
        }
        follows.into_iter().for_each(|event| self.event(slot, event));
    }

    /// Does what a machine says; gives what follows from it at once.
    fn act(&mut self, slot: Slot, action: DutyAction) -> Option<DutyEvent> {
        let tools = &self.tools;
        match action {
            DutyAction::Load { fence, origin } => {
                self.changes.gained += 1;
                if !tools.held.inherit(slot, origin) {
                    tracing::error!(%slot, "the copy that this node was to go on with is not complete");
                }
                tools.lanes.own(fence);
                tools.slots.set(fence, State::Loading);
                // The records are read from this node's own replica, which has applied the term.
                return Some(DutyEvent::Loaded(fence.term));
            }
            DutyAction::Serve(fence) => tools.slots.set(fence, State::Serving),
            DutyAction::Renew { new, .. } => {
                let _ = self.closings.end(slot);
                // In this order nothing of the slot is seen under a term that is over.
                tools.lanes.renew(new);
                tools.sessions.renew(new);
                tools.held.keep(slot, Vec::new());
                tools.slots.set(new, State::Serving);
            }
            DutyAction::Release { .. } => drop(self.release(slot)),
            DutyAction::HandOver { id, to, .. } => return self.hand_over(slot, id, to),
            DutyAction::FinishOver { id } => tools.finishers.end(slot, id),
            DutyAction::CopyTo { fence, lane, to, adopted: true } => tools.lanes.adopt(fence, lane, to),
            DutyAction::CopyTo { fence, lane, to, adopted: false } => {
                tools.lanes.begin(fence, lane, to);
                self.tell(slot, lane);
            }
            DutyAction::CopyEnds { lane } => tools.lanes.end(slot, lane),
            // What was kept when the slot was frozen.
            DutyAction::Adopt { lane, term } => tools.held.adopt(slot, lane, term),
            DutyAction::Forget { lane } => tools.held.forget(slot, lane),
            DutyAction::Freeze { fence, id, .. } => self.closings.begin((tools.clock)(), fence, id),
            DutyAction::Send { to, message } => tools.wires.say(to.node, Word::Peer(slot, message)),
            DutyAction::Propose(command) => self.proposals.add(command),
        }
        None
    }

    /// The slot was moved; calls under way are finished for its new owner.
    fn hand_over(&mut self, slot: Slot, id: MoveId, to: Run) -> Option<DutyEvent> {
        let term = self.duties[usize::from(slot.get())].record().term;
        // Before anybody learns that the slot is another node's: what is under way goes on.
        let calls = self.tools.sessions.hand_over(slot, term);
        let paused = self.release(slot);
        self.changes.moved(self.now_ms(), paused);
        let Some(calls) = calls else { return Some(DutyEvent::Finished(id)) };
        self.tools.finishers.start(Fence { slot, term }, id, to, calls);
        None
    }

    /// The slot is another node's. Gives since when it was frozen, if it was.
    fn release(&mut self, slot: Slot) -> Option<u64> {
        self.changes.lost += 1;
        let term = self.duties[usize::from(slot.get())].record().term;
        let tools = &self.tools;
        tools.slots.set(Fence { slot, term }, State::Other);
        tools.held.disinherit(slot);
        tools.sessions.release(slot, term);
        tools.lanes.disown(slot);
        self.closings.end(slot)
    }

    /// Tells a copy that begins, and only that, everything that there is of the slot: one that is in step would have it
    /// twice, and could fall behind by it.
    fn tell(&self, slot: Slot, lane: Lane) {
        let tools = &self.tools;
        let fence = self.duties[usize::from(slot.get())].fence();
        let tell = |fence: Fence, entry: CopyEntry| tools.lanes.tell(fence, lane, &entry);
        // First what nobody has taken up: whoever is taken up meanwhile is told of after it.
        tools.held.tell_leftover(slot, |entry| tell(fence, entry));
        tools.sessions.tell_copy(slot, &tell);
        tools.lanes.told(slot);
    }
}
