//! The copies of a slot's logs: those that this node fills, and those that it holds.
//! A copy is begun first, so that what is new goes there, and then told what there is, stream by stream.

use enfilade_registry::copy::{CopyAnswer, CopyMessage, CopyPart, CopySaid, CopySender, Lane, Step};
use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Fence, Run, Slot};
use rand::Rng;

use super::{Confirm, Held, LogEntry, Node, Sender, index_of};
use crate::call::StreamId;
use crate::clock::{MILLI, Micros};
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::{Frame, Input};
use crate::scenario::MoveStep;

/// A copy is told of up to so many streams at once, and of more within this time.
const TOLD_AT_ONCE: usize = 4;
const TELL_AGAIN: Micros = 10 * MILLI;

/// A copy that is being told what there is. It is not complete before.
pub(super) struct Telling {
    /// Of these streams it was not told yet.
    left: Vec<StreamId>,
    /// What its holder answered meanwhile.
    answers: Vec<CopyAnswer>,
}

impl Held {
    fn sender(&mut self, lane: Lane) -> &mut Option<Sender> {
        match lane {
            Lane::Second(_) => &mut self.to_second,
            Lane::Move(_) => &mut self.to_target,
        }
    }
}

impl Node {
    /// Begins to fill a copy, in place of the one of its kind before.
    pub(super) fn copy_to(&mut self, ctx: &mut Ctx, fence: Fence, lane: Lane, to: Run, adopted: bool) {
        let (now_ms, copy_ms) = (self.now_ms(ctx), self.timing.copy_ms);
        let held = self.owner.slot(fence.slot);
        let before = held.sender(lane).take();
        let again = before.as_ref().is_some_and(|sender| sender.to() == to);
        let (sender, step) = if adopted {
            (CopySender::adopted(now_ms, copy_ms, fence, lane, to), None)
        } else {
            let (sender, step) = CopySender::begin(now_ms, copy_ms, fence, lane, to, std::iter::empty());
            (sender, Some(step))
        };
        *held.sender(lane) = Some(sender);
        if let Some(before) = before {
            held.telling.remove(&before.lane());
            for confirm in before.alone() {
                self.confirmed(ctx, fence.slot, confirm);
            }
        }
        if let Some(step) = step {
            let held = self.owner.slot(fence.slot);
            let all = held.state.iter().flat_map(|log| log.streams.keys().copied());
            let left: Vec<StreamId> = all.filter(|_| !(again && ctx.options.has(Defect::NoResync))).collect();
            if !left.is_empty() {
                held.telling.insert(lane, Telling { left, answers: Vec::new() });
                self.tell_later(ctx, fence.slot, lane);
            }
            self.copy_step(ctx, fence.slot, lane, step);
        }
        if let Lane::Move(_) = lane {
            ctx.step(fence.slot, Some(self.id), Some(index_of(to.node)), MoveStep::Begun);
        }
    }

    fn tell_later(&self, ctx: &mut Ctx, slot: Slot, lane: Lane) {
        let after = ctx.rng.random_range(1..=TELL_AGAIN);
        ctx.input(after, self.id, Input::Tell { slot, lane });
    }

    /// Tells a copy more of what there is; once it was told everything, its answers count.
    pub(in super::super) fn tell(&mut self, ctx: &mut Ctx, slot: Slot, lane: Lane) {
        let now_ms = self.now_ms(ctx);
        let held = self.owner.slot(slot);
        let Some(telling) = held.telling.get_mut(&lane) else { return };
        let count = ctx.rng.random_range(1..=TOLD_AT_ONCE).min(telling.left.len());
        let now: Vec<StreamId> = telling.left.drain(..count).collect();
        let over = telling.left.is_empty().then(|| held.telling.remove(&lane)).flatten();
        let log = held.state.as_ref();
        let entries: Vec<LogEntry> = now.iter().flat_map(|id| log.map(|log| log.entries(*id))).flatten().collect();
        for entry in entries {
            let sender = self.owner.slot(slot).sender(lane).as_mut().filter(|sender| sender.lane() == lane);
            let step = sender.map(|sender| sender.tell(now_ms, entry));
            step.into_iter().for_each(|step| self.copy_step(ctx, slot, lane, step));
        }
        match over {
            Some(told) => told.answers.into_iter().for_each(|answer| self.copy_answered(ctx, answer)),
            None => self.tell_later(ctx, slot, lane),
        }
    }

    pub(super) fn copy_ends(&mut self, ctx: &mut Ctx, slot: Slot, lane: Lane) {
        let held = self.owner.slot(slot);
        held.telling.remove(&lane);
        if let Some(sender) = held.sender(lane).take_if(|sender| sender.lane() == lane) {
            for confirm in sender.alone() {
                self.confirmed(ctx, slot, confirm);
            }
        }
    }

