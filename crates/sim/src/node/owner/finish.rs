//! The finisher: the former owner of a moved slot hears the upstreams of calls in flight for the new one, which
//! numbers the events and says what may leave; the former owner passes that on to where the calls came from.

use std::collections::BTreeMap;

use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Fence, MoveId, NotServed, Run, Slot};

use super::log::Stream;
use super::{Flight, Node, Waits, index_of};
use crate::call::{Call, Piece, StreamId};
use crate::ctx::Ctx;
use crate::event::{Frame, Opener, Reply};

/// The calls of one slot that this node finishes.
pub(super) struct Finishing {
    slot: Slot,
    to: usize,
    flights: BTreeMap<StreamId, Flight>,
}

impl Node {
    /// The slot was moved: what waits goes there, and calls in flight are finished for the new owner.
    pub(super) fn hand_over(&mut self, ctx: &mut Ctx, fence: Fence, id: MoveId, to: Run) {
        let slot = fence.slot;
        let to = index_of(to.node);
        self.refuse_queue(ctx, fence);
        let held = self.owner.slot(slot);
        let log = held.state.take().unwrap_or_default();
        let (mut asked, waiting) = (std::mem::take(&mut held.asked), std::mem::take(&mut held.waiting));
        let mut flights = std::mem::take(&mut held.flights);
        (held.frozen_ms, held.unfrozen) = (None, false);
        asked.retain(|stream, _| !flights.contains_key(stream));
        for stream in log.streams.values().filter(|stream| !asked.contains_key(&stream.call.stream)) {
            if let Some(flight) = self.follows(stream) {
                flights.insert(stream.call.stream, flight);
            }
        }
        self.owner.slot(slot).former = Some(log);
        for waits in &waiting {
            if let Waits::Piece { call, finisher: Some(reply_to), .. } = waits {
                let relayed =
                    Flight { call: *call, reply_to: *reply_to, asked: 0, after: None, attach: false, relayed: true };
                flights.entry(call.stream).or_insert(relayed);
            }
        }
        self.owner.finishing.entry(id).or_default().push(Finishing { slot, to, flights });
        // Nothing was sent to an upstream: the call may go to the new owner.
        for from in asked.into_values() {
            self.reply(ctx, from, fence, Reply::NotServed(NotServed::NotOwner));
        }
        self.attach_again(ctx);
        for waits in waiting {
            if let Waits::Piece { call, piece, finisher } = waits {
                self.finished_piece(ctx, call, piece, finisher.is_some());
            }
        }
    }

    /// What is left to do for a stream of a slot that was handed over: to pass on what its finisher says, or to bring
    /// the events that follow to the node that is attached. A stream that ended may have events that did not leave yet.
    fn follows(&self, stream: &Stream) -> Option<Flight> {
        let relayed = stream.finisher.is_some();
        if stream.attached.is_none() && !(stream.open && relayed) {
            return None;
        }
        let call = stream.call;
        let nobody = Opener { node: self.id, exchange: 0, call: call.id };
        let after = stream.sent.checked_sub(1).map(|at| stream.events[at].0);
        let (reply_to, attach) = (stream.attached.unwrap_or(nobody), stream.attached.is_some());
        Some(Flight { call, reply_to, asked: 0, after, attach, relayed })
    }

    /// An upstream says something for a call that this node finishes; or, `relayed`, another finisher does. A slot may
    /// come back and leave again: what is relayed follows the latest hand-over, so that nothing overtakes anything.
    pub(super) fn finished_piece(&mut self, ctx: &mut Ctx, call: Call, piece: Piece, relayed: bool) {
        let mut all = self.owner.finishing.values().flatten();
        let of = |of: &&Finishing| of.flights.get(&call.stream).is_some_and(|flight| flight.relayed == relayed);
        let Some(of) = all.rfind(of) else { return };
        let (to, slot) = (of.to, of.slot);
        ctx.line(format_args!("n{} hands {piece:?} of {call} to n{to}", self.id));
        let exchange = if call.resumable { 0 } else { ctx.exchange() };
        if !call.resumable {
            self.flight(call.stream, relayed, |flight| flight.asked = exchange);
        }
        let sent = ctx.frame(self.id, to, Frame::Finish { slot, call, piece, exchange });
        if sent.is_err() {
            self.let_go(ctx, call.stream);
        }
    }

    /// The calls's exchange ends without an answer: its edge decides.
    fn let_go(&mut self, ctx: &mut Ctx, call: StreamId) {
        let fence = |slot| Fence { slot, term: enfilade_registry::Term(0) };
        let mut ended = Vec::new();
        for of in self.owner.finishing.values_mut().flatten() {
            ended.extend(of.flights.remove(&call).map(|flight| (of.slot, flight)));
        }
        for (slot, flight) in ended {
            self.reply(ctx, flight.reply_to, fence(slot), Reply::Reset);
        }
    }

