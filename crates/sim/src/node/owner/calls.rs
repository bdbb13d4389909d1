//! Calls at their owner: admitted, opened in the log, sent to the upstream, and what comes back.
//! Rule: every effect passes `act`; what may not be done now waits, what may never be done is dropped.

use enfilade_registry::duty::{Admission, Holds};
use enfilade_registry::{Fence, NotServed, Slot, Term};

use super::{Confirm, Flight, LogEntry, Node, Queued, Waits};
use crate::call::{Call, EventId, Piece, StreamId};
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::{Event, Frame, Opener, Reply};

/// What a message counts in the queue of a frozen slot.
const MESSAGE_BYTES: usize = 1_000;

impl Node {
    pub(in super::super) fn frame(&mut self, ctx: &mut Ctx, from: usize, frame: Frame) {
        match frame {
            Frame::Call { slot, term, call, exchange } => {
                self.called(ctx, Opener { node: from, exchange, call: call.id }, Fence { slot, term }, call);
            }
            Frame::Attach { slot, term, call, after, exchange } => {
                self.attach(ctx, Opener { node: from, exchange, call: call.id }, Fence { slot, term }, call, after);
            }
            Frame::Reply { slot, term, to, reply } => {
                let fence = Fence { slot, term };
                if !self.relay(ctx, to.exchange, fence, &reply) {
                    self.replied(ctx, to, fence, reply);
                }
            }
            Frame::Peer { slot, from, message } => {
                self.duty(ctx, slot, enfilade_registry::duty::DutyEvent::Peer { from, message });
            }
            Frame::Copy { message } => self.copied(ctx, from, message),
            Frame::CopyAnswer { answer } => self.copy_answered(ctx, answer),
            Frame::Finish { slot, call, piece, exchange } => {
                self.finish(ctx, Opener { node: from, exchange, call: call.id }, slot, call, piece);
            }
        }
    }

    fn admit(&mut self, ctx: &mut Ctx, slot: Slot, term: Term) -> Admission {
        let may_act = self.may_act(ctx);
        let held = self.owner.slot(slot);
        let present = held.duty.fence();
        let term = if ctx.options.has(Defect::StaleEdgeAccepted) { term.max(present.term) } else { term };
        if held.unfrozen && held.duty.holds(present) == Holds::Paused {
            return Admission::Run(present);
        }
        held.duty.admit(may_act, term, MESSAGE_BYTES)
    }

    fn called(&mut self, ctx: &mut Ctx, from: Opener, fence: Fence, call: Call) {
        let Fence { slot, term } = fence;
        match self.admit(ctx, slot, term) {
            Admission::Run(_) => {
                ctx.accepts(self.id, slot, term);
                self.begin(ctx, from, call);
            }
            Admission::Queue => self.owner.slot(slot).queue.push(Queued { from, call }),
            Admission::Refuse(refused) => self.reply(ctx, from, fence, Reply::NotServed(refused)),
        }
    }

    /// Opens a call: in the log first, if its stream is resumable.
    pub(super) fn begin(&mut self, ctx: &mut Ctx, from: Opener, call: Call) {
        let held = self.owner.slot(call.slot);
        held.asked.insert(call.stream, from);
        if !call.resumable {
            return self.dispatch(ctx, call);
        }
        self.append(ctx, call.slot, LogEntry::Open(call), Confirm::Dispatch(call));
        if let Some(stream) =
            self.owner.slot(call.slot).state.as_mut().and_then(|log| log.streams.get_mut(&call.stream))
        {
            stream.attached = Some(from);
        }
        self.pump(ctx, call.slot, call.stream);
    }

    /// Adds an entry to the log and its copies.
    pub(super) fn append(&mut self, ctx: &mut Ctx, slot: Slot, entry: LogEntry, confirm: Confirm) {
        if let Some(log) = &mut self.owner.slot(slot).state {
            log.apply(&entry);
        }
        if ctx.options.has(Defect::BytesBeforeCopy) {
            self.confirmed(ctx, slot, confirm);
            self.push_copies(ctx, slot, &entry, Confirm::Nothing);
        } else {
            self.push_copies(ctx, slot, &entry, confirm);
        }
    }

