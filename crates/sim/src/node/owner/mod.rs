//! The owner's side of a node: the duty of each slot, what it owns and copies, and what the duty asks for.

mod calls;
mod copies;
mod finish;
mod log;

use std::collections::BTreeMap;

use enfilade_registry::copy::{CopyReceiver, CopySender, Lane};
use enfilade_registry::duty::{Duty, DutyAction, DutyEvent, Holds};
use enfilade_registry::{Fence, MoveId, NotServed, Origin, Run, Slot, SlotTable, Term, Timing};

use self::copies::Telling;
use self::finish::Finishing;
pub(crate) use self::log::LogEntry;
use self::log::SlotLog;
use super::{Node, index_of};
use crate::call::{Call, EventId, Piece, StreamId};
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::{Frame, Opener, Reply};
use crate::scenario::MoveStep;

/// When the old owner of a move goes on by its own clock, if that is the defect.
const UNFREEZE_MS: u64 = 200;

pub(crate) struct Owner {
    slots: BTreeMap<Slot, Held>,
    finishing: BTreeMap<MoveId, Vec<Finishing>>,
}

/// What lets an entry of a log take effect, once the copy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// The call may be sent to its upstream.
    Dispatch(Call),
    /// One more event of the stream may leave.
    Leave(StreamId),
    /// Nothing waits: the copy of a move.
    Nothing,
}

/// Messages that wait for the end of a move.
#[derive(Clone, Copy, Debug)]
struct Queued {
    from: Opener,
    call: Call,
}

/// A call that was sent to its upstream, here or before the slot came here.
#[derive(Clone, Copy, Debug)]
struct Flight {
    call: Call,
    reply_to: Opener,
    /// The exchange that asked the new owner for what follows.
    asked: u64,
    /// The last event that went there.
    after: Option<EventId>,
    /// The new owner has to be asked (again) for the events after that one.
    attach: bool,
    /// Another node hears the upstream.
    relayed: bool,
}

type Sender = CopySender<LogEntry, Confirm>;

/// One slot at this node.
struct Held {
    duty: Duty,
    /// Logs, as the owner.
    state: Option<SlotLog>,
    /// Of the owner that it was until a moment ago.
    former: Option<SlotLog>,
    /// As the second, and as the target of a move.
    second: (CopyReceiver, SlotLog),
    target: (CopyReceiver, SlotLog),
    to_second: Option<Sender>,
    to_target: Option<Sender>,
    telling: BTreeMap<Lane, Telling>,
    loading: Option<Term>,
    queue: Vec<Queued>,
    /// Calls admitted, by their number: who asked.
    asked: BTreeMap<StreamId, Opener>,
    flights: BTreeMap<StreamId, Flight>,
    /// What may not be done now: the lease is lost, or the slot is frozen.
    waiting: Vec<Waits>,
    frozen_ms: Option<u64>,
    unfrozen: bool,
}

#[derive(Clone, Copy, Debug)]
enum Waits {
    Dispatch(Call),
    Piece { call: Call, piece: Piece, finisher: Option<Opener> },
}

impl Held {
    fn new(run: Run, slot: Slot) -> Held {
        Held {
            duty: Duty::new(run, slot, Timing::default()),
            state: None,
            former: None,
            second: (CopyReceiver::new(slot), SlotLog::default()),
            target: (CopyReceiver::new(slot), SlotLog::default()),
            to_second: None,
            to_target: None,
            telling: BTreeMap::new(),
            loading: None,
            queue: Vec::new(),
            asked: BTreeMap::new(),
            flights: BTreeMap::new(),
            waiting: Vec::new(),
            frozen_ms: None,
            unfrozen: false,
        }
    }
}

impl Owner {
    pub(super) fn new(run: Run) -> Owner {
        let slots = crate::setup::slots().map(|slot| (slot, Held::new(run, slot))).collect();
        Owner { slots, finishing: BTreeMap::new() }
    }

    /// Whether the event is in this node's memory, in whatever role.
    pub(crate) fn holds(&self, slot: Slot, event: &EventId) -> bool {
        self.slots.get(&slot).is_some_and(|held| {
            let logs = [held.state.as_ref(), held.former.as_ref(), Some(&held.second.1), Some(&held.target.1)];
            logs.into_iter().flatten().any(|log| log.holds(event))
        })
    }

