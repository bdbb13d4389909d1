//! The clients of sessions: they make calls on any edge, resume what they may, and see how each call ends.

use std::collections::BTreeMap;

use rand::Rng;

use crate::call::{Call, CallId, EventId, Outcome, Piece, StreamId};
use crate::checks::Invariant;
use crate::clock::{MILLI, Micros, SECOND};
use crate::ctx::Ctx;
use crate::event::{ClientEvent, Event, Input, Said};
use crate::setup;

/// How long a client waits for a call to end.
const DEADLINE: Micros = 25 * SECOND;

#[derive(Default)]
pub(crate) struct Clients {
    calls: BTreeMap<CallId, Open>,
    made: u64,
    /// No more calls: the run ends.
    pub(crate) silent: bool,
    /// Since faults ended: when each slot answered a call made since.
    pub(crate) calm_at: Option<Micros>,
    served: BTreeMap<enfilade_registry::Slot, Micros>,
}

/// A call that has not ended for its client.
struct Open {
    call: Call,
    made_at: Micros,
    /// Which of its connections is the present one.
    attempt: u64,
    edge: usize,
    /// The number of the event that comes next.
    next: u32,
    last: Option<EventId>,
}

impl Clients {
    pub(crate) fn start(&self, ctx: &mut Ctx) {
        for session in 0..setup::SESSIONS {
            let at = ctx.rng.random_range(3 * SECOND..=5 * SECOND);
            ctx.queue.push(at, Event::Client(ClientEvent::Next { session }));
        }
    }