    /// The copy has an entry, or nothing has to wait for it.
    pub(super) fn confirmed(&mut self, ctx: &mut Ctx, slot: Slot, confirm: Confirm) {
        match confirm {
            Confirm::Dispatch(call) => self.dispatch(ctx, call),
            Confirm::Leave(call) => {
                let log = self.owner.slot(slot).state.as_mut();
                if let Some(stream) = log.and_then(|log| log.streams.get_mut(&call)) {
                    stream.confirmed = (stream.confirmed + 1).min(stream.events.len());
                    self.pump(ctx, slot, call);
                }
            }
            Confirm::Nothing => {}
        }
    }

    /// Sends a call to its upstream: the effect that matters most.
    fn dispatch(&mut self, ctx: &mut Ctx, call: Call) {
        let fence = self.owner.slot(call.slot).duty.fence();
        if !self.owner.slot(call.slot).asked.contains_key(&call.stream) {
            return;
        }
        if !self.act(ctx, fence) {
            return self.owner.slot(call.slot).waiting.push(Waits::Dispatch(call));
        }
        let held = self.owner.slot(call.slot);
        let Some(reply_to) = held.asked.get(&call.stream).copied() else { return };
        held.flights
            .insert(call.stream, Flight { call, reply_to, asked: 0, after: None, attach: false, relayed: false });
        let at = ctx.at() + ctx.net.delay(&mut ctx.rng);
        let from = ctx.sent(self.id);
        ctx.line(format_args!("n{} sends {call} to its upstream in term {}", self.id, fence.term.0));
        ctx.queue.push(at, Event::Upstream { from, term: fence.term, call });
        if call.resumable {
            self.piece(ctx, call, Piece::Event(0), None);
        }
    }

    pub(in super::super) fn upstream_said(&mut self, ctx: &mut Ctx, call: Call, _term: Term, piece: Piece) {
        if self.owner.slot(call.slot).flights.contains_key(&call.stream) {
            self.piece(ctx, call, piece, None);
        } else {
            self.finished_piece(ctx, call, piece, false);
        }
    }

    /// An upstream, or the finisher that hears it, says something for a call of a slot that this node owns.
    pub(super) fn piece(&mut self, ctx: &mut Ctx, call: Call, piece: Piece, finisher: Option<Opener>) {
        let fence = self.owner.slot(call.slot).duty.fence();
        let first = !self
            .owner
            .slot(call.slot)
            .waiting
            .iter()
            .any(|waits| matches!(waits, Waits::Piece { call: other, .. } if other.stream == call.stream));
        if !first || !self.act(ctx, fence) {
            return self.owner.slot(call.slot).waiting.push(Waits::Piece { call, piece, finisher });
        }
        if call.resumable {
            return self.log_piece(ctx, fence, call, piece, finisher);
        }
        let held = self.owner.slot(call.slot);
        held.flights.remove(&call.stream);
        let to = finisher.or(held.asked.remove(&call.stream));
        if let Some(to) = to {
            self.reply(ctx, to, fence, Reply::Piece { piece, id: None });
        }
    }

    fn log_piece(&mut self, ctx: &mut Ctx, fence: Fence, call: Call, piece: Piece, finisher: Option<Opener>) {
        let held = self.owner.slot(call.slot);
        let Some(log) = &mut held.state else { return };
        // What a finisher says counts only for streams that it finishes, and until they end.
        if log
            .streams
            .get(&call.stream)
            .is_none_or(|stream| !stream.open || stream.finisher != finisher.map(|finisher| finisher.node))
        {
            return;
        }
        if !matches!(piece, Piece::Event(_)) {
            held.flights.remove(&call.stream);
            held.asked.remove(&call.stream);
        }
        let id = log.number(call.stream, fence.term);
        ctx.line(format_args!("n{} logs {piece:?} of {call} as {id}", self.id));
        self.append(ctx, call.slot, LogEntry::Event { call, id, piece }, Confirm::Leave(call.stream));
    }