    fn slot(&mut self, slot: Slot) -> &mut Held {
        self.slots.get_mut(&slot).expect("every slot of a run is known")
    }
}

impl Node {
    /// Whether an effect may be made under a fence, now: the slot's duty and the lease say so.
    fn act(&mut self, ctx: &mut Ctx, fence: Fence) -> bool {
        let held = self.owner.slot(fence.slot);
        let holds = held.duty.holds(fence);
        if holds != Holds::Yes && !(holds == Holds::Paused && held.unfrozen) {
            return false;
        }
        let may = self.may_act(ctx);
        if may {
            ctx.acts(fence.slot, fence.term, self.run);
        }
        may
    }

    fn duty(&mut self, ctx: &mut Ctx, slot: Slot, event: DutyEvent) {
        let now_ms = self.now_ms(ctx);
        let actions = self.owner.slot(slot).duty.on(now_ms, event);
        for action in actions {
            self.duty_action(ctx, slot, action);
        }
    }

    pub(super) fn owner_applied(&mut self, ctx: &mut Ctx, _index: u64, before: &SlotTable) {
        let after = self.machine.slots().clone();
        for (slot, record) in after.iter().filter(|(slot, record)| before.get(*slot) != *record) {
            ctx.learns(self.id, slot, record.term);
            let held = self.owner.slot(slot);
            held.second.0.learned(record.term);
            held.target.0.learned(record.term);
            self.duty(ctx, slot, DutyEvent::Applied(*record));
        }
    }

    pub(super) fn owner_tick(&mut self, ctx: &mut Ctx) {
        let now_ms = self.now_ms(ctx);
        for slot in crate::setup::slots() {
            if let Some(term) = self.owner.slot(slot).loading.take() {
                self.duty(ctx, slot, DutyEvent::Loaded(term));
            }
            // As nodes do: what does not wait for time is not ticked.
            if self.owner.slot(slot).duty.waits() {
                self.duty(ctx, slot, DutyEvent::Tick);
            }
            self.copies_tick(ctx, slot);
            self.unfreeze(ctx, slot, now_ms);
            self.go_on(ctx, slot);
        }
        self.attach_again(ctx);
    }

