//! The edge's side: sends each call to the owner of its slot, and does what its rule says when no answer comes.

use std::collections::BTreeMap;

use enfilade_registry::edge_rule::{EdgeRule, Failure, Verdict};
use enfilade_registry::{Fence, Slot, Term};

use super::Node;
use crate::call::{Call, CallId, EventId, Outcome, Piece, StreamId};
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::{Frame, Opener, Reply, Said};

#[derive(Default)]
pub(super) struct Edge {
    calls: BTreeMap<CallId, Open>,
    /// The highest term seen of each slot, in the table and in answers.
    terms: BTreeMap<Slot, Term>,
}

struct Open {
    call: Call,
    attempt: u64,
    /// The client resumes: the call was sent by somebody before, and the client has its events up to this one.
    resume: Option<EventId>,
    phase: Phase,
    rule: EdgeRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waits {
        until_ms: u64,
    },
    /// Written to an owner; `head` once its stream began.
    Sent {
        peer: usize,
        exchange: u64,
        head: bool,
    },
}

impl Node {
    pub(super) fn client_calls(&mut self, ctx: &mut Ctx, call: Call, attempt: u64, resume: Option<EventId>) {
        let now_ms = self.now_ms(ctx);
        // To ask for the rest of a stream is safe, whatever the call was.
        let safe = call.safe || resume.is_some() || ctx.options.has(Defect::UnsafeReplayed);
        let rule = EdgeRule::new(now_ms, safe, None, &self.timing);
        let open = Open { call, attempt, resume, phase: Phase::Waits { until_ms: now_ms }, rule };
        self.edge.calls.insert(call.id, open);
        self.send_call(ctx, call.id);
    }

    /// Sends a call to the owner of its slot, or lets it wait.
    fn send_call(&mut self, ctx: &mut Ctx, id: CallId) {
        let Some(open) = self.edge.calls.get(&id) else { return };
        let resume = open.resume;
        let exchange = ctx.exchange();
        let call = Call { stream: resume.map_or(StreamId(exchange), |after| after.stream), ..open.call };
        let sent = self.owner_of(call.slot).and_then(|(peer, term)| {
            let slot = call.slot;
            let frame = match resume {
                Some(after) => Frame::Attach { slot, term, call, after: Some(after), exchange },
                None => Frame::Call { slot, term, call, exchange },
            };
            ctx.frame(self.id, peer, frame).ok().map(|()| peer)
        });
        let Some(peer) = sent else { return self.failed(ctx, id, Failure::NotSent) };
        ctx.line(format_args!("n{} sends {call} to n{peer}", self.id));
        if let Some(open) = self.edge.calls.get_mut(&id) {
            open.phase = Phase::Sent { peer, exchange, head: false };
        }
    }

    /// An attempt failed: the rule says what becomes of the call.
    fn failed(&mut self, ctx: &mut Ctx, id: CallId, failure: Failure) {
        let now_ms = self.now_ms(ctx);
        let Some(open) = self.edge.calls.get_mut(&id) else { return };
        let verdict = open.rule.failed(now_ms, failure);
        if failure != Failure::NotSent {
            ctx.line(format_args!("n{} {}: {failure:?}: {verdict:?}", self.id, open.call));
        }
        let resumes = open.resume.is_some();
        let said = match verdict {
            Verdict::Again { wait_ms } => {
                open.phase = Phase::Waits { until_ms: now_ms + wait_ms };
                return;
            }
            _ if resumes => Said::StreamEnd,
            Verdict::Unknown => Said::Outcome(Outcome::Unknown),
            Verdict::EndStream => Said::StreamEnd,
            Verdict::Unavailable => Said::Outcome(Outcome::NotExecuted),
            Verdict::Deadline { .. } => Said::Outcome(Outcome::Deadline),
        };
        self.say_last(ctx, id, said);
    }

    pub(super) fn edge_tick(&mut self, ctx: &mut Ctx) {
        let now_ms = self.now_ms(ctx);
        let due = |open: &Open| matches!(open.phase, Phase::Waits { until_ms } if until_ms <= now_ms);
        let calls: Vec<CallId> = self.edge.calls.iter().filter(|(_, open)| due(open)).map(|(id, _)| *id).collect();
        for id in calls {
            self.send_call(ctx, id);
        }
    }

    fn say_last(&mut self, ctx: &mut Ctx, id: CallId, said: Said) {
        if let Some(open) = self.edge.calls.remove(&id) {
            ctx.say(self.id, id, open.attempt, said);
        }
    }

    /// The map changed: what waits is tried at once.
    pub(super) fn edge_applied(&mut self, ctx: &mut Ctx) {
        let mut changed = false;
        for (slot, record) in self.machine.slots().iter() {
            ctx.learns(self.id, slot, record.term);
            let known = self.edge.terms.entry(slot).or_default();
            changed |= *known < record.term;
            *known = (*known).max(record.term);
        }
        for open in self.edge.calls.values_mut().filter(|_| changed) {
            if let Phase::Waits { until_ms } = &mut open.phase {
                *until_ms = 0;
            }
        }
    }

    pub(super) fn replied(&mut self, ctx: &mut Ctx, to: Opener, fence: Fence, reply: Reply) {
        let (Fence { slot, term }, id) = (fence, to.call);
        let Some(open) = self.edge.calls.get_mut(&id) else { return };
        let Phase::Sent { peer, exchange, head } = open.phase else { return };
        if exchange != to.exchange {
            return;
        }
        let lost =
            if head { Failure::LostInStream { resumable: open.call.resumable } } else { Failure::LostBeforeHead };
        let known = self.edge.terms.entry(slot).or_default();
        let stale = term < *known && !ctx.options.has(Defect::TermUnchecked);
        match reply {
            Reply::NotServed(refused) => self.failed(ctx, id, Failure::NotServed(refused)),
            Reply::Reset => self.failed(ctx, id, lost),
            _ if stale => {
                ctx.line(format_args!("n{} drops {reply:?} of term {}, it knows {}", self.id, term.0, known.0));
                ctx.stats.dropped += 1;
                self.failed(ctx, id, lost);
            }
            Reply::NoSuchCall => self.say_last(ctx, id, Said::Outcome(Outcome::Unknown)),
            Reply::Piece { piece, id: event } => {
                *known = (*known).max(term);
                ctx.accepts(self.id, slot, term);
                let said = Said::Piece { piece, id: event };
                if let Piece::Event(_) = piece {
                    open.phase = Phase::Sent { peer, exchange, head: true };
                    let attempt = open.attempt;
                    ctx.say(self.id, id, attempt, said);
                } else {
                    self.say_last(ctx, id, said);
                }
            }
        }
    }

    pub(super) fn edge_lost(&mut self, ctx: &mut Ctx, lost: usize) {
        let of_peer = |open: &Open| match open.phase {
            Phase::Sent { peer, head, .. } if peer == lost => Some((head, open.call.resumable)),
            _ => None,
        };
        let calls: Vec<_> = self.edge.calls.iter().filter_map(|(id, open)| of_peer(open).map(|of| (*id, of))).collect();
        for (id, (head, resumable)) in calls {
            let failure = if head { Failure::LostInStream { resumable } } else { Failure::LostBeforeHead };
            self.failed(ctx, id, failure);
        }
    }
}