    /// Sends what may leave to the node that is attached to a stream.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, slot: Slot, call: StreamId) {
        loop {
            let held = self.owner.slot(slot);
            let fence = held.duty.fence();
            let stream = held.state.as_ref().and_then(|log| log.streams.get(&call));
            let Some((stream, to)) = stream.and_then(|stream| Some((stream, stream.attached?))) else { return };
            if stream.sent >= stream.confirmed {
                return;
            }
            let (id, piece) = stream.events[stream.sent];
            if !self.act(ctx, fence) {
                return;
            }
            let held = self.owner.slot(slot);
            if let Some(stream) = held.state.as_mut().and_then(|log| log.streams.get_mut(&call)) {
                stream.sent += 1;
            }
            self.reply(ctx, to, fence, Reply::Piece { piece, id: Some(id) });
        }
    }

    /// Somebody goes on with a stream, after the last event that he has.
    fn attach(&mut self, ctx: &mut Ctx, from: Opener, fence: Fence, call: Call, after: Option<EventId>) {
        let Fence { slot, term } = fence;
        match self.admit(ctx, slot, term) {
            Admission::Run(_) => {}
            Admission::Queue => {
                self.owner.slot(slot).duty.left_queue(MESSAGE_BYTES);
                return self.reply(ctx, from, fence, Reply::NotServed(NotServed::NotReady));
            }
            Admission::Refuse(refused) => {
                return self.reply(ctx, from, fence, Reply::NotServed(refused));
            }
        }
        ctx.accepts(self.id, slot, term);
        let fence = self.owner.slot(slot).duty.fence();
        let log = self.owner.slot(slot).state.as_mut();
        let stream = log.and_then(|log| log.streams.get_mut(&call.stream));
        let begin = stream.as_ref().and_then(|stream| match after {
            None => Some(0),
            Some(after) => stream.events.iter().position(|(id, _)| *id == after).map(|at| at + 1),
        });
        let (Some(stream), Some(begin)) = (stream, begin) else {
            return self.reply(ctx, from, fence, Reply::NoSuchCall);
        };
        (stream.attached, stream.sent) = (Some(from), begin);
        self.pump(ctx, slot, call.stream);
    }

    /// Does what waited, if it may be done now.
    pub(super) fn go_on(&mut self, ctx: &mut Ctx, slot: Slot) {
        let held = self.owner.slot(slot);
        let fence = held.duty.fence();
        let may = held.duty.holds(fence) == Holds::Yes || held.unfrozen;
        if held.state.is_none() || !may || self.holder.is_fenced() {
            return;
        }
        for waits in std::mem::take(&mut self.owner.slot(slot).waiting) {
            match waits {
                Waits::Dispatch(call) => self.dispatch(ctx, call),
                Waits::Piece { call, piece, finisher } => self.piece(ctx, call, piece, finisher),
            }
        }
        let log = self.owner.slot(slot).state.as_ref();
        let behind = log.into_iter().flat_map(|log| log.streams.iter());
        let behind: Vec<StreamId> =
            behind.filter(|(_, s)| s.attached.is_some() && s.sent < s.confirmed).map(|(id, _)| *id).collect();
        for call in behind {
            self.pump(ctx, slot, call);
        }
    }

    /// The link to a node broke: nobody is attached from there any more.
    pub(in super::super) fn owner_lost(&mut self, ctx: &mut Ctx, peer: usize) {
        for held in self.owner.slots.values_mut() {
            let streams = held.state.iter_mut().flat_map(|log| log.streams.values_mut());
            for stream in streams.filter(|stream| stream.attached.is_some_and(|to| to.node == peer)) {
                stream.attached = None;
            }
        }
        self.finisher_lost(ctx, peer);
    }

    pub(in super::super) fn owner_link_up(&mut self, _ctx: &mut Ctx, _peer: usize) {}
}