    /// Whether every call has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.calls.is_empty()
    }

    /// The slots that answered nothing since faults ended.
    pub(crate) fn silent_slots(&self) -> Vec<enfilade_registry::Slot> {
        setup::slots().filter(|slot| !self.served.contains_key(slot)).collect()
    }

    pub(crate) fn handle(&mut self, ctx: &mut Ctx, event: ClientEvent) {
        match event {
            ClientEvent::Next { session } => self.next(ctx, session),
            ClientEvent::Said { from, call, attempt, said } => {
                if !ctx.ended_before(from) && self.calls.get(&call).is_some_and(|open| open.attempt == attempt) {
                    self.said(ctx, call, said);
                }
            }
            ClientEvent::Broken { call, attempt } => {
                if self.calls.get(&call).is_some_and(|open| open.attempt == attempt) {
                    self.broken(ctx, call);
                }
            }
            ClientEvent::Resume { call } => self.resume(ctx, call),
            ClientEvent::Deadline { call } => {
                if self.calls.contains_key(&call) {
                    self.end(ctx, call, Outcome::Deadline);
                }
            }
        }
    }

    fn next(&mut self, ctx: &mut Ctx, session: usize) {
        if self.silent {
            return;
        }
        let pause = ctx.rng.random_range(100 * MILLI..=1_200 * MILLI);
        ctx.queue.push(ctx.now + pause, Event::Client(ClientEvent::Next { session }));
        let Some(edge) = any_edge(ctx) else { return };
        self.made += 1;
        let calm = self.calm_at.is_some();
        let resumable = !calm && ctx.rng.random_ratio(1, 2);
        let call = Call {
            id: CallId(self.made),
            session,
            slot: setup::slot_of(session),
            stream: StreamId::default(),
            safe: calm || ctx.rng.random_ratio(1, 2),
            resumable,
            events: if resumable { ctx.rng.random_range(1..=5) } else { 0 },
        };
        ctx.stats.calls += 1;
        ctx.line(format_args!("client calls {call} at n{edge}"));
        self.calls.insert(call.id, Open { call, made_at: ctx.now, attempt: 1, edge, next: 0, last: None });
        ctx.queue.push(ctx.now + DEADLINE, Event::Client(ClientEvent::Deadline { call: call.id }));
        let after = ctx.rng.random_range(100..=5 * MILLI);
        ctx.input(after, edge, Input::Client { call, attempt: 1, resume: None });
    }

    fn resume(&mut self, ctx: &mut Ctx, call: CallId) {
        let Some(open) = self.calls.get_mut(&call) else { return };
        let Some(edge) = any_edge(ctx) else {
            ctx.queue.push(ctx.now + SECOND, Event::Client(ClientEvent::Resume { call }));
            return;
        };
        open.attempt += 1;
        open.edge = edge;
        let (call, attempt, last) = (open.call, open.attempt, open.last);
        ctx.stats.resumed += 1;
        ctx.line(format_args!("client resumes {call} at n{edge}"));
        let after = ctx.rng.random_range(100..=5 * MILLI);
        ctx.input(after, edge, Input::Client { call, attempt, resume: last });
    }

    fn said(&mut self, ctx: &mut Ctx, call: CallId, said: Said) {
        match said {
            Said::Piece { piece, id } => self.piece(ctx, call, piece, id),
            Said::Outcome(outcome) => self.end(ctx, call, outcome),
            Said::StreamEnd => self.broken(ctx, call),
        }
    }

    fn piece(&mut self, ctx: &mut Ctx, id: CallId, piece: Piece, event: Option<EventId>) {
        let Some(open) = self.calls.get_mut(&id) else { return };
        let (call, expected) = (open.call, open.next);
        if let Some(event) = event {
            open.last = Some(event);
        }
        match piece {
            Piece::Event(number) => {
                open.next = number + 1;
                ctx.stats.events += 1;
                if number != expected {
                    let what = if number < expected { "again" } else { "too early" };
                    ctx.violated(
                        Invariant::EventsInOrder,
                        format_args!("{call}: event {number} comes {what}, {expected} was next"),
                    );
                }
                if let Some(event) = event {
                    ctx.delivered(call.slot, event, number);
                }
                ctx.line(format_args!("client has event {number} of {call}"));
            }
            Piece::Result => {
                if call.resumable && expected != call.events + 1 {
                    ctx.violated(
                        Invariant::EventsInOrder,
                        format_args!("{call}: the result comes without event {expected}"),
                    );
                }
                if self.calm_at.is_some_and(|calm_at| open.made_at >= calm_at) {
                    self.served.entry(call.slot).or_insert(ctx.now);
                }
                self.end(ctx, id, Outcome::Result);
            }
            Piece::Unknown => self.end(ctx, id, Outcome::Unknown),
        }
    }

    /// The connection is gone: a client that has an event id may come back for the rest.
    fn broken(&mut self, ctx: &mut Ctx, id: CallId) {
        let Some(open) = self.calls.get_mut(&id) else { return };
        open.attempt += 1;
        if open.last.is_none() {
            return self.end(ctx, id, Outcome::Broken);
        }
        let after = ctx.rng.random_range(500 * MILLI..=5 * SECOND);
        ctx.queue.push(ctx.now + after, Event::Client(ClientEvent::Resume { call: id }));
    }

    fn end(&mut self, ctx: &mut Ctx, id: CallId, outcome: Outcome) {
        let Some(open) = self.calls.remove(&id) else { return };
        ctx.line(format_args!("{} ends: {outcome:?}", open.call));
        ctx.stats.outcome(outcome);
        ctx.ended(open.call, outcome == Outcome::NotExecuted);
        if let Some(events) = ctx.checks.delivered.get_mut(&open.call.slot) {
            // A stream that ended need not be kept.
            events.retain(|event, _| open.last.is_none_or(|last| event.stream != last.stream));
        }
    }

    /// An edge died: its clients notice.
    pub(crate) fn edge_died(&self, ctx: &mut Ctx, edge: usize) {
        for (call, open) in self.calls.iter().filter(|(_, open)| open.edge == edge) {
            let after = ctx.rng.random_range(MILLI..=1_500 * MILLI);
            let event = ClientEvent::Broken { call: *call, attempt: open.attempt };
            ctx.queue.push(ctx.now + after, Event::Client(event));
        }
    }
}

fn any_edge(ctx: &mut Ctx) -> Option<usize> {
    let up: Vec<usize> = (0..ctx.options.nodes).filter(|node| ctx.up[*node]).collect();
    if up.is_empty() { None } else { Some(up[ctx.rng.random_range(0..up.len())]) }
}
