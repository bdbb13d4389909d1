//! The upstreams: they run what they are sent, since they cannot be fenced, and they are the witness of executions.

use std::collections::BTreeMap;

use enfilade_registry::Term;
use rand::Rng;

use crate::call::{Call, CallId, Piece};
use crate::checks::Invariant;
use crate::clock::{MILLI, Micros};
use crate::ctx::Ctx;
use crate::event::{Event, Input, Sent};

/// How often a safe call may run: once, and once more after a loss.
const SAFE_RUNS_MAX: usize = 2;

/// When a call ran, and for whom: what the upstream was told.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "shown in reports")]
pub(crate) struct Execution {
    at: Micros,
    from: usize,
    term: Term,
}

#[derive(Default)]
pub(crate) struct Upstream {
    executions: BTreeMap<CallId, Vec<Execution>>,
}

impl Upstream {
    pub(crate) fn executions(&self, call: CallId) -> usize {
        self.executions.get(&call).map_or(0, Vec::len)
    }
}

/// A call arrives at its upstream, which runs it whoever sent it, and answers the process that sent it.
pub(crate) fn run(ctx: &mut Ctx, sent: Sent, term: Term, call: Call) {
    if ctx.ended_before(sent) {
        return;
    }
    let (from, life) = (sent.node, sent.life);
    let execution = Execution { at: ctx.now, from, term };
    let executions = ctx.upstream.executions.entry(call.id).or_default();
    executions.push(execution);
    let (count, all) = (executions.len(), executions.clone());
    ctx.stats.executions += 1;
    ctx.line(format_args!("upstream runs {call} for n{from} term {} ({count})", term.0));
    let max = if call.safe { SAFE_RUNS_MAX } else { 1 };
    if count > max {
        let invariant = if call.safe { Invariant::SafeTwice } else { Invariant::UnsafeOnce };
        ctx.violated(invariant, format_args!("{call} was executed {count} times: {all:?}"));
    }
    let mut after = 0;
    for number in 1..=call.events {
        after += step(ctx);
        reply(ctx, after, from, life, Input::Upstream { call, term, piece: Piece::Event(number) });
    }
    after += step(ctx);
    reply(ctx, after, from, life, Input::Upstream { call, term, piece: Piece::Result });
}

fn step(ctx: &mut Ctx) -> Micros {
    if ctx.rng.random_ratio(1, 4) {
        ctx.rng.random_range(MILLI..=1_500 * MILLI)
    } else {
        ctx.rng.random_range(MILLI..=80 * MILLI)
    }
}

fn reply(ctx: &mut Ctx, after: Micros, node: usize, life: u64, input: Input) {
    let at = ctx.now + after;
    ctx.queue.push(at, Event::Input { node, life, input });
}
