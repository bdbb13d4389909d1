//! The world of one run: it hands out what happens, in the order of virtual time, until a check fails or all is done.

use rand::Rng;

use crate::checks::{Invariant, Violation};
use crate::client::Clients;
use crate::clock::{MILLI, Micros, SECOND};
use crate::ctx::Ctx;
use crate::event::{Event, Input};
use crate::faults;
use crate::net::End;
use crate::node::Node;
use crate::options::Options;
use crate::scenario::Scenario;
use crate::stats::Stats;

/// With faults ended every slot serves within this time.
const SERVES_WITHIN: Micros = 10 * SECOND;
/// How long a run lasts after that, at most, until every call has ended.
const ENDING_MAX: Micros = 30 * SECOND;
/// Between two looks at everything that clients were promised.
const LOOK_EVERY: Micros = 100 * MILLI;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub options: Options,
    /// A hash of all lines of its trace.
    pub trace_hash: u64,
    /// The invariant that fell, if one did.
    pub violation: Option<Violation>,
    /// The last lines of the trace.
    pub lines: Vec<String>,
    /// Counts.
    pub stats: Stats,
}

pub(crate) struct World {
    pub(crate) ctx: Ctx,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Clients,
    looked_at: Micros,
}

/// Runs one seed to its end.
pub fn run(options: &Options) -> Report {
    let mut world = World::new(options.clone());
    world.start();
    world.go();
    let World { mut ctx, .. } = world;
    ctx.stats.seeds = 1;
    ctx.stats.aimed[0] = u64::from(options.scenario != Scenario::Chance);
    ctx.stats.time_us = ctx.now;
    Report {
        options: options.clone(),
        trace_hash: ctx.trace.hash(),
        violation: ctx.checks.violation.clone(),
        lines: ctx.trace.last(60),
        stats: ctx.stats,
    }
}

impl World {
    fn new(options: Options) -> World {
        let mut ctx = Ctx::new(options);
        let nodes = (0..ctx.options.nodes).map(|id| Node::new(id, &mut ctx)).collect();
        World { ctx, nodes, clients: Clients::default(), looked_at: 0 }
    }

    fn start(&mut self) {
        for node in &mut self.nodes {
            node.start(&mut self.ctx);
        }
        self.clients.start(&mut self.ctx);
        self.ctx.start_registry_clients();
        self.ctx.queue.push(1, Event::Connect);
        let ends = self.ctx.options.scenario.ends();
        match self.ctx.options.scenario {
            Scenario::Chance => {
                if self.ctx.rng.random_ratio(1, 2) {
                    self.ctx.guard_pause_ppm = self.ctx.rng.random_range(100..=3_000);
                }
                faults::by_chance(&mut self.ctx, ends);
            }
            Scenario::MoveFault(..) | Scenario::GuardPause(_) => {
                let who = faults::Who::Node(self.ctx.rng.random_range(0..self.ctx.options.nodes));
                let drain = faults::Fault::Drain { who, lasts: 8 * SECOND };
                self.ctx.queue.push(6 * SECOND, Event::Arm);
                self.ctx.queue.push(6 * SECOND, Event::Fault(drain));
            }
        }
        self.ctx.queue.push(ends, Event::Calm);
    }

    fn go(&mut self) {
        while let Some((at, event)) = self.ctx.queue.pop() {
            debug_assert!(at >= self.ctx.now, "time goes on");
            self.ctx.now = at;
            self.ctx.stats.steps += 1;
            self.happens(event);
            if self.ctx.now >= self.looked_at + LOOK_EVERY {
                self.look();
            }
            if self.ctx.checks.violation.is_some() || self.is_over() {
                break;
            }
        }
        if self.ctx.checks.violation.is_none() {
            self.ctx.check_histories();
        }
    }

    /// Checks what is too much to check at every event.
    pub(crate) fn look(&mut self) {
        self.looked_at = self.ctx.now;
        self.check_events_kept();
        let Some(calm_at) = self.clients.calm_at else { return };
        if !self.clients.silent && self.ctx.now >= calm_at + SERVES_WITHIN {
            self.clients.silent = true;
            let silent = self.clients.silent_slots();
            if !silent.is_empty() {
                let slots: Vec<u16> = silent.iter().map(|slot| slot.get()).collect();
                self.ctx.violated(
                    Invariant::ServesAgain,
                    format_args!("slots {slots:?} answer nothing 10 s after the last fault"),
                );
            }
        }
        if self.ctx.now >= calm_at + SERVES_WITHIN + ENDING_MAX && !self.clients.all_ended() {
            self.ctx.violated(Invariant::OneOutcome, format_args!("calls have no outcome long after their deadlines"));
        }
    }