    /// The new owner's answer for a call that this node finishes goes on to where the call came from.
    pub(super) fn relay(&mut self, ctx: &mut Ctx, exchange: u64, fence: Fence, reply: &Reply) -> bool {
        let all = self.owner.finishing.values().flatten();
        let flight = all.flat_map(|of| of.flights.values()).find(|flight| flight.asked == exchange).copied();
        let Some(flight) = flight.filter(|_| exchange != 0) else { return false };
        let call = flight.call.stream;
        match reply {
            // The new owner is not ready yet.
            Reply::NotServed(_) => self.flight(call, flight.relayed, |flight| flight.attach = true),
            Reply::NoSuchCall | Reply::Reset => self.let_go(ctx, call),
            Reply::Piece { piece, id } => {
                self.flight(call, flight.relayed, |flight| flight.after = *id);
                self.reply(ctx, flight.reply_to, fence, reply.clone());
                if !matches!(piece, Piece::Event(_)) {
                    for of in self.owner.finishing.values_mut().flatten() {
                        of.flights.remove(&call);
                    }
                    self.finished(ctx);
                }
            }
        }
        true
    }

    fn flight(&mut self, call: StreamId, relayed: bool, change: impl Fn(&mut Flight)) {
        let all = self.owner.finishing.values_mut().flatten().filter_map(|of| of.flights.get_mut(&call));
        all.filter(|flight| flight.relayed == relayed).for_each(change);
    }

    /// Asks new owners for what follows in the streams of calls that this node finishes.
    pub(super) fn attach_again(&mut self, ctx: &mut Ctx) {
        let mut asks = Vec::new();
        for of in self.owner.finishing.values_mut().flatten() {
            for flight in of.flights.values_mut() {
                if std::mem::take(&mut flight.attach) {
                    flight.asked = ctx.exchange();
                    asks.push((of.slot, of.to, flight.call, flight.after, flight.asked));
                }
            }
        }
        for (slot, to, call, after, exchange) in asks {
            let term = self.owner.slot(slot).duty.record().term;
            if ctx.frame(self.id, to, Frame::Attach { slot, term, call, after, exchange }).is_err() {
                self.let_go(ctx, call.stream);
            }
        }
    }

    fn finished(&mut self, ctx: &mut Ctx) {
        let over: Vec<(MoveId, Slot)> = self
            .owner
            .finishing
            .iter()
            .flat_map(|(id, all)| all.iter().filter(|of| of.flights.is_empty()).map(|of| (*id, of.slot)))
            .collect();
        for (id, slot) in over {
            if let Some(all) = self.owner.finishing.get_mut(&id) {
                all.retain(|of| of.slot != slot);
            }
            self.duty(ctx, slot, DutyEvent::Finished(id));
        }
        self.owner.finishing.retain(|_, all| !all.is_empty());
    }

    pub(super) fn finish_over(&mut self, ctx: &mut Ctx, slot: Slot, id: MoveId) {
        let Some(all) = self.owner.finishing.get_mut(&id) else { return };
        let calls: Vec<(Call, bool)> = all
            .iter()
            .filter(|of| of.slot == slot)
            .flat_map(|of| of.flights.values().map(|flight| (flight.call, flight.relayed)))
            .collect();
        for (call, relayed) in calls {
            self.finished_piece(ctx, call, Piece::Unknown, relayed);
            self.let_go(ctx, call.stream);
        }
        if let Some(all) = self.owner.finishing.get_mut(&id) {
            all.retain(|of| of.slot != slot);
        }
    }

    /// A finisher says something for a call of a slot that this node owns, is about to own, or handed over itself. A
    /// slot that came back here is owned and was handed over: what did not go round yet goes round.
    pub(super) fn finish(&mut self, ctx: &mut Ctx, from: Opener, slot: Slot, call: Call, piece: Piece) {
        let held = self.owner.slot(slot);
        let stream = held.state.as_ref().and_then(|log| log.streams.get(&call.stream));
        let expected = stream.is_none_or(|stream| stream.finisher == Some(from.node));
        if held.state.is_some() && expected {
            return self.piece(ctx, call, piece, Some(from));
        }
        let owner = held.duty.record().owner.map(|owner| index_of(owner.node));
        if held.target.0.lane().is_some() && owner == Some(from.node) {
            return held.waiting.push(Waits::Piece { call, piece, finisher: Some(from) });
        }
        let relays = self.owner.finishing.values().flatten().any(|of| {
            let flight = of.flights.get(&call.stream);
            flight.is_some_and(|flight| flight.relayed)
        });
        if relays {
            return self.finished_piece(ctx, call, piece, true);
        }
        let fence = Fence { slot, term: enfilade_registry::Term(0) };
        self.reply(ctx, from, fence, Reply::Reset);
    }

    /// The link between a finisher and an owner broke: what the one would have said is not known.
    pub(super) fn finisher_lost(&mut self, ctx: &mut Ctx, peer: usize) {
        let mut lost = Vec::new();
        for held in self.owner.slots.values() {
            let streams = held.state.iter().flat_map(|log| log.streams.values());
            lost.extend(streams.filter(|s| s.open && s.finisher == Some(peer)).map(|s| s.call));
        }
        for call in lost {
            self.piece(ctx, call, Piece::Unknown, Some(Opener { node: peer, exchange: 0, call: call.id }));
        }
        let of_peer = self.owner.finishing.values().flatten().filter(|of| of.to == peer);
        let calls: Vec<StreamId> = of_peer.flat_map(|of| of.flights.keys().copied()).collect();
        for call in calls {
            self.let_go(ctx, call);
        }
    }
}