    /// The defect: by its own clock the old owner of a move goes on.
    fn unfreeze(&mut self, ctx: &mut Ctx, slot: Slot, now_ms: u64) {
        let held = self.owner.slot(slot);
        let late = held.frozen_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= UNFREEZE_MS);
        if ctx.options.has(Defect::LocalUnfreeze) && late && !held.unfrozen {
            held.unfrozen = true;
            ctx.line(format_args!("n{} goes on with slot {slot} by its own clock", self.id));
            self.run_queue(ctx, slot);
        }
    }

    fn run_queue(&mut self, ctx: &mut Ctx, slot: Slot) {
        for queued in std::mem::take(&mut self.owner.slot(slot).queue) {
            self.begin(ctx, queued.from, queued.call);
        }
    }

    fn duty_action(&mut self, ctx: &mut Ctx, slot: Slot, action: DutyAction) {
        if !matches!(action, DutyAction::Send { .. } | DutyAction::Propose(_)) {
            ctx.line(format_args!("n{} slot {slot}: {action:?}", self.id));
        }
        match action {
            DutyAction::Load { fence, origin } => self.load(ctx, fence, origin),
            DutyAction::Serve(_) => {
                if let Origin::Move(_) = self.owner.slot(slot).duty.record().origin {
                    let from = self.owner.slot(slot).duty.record().second.map(|run| index_of(run.node));
                    ctx.step(slot, from, Some(self.id), MoveStep::Served);
                }
                // At once: what the machine asks for after this would come too late.
                self.go_on(ctx, slot);
            }
            DutyAction::Renew { new, .. } => self.renew(ctx, new),
            DutyAction::Release { fence } => self.release(ctx, fence),
            DutyAction::HandOver { fence, id, to } => self.hand_over(ctx, fence, id, to),
            DutyAction::FinishOver { id } => self.finish_over(ctx, slot, id),
            DutyAction::CopyTo { fence, lane, to, adopted } => self.copy_to(ctx, fence, lane, to, adopted),
            DutyAction::CopyEnds { lane } => self.copy_ends(ctx, slot, lane),
            DutyAction::Adopt { lane, term } => {
                let held = self.owner.slot(slot);
                let former = held.former.take().unwrap_or_default();
                if held.second.0.adopt(term, lane) {
                    held.second.1 = former;
                }
            }
            DutyAction::Forget { lane } => self.forget(slot, lane),
            DutyAction::Freeze { id, to, .. } => self.freeze(ctx, slot, id, to),
            DutyAction::Send { to, message } => {
                if let Some(owner) = self.owner.slot(slot).duty.record().owner {
                    ctx.step(slot, Some(index_of(owner.node)), Some(self.id), MoveStep::Ready);
                }
                let frame = Frame::Peer { slot, from: self.run, message };
                // What is not sent now is said again.
                let _ = ctx.frame(self.id, index_of(to.node), frame);
            }
            DutyAction::Propose(command) => {
                self.submit(ctx, command);
            }
        }
    }

    /// Takes up what there is to begin with; ready at the next tick.
    fn load(&mut self, ctx: &mut Ctx, fence: Fence, origin: Origin) {
        let held = self.owner.slot(fence.slot);
        let from = held.duty.record().second.map(|run| index_of(run.node));
        let log = match origin {
            Origin::Assigned | Origin::Gap => SlotLog::default(),
            Origin::Copy(copy) => {
                held.second.0.forget(Lane::Second(copy));
                let mut log = std::mem::take(&mut held.second.1).take_over(None);
                for call in log.open() {
                    let id = log.number(call.stream, fence.term);
                    log.apply(&LogEntry::Event { call, id, piece: Piece::Unknown });
                }
                log.take_over(None)
            }
            Origin::Move(id) => {
                held.target.0.forget(Lane::Move(id));
                std::mem::take(&mut held.target.1).take_over(from)
            }
        };
        held.former = None;
        held.state = Some(log);
        held.loading = Some(fence.term);
        (held.frozen_ms, held.unfrozen) = (None, false);
        if let Origin::Move(_) = origin {
            ctx.step(fence.slot, from, Some(self.id), MoveStep::Done);
        }
    }

    /// A move was aborted.
    fn renew(&mut self, ctx: &mut Ctx, new: Fence) {
        let held = self.owner.slot(new.slot);
        (held.frozen_ms, held.unfrozen) = (None, false);
        for sender in [&mut held.to_second, &mut held.to_target].into_iter().flatten() {
            sender.renew(new.term);
        }
        self.run_queue(ctx, new.slot);
        self.go_on(ctx, new.slot);
    }

    /// The slot was taken from this node.
    fn release(&mut self, ctx: &mut Ctx, fence: Fence) {
        let held = self.owner.slot(fence.slot);
        held.state = None;
        held.waiting.clear();
        (held.frozen_ms, held.unfrozen) = (None, false);
        let (asked, flights) = (std::mem::take(&mut held.asked), std::mem::take(&mut held.flights));
        self.refuse_queue(ctx, fence);
        for (call, from) in asked {
            let sent = flights.contains_key(&call);
            let reply = if sent { Reply::Reset } else { Reply::NotServed(NotServed::NotOwner) };
            self.reply(ctx, from, fence, reply);
        }
    }

    fn refuse_queue(&mut self, ctx: &mut Ctx, fence: Fence) {
        for queued in std::mem::take(&mut self.owner.slot(fence.slot).queue) {
            self.reply(ctx, queued.from, fence, Reply::NotServed(NotServed::NotOwner));
        }
    }

    fn freeze(&mut self, ctx: &mut Ctx, slot: Slot, id: MoveId, to: Run) {
        let now_ms = self.now_ms(ctx);
        let held = self.owner.slot(slot);
        held.frozen_ms = Some(now_ms);
        let digest = held.state.as_ref().map(SlotLog::digest).unwrap_or_default();
        let step = held.to_target.as_mut().map(|sender| sender.seal(now_ms, digest));
        self.duty(ctx, slot, DutyEvent::Frozen { id, digest });
        if let Some(step) = step {
            self.copy_step(ctx, slot, Lane::Move(id), step);
        }
        ctx.step(slot, Some(self.id), Some(index_of(to.node)), MoveStep::Frozen);
    }

    /// Sends a reply to the node where a message came from. What cannot be sent is lost with the link.
    fn reply(&mut self, ctx: &mut Ctx, to: Opener, fence: Fence, reply: Reply) {
        let Fence { slot, term } = fence;
        let _ = ctx.frame(self.id, to.node, Frame::Reply { slot, term, to, reply });
    }
}