    fn is_over(&self) -> bool {
        self.clients.silent && self.clients.all_ended()
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Input { node, life, input } => self.input(node, life, input),
            Event::Frame { from, to, connection, frame } => {
                if self.ctx.net.works(from, to, connection) {
                    let life = self.ctx.lives[to];
                    self.input(to, life, Input::Frame { from, frame });
                }
            }
            Event::Lost { node, peer, connection } => {
                if self.ctx.net.notice(node, peer, connection) {
                    let life = self.ctx.lives[node];
                    self.input(node, life, Input::LinkLost { peer });
                }
            }
            Event::Wake { node } => self.wake(node),
            Event::Restart { node } => self.restart(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Connect => self.connect(),
            Event::Upstream { from, term, call } => crate::upstream::run(&mut self.ctx, from, term, call),
            Event::Client(event) => self.clients.handle(&mut self.ctx, event),
            Event::Register { client } => self.ctx.registry_client(client),
            Event::Acted { from, slot, term, run } => {
                if !self.ctx.ended_before(from) {
                    self.ctx.acted(slot, term, run);
                }
            }
            Event::Arm => {
                if let Scenario::GuardPause(guard) = self.ctx.options.scenario {
                    self.ctx.guard_pause_at = self.ctx.guards.checked_add(guard + 1);
                }
            }
            Event::Calm => self.calm(),
        }
    }

    fn input(&mut self, node: usize, life: u64, input: Input) {
        if self.ctx.lives[node] != life || !self.ctx.up[node] {
            return;
        }
        let process = &mut self.nodes[node];
        if process.stalled_until > self.ctx.now || !process.inbox.is_empty() {
            process.inbox.push_back(input);
        } else {
            process.handle(&mut self.ctx, input);
        }
    }

    /// A process goes on with what waits for it, as long as nothing stops it again.
    fn wake(&mut self, node: usize) {
        while self.nodes[node].stalled_until <= self.ctx.now {
            let Some(input) = self.nodes[node].inbox.pop_front() else { return };
            self.nodes[node].handle(&mut self.ctx, input);
        }
    }

    /// Connects every pair that can be connected.
    fn connect(&mut self) {
        let nodes = self.ctx.options.nodes;
        for (a, b) in (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))) {
            let awake = |node: usize| self.ctx.up[node] && self.nodes[node].stalled_until <= self.ctx.now;
            if !self.ctx.net.can_connect(a, b) || !awake(a) || !awake(b) {
                continue;
            }
            // Who did not notice yet that the old connection is gone learns it from the new one.
            for (node, peer) in [(a, b), (b, a)] {
                if let End::Up(old) = self.ctx.net.end(node, peer) {
                    self.happens(Event::Lost { node, peer, connection: old });
                }
            }
            self.ctx.net.connect(a, b);
            for (node, peer) in [(a, b), (b, a)] {
                let life = self.ctx.lives[node];
                self.input(node, life, Input::LinkUp { peer });
            }
        }
        let after = self.ctx.rng.random_range(50 * MILLI..=250 * MILLI);
        self.ctx.queue.push(self.ctx.now + after, Event::Connect);
    }

    fn restart(&mut self, node: usize) {
        if self.ctx.up[node] {
            return;
        }
        self.ctx.up[node] = true;
        self.ctx.lives[node] += 1;
        self.nodes[node].restart(&mut self.ctx);
        let run = self.nodes[node].run;
        self.ctx.line(format_args!("n{node} starts as {run}"));
    }

    /// Faults end: everybody runs (again, as soon as he wakes), everybody reaches everybody.
    fn calm(&mut self) {
        self.ctx.line(format_args!("faults end"));
        self.ctx.net.heal();
        self.ctx.guard_pause_ppm = 0;
        self.ctx.guard_pause_at = None;
        for node in 0..self.ctx.options.nodes {
            self.restart(node);
        }
        // What stands still in the middle of something cannot be woken early.
        let last = self.nodes.iter().map(|node| node.stalled_until).max().unwrap_or(0);
        self.clients.calm_at = Some(last.max(self.ctx.now));
    }
}