    /// A new entry goes to both copies; only the second's acknowledgement is waited for.
    pub(super) fn push_copies(&mut self, ctx: &mut Ctx, slot: Slot, entry: &LogEntry, confirm: Confirm) {
        let now_ms = self.now_ms(ctx);
        let held = self.owner.slot(slot);
        let to_target = held.to_target.as_mut().map(|to| (to.lane(), to.push(now_ms, entry.clone(), Confirm::Nothing)));
        let to_second = held.to_second.as_mut().map(|to| (to.lane(), to.push(now_ms, entry.clone(), confirm)));
        let alone = to_second.is_none();
        for (lane, step) in [to_target, to_second].into_iter().flatten() {
            self.copy_step(ctx, slot, lane, step);
        }
        if alone {
            self.confirmed(ctx, slot, confirm);
        }
    }

    pub(super) fn copies_tick(&mut self, ctx: &mut Ctx, slot: Slot) {
        let now_ms = self.now_ms(ctx);
        let held = self.owner.slot(slot);
        let senders = [&mut held.to_second, &mut held.to_target].into_iter().flatten();
        let steps: Vec<_> =
            senders.filter(|sender| sender.waits()).map(|sender| (sender.lane(), sender.tick(now_ms))).collect();
        for (lane, step) in steps {
            self.copy_step(ctx, slot, lane, step);
        }
    }

    pub(super) fn copy_step(&mut self, ctx: &mut Ctx, slot: Slot, lane: Lane, step: Step<LogEntry, Confirm>) {
        let sender = self.owner.slot(slot).sender(lane).as_ref();
        let to = sender.filter(|sender| sender.lane() == lane).map(|sender| index_of(sender.to().node));
        for message in step.send {
            if let Some(to) = to {
                // What is not sent now is sent again.
                let _ = ctx.frame(self.id, to, Frame::Copy { message });
            }
        }
        for confirm in step.confirmed {
            self.confirmed(ctx, slot, confirm);
        }
        if step.caught_up {
            self.duty(ctx, slot, DutyEvent::CaughtUp(lane));
        }
        if step.given_up {
            self.duty(ctx, slot, DutyEvent::GivenUp(lane));
        }
    }

    /// A part of a copy that this node holds.
    pub(super) fn copied(&mut self, ctx: &mut Ctx, from: usize, mut message: CopyMessage<LogEntry>) {
        let (fence, lane) = (message.fence, message.lane);
        let begins = matches!(message.part, CopyPart::Begin);
        let held = self.owner.slot(fence.slot);
        if ctx.options.has(Defect::TermUnchecked) {
            message.fence.term = message.fence.term.max(held.duty.record().term);
        }
        let (receiver, log) = match lane {
            Lane::Second(_) => &mut held.second,
            Lane::Move(_) => &mut held.target,
        };
        let received = receiver.receive(message);
        if received.reset {
            log.streams.clear();
        }
        if let Some(entry) = &received.entry
            && !(ctx.options.has(Defect::HoleInCopy) && log.is_ahead_of(entry))
        {
            log.apply(entry);
        }
        let own = log.digest();
        if received.answer.said != CopySaid::Stale {
            ctx.accepts(self.id, fence.slot, fence.term);
        }
        let _ = ctx.frame(self.id, from, Frame::CopyAnswer { answer: received.answer });
        if let Lane::Move(id) = lane {
            if begins {
                ctx.step(fence.slot, Some(from), Some(self.id), MoveStep::Copying);
            }
            if received.sealed.is_some() {
                self.duty(ctx, fence.slot, DutyEvent::Received { id, digest: own });
            }
        }
    }

    pub(super) fn copy_answered(&mut self, ctx: &mut Ctx, answer: CopyAnswer) {
        let (slot, now_ms) = (answer.fence.slot, self.now_ms(ctx));
        let held = self.owner.slot(slot);
        if let Some(telling) = held.telling.get_mut(&answer.lane) {
            return telling.answers.push(answer);
        }
        let Some(sender) = held.sender(answer.lane).as_mut().filter(|sender| sender.lane() == answer.lane) else {
            return;
        };
        let step = sender.answered(now_ms, answer);
        self.copy_step(ctx, slot, answer.lane, step);
    }

    pub(super) fn forget(&mut self, slot: Slot, lane: Lane) {
        let held = self.owner.slot(slot);
        let (receiver, log) = match lane {
            Lane::Second(_) => &mut held.second,
            Lane::Move(_) => &mut held.target,
        };
        if receiver.forget(lane) {
            log.streams.clear();
            if held.state.is_none() && matches!(lane, Lane::Move(_)) {
                held.waiting.clear();
            }
        }
    }
}
