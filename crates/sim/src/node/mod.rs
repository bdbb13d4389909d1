//! One node: the real state machines, wired to the world's network and clock.
//! Rule: it decides nothing that a machine of the registry crate decides; seeded defects are in this wiring.

mod edge;
mod lead;
mod owner;
mod registry;

use std::collections::{BTreeMap, VecDeque};

use enfilade_registry::{Generation, Holder, NodeId, Run, StateMachine, Timing};
use rand::Rng;

use self::edge::Edge;
use self::lead::Leader;
pub(crate) use self::owner::LogEntry;
use self::owner::Owner;
use self::registry::{Reading, Waiting};
use crate::clock::{Clock, MILLI, Micros, RATES_PPM};
use crate::ctx::Ctx;
use crate::defect::Defect;
use crate::event::{Event, Input, Packet, Timer};
use crate::raft::{Raft, Ticket};

/// Between two looks at what time has brought.
const TICK: Micros = 30 * MILLI;

pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) run: Run,
    pub(crate) timing: Timing,
    clock: Clock,
    /// Until when the process stands still.
    pub(crate) stalled_until: Micros,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) raft: Raft,
    pub(crate) machine: StateMachine,
    apply_planned: bool,
    pub(crate) holder: Holder,
    leader: Option<Leader>,
    known_leader: Option<usize>,
    tickets: u64,
    waiting: BTreeMap<Ticket, Waiting>,
    reading: BTreeMap<u64, Reading>,
    registered_ms: u64,
    edge: Edge,
    pub(crate) owner: Owner,
}

/// The node's number in the words of the registry.
pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

/// The other way round.
pub(crate) fn index_of(node: NodeId) -> usize {
    node.0 as usize - 1
}

impl Node {
    pub(crate) fn new(id: usize, ctx: &mut Ctx) -> Node {
        // Every other clock is as slow, or as fast, as a clock may be.
        let rate_ppm = match ctx.rng.random_range(0..4) {
            0 => *RATES_PPM.start(),
            1 => *RATES_PPM.end(),
            _ => ctx.rng.random_range(RATES_PPM),
        };
        let clock = Clock::new(ctx.rng.random_range(1..=1_000_000_000), rate_ppm);
        let run = Run { node: node_id(id), generation: Generation(1) };
        let timing = Timing::default();
        let raft = Raft::new(id, ctx.options.nodes, clock.us(0), patience(ctx, &timing));
        Node {
            id,
            run,
            timing,
            clock,
            stalled_until: 0,
            inbox: VecDeque::new(),
            raft,
            machine: crate::setup::machine(),
            apply_planned: false,
            holder: Holder::new(run, timing),
            leader: None,
            known_leader: None,
            tickets: 0,
            waiting: BTreeMap::new(),
            reading: BTreeMap::new(),
            registered_ms: 0,
            edge: Edge::default(),
            owner: Owner::new(run),
        }
    }

    /// Starts the process again: its memory is gone, its log of the registry is not.
    pub(crate) fn restart(&mut self, ctx: &mut Ctx) {
        if !ctx.options.has(Defect::GenerationReused) {
            self.run.generation.0 += 1;
        }
        self.stalled_until = 0;
        self.inbox.clear();
        self.raft.restart(self.clock.us(ctx.now));
        self.machine = crate::setup::machine();
        self.apply_planned = false;
        self.holder = Holder::new(self.run, self.timing);
        self.leader = None;
        self.known_leader = None;
        self.waiting.clear();
        self.reading.clear();
        self.registered_ms = 0;
        self.edge = Edge::default();
        self.owner = Owner::new(self.run);
        self.start(ctx);
    }

    /// The process ends.
    pub(crate) fn lose_memory(&mut self) {
        self.inbox.clear();
        self.leader = None;
        self.edge = Edge::default();
        self.owner = Owner::new(self.run);
    }

    pub(crate) fn start(&mut self, ctx: &mut Ctx) {
        for timer in [Timer::Tick, Timer::Heartbeat, Timer::Beat] {
            let after = ctx.rng.random_range(1..=TICK);
            ctx.input(after, self.id, Input::Timer(timer));
        }
    }

    /// What the node's clock shows.
    pub(crate) fn now_ms(&self, ctx: &Ctx) -> u64 {
        self.clock.ms(ctx.at())
    }

    fn now_us(&self, ctx: &Ctx) -> u64 {
        self.clock.us(ctx.at())
    }

    pub(crate) fn handle(&mut self, ctx: &mut Ctx, input: Input) {
        ctx.paused = 0;
        match input {
            Input::Packet { from, packet } => self.packet(ctx, from, packet),
            Input::Frame { from, frame } => self.frame(ctx, from, frame),
            Input::LinkLost { peer } => {
                self.edge_lost(ctx, peer);
                self.owner_lost(ctx, peer);
            }
            Input::LinkUp { peer } => self.owner_link_up(ctx, peer),
            Input::Timer(timer) => self.timer(ctx, timer),
            Input::Tell { slot, lane } => self.tell(ctx, slot, lane),
            Input::Upstream { call, term, piece } => self.upstream_said(ctx, call, term, piece),
            Input::Client { call, attempt, resume } => self.client_calls(ctx, call, attempt, resume),
            Input::Registry { client, ask } => self.registry_asked(ctx, client, ask),
        }
        self.settle(ctx);
        if ctx.paused > 0 {
            self.stall(ctx, ctx.at());
            ctx.paused = 0;
        }
    }

    /// After each input: what Raft wants to send, what it committed, and whether the leader changed.
    fn settle(&mut self, ctx: &mut Ctx) {
        self.follow_role(ctx);
        self.plan_apply(ctx);
        self.send_raft(ctx);
        if self.raft.leader.is_some() && self.raft.leader != self.known_leader {
            // A new leader hears of the owner at once.
            self.beat(ctx);
        }
        self.known_leader = self.raft.leader;
    }

    fn send_raft(&mut self, ctx: &mut Ctx) {
        for (to, message) in std::mem::take(&mut self.raft.out) {
            ctx.packet(self.id, to, Packet::Raft(message));
        }
    }

    fn packet(&mut self, ctx: &mut Ctx, from: usize, packet: Packet) {
        match packet {
            Packet::Raft(message) => {
                let (now_us, least_us) = (self.now_us(ctx), self.timing.election_min_ms * MILLI);
                self.raft.receive(now_us, from, message, least_us);
                self.confirm_rounds(ctx);
            }
            Packet::Beat { beat } => self.heard(ctx, from, &beat),
            Packet::Ack(ack) => {
                let now_ms = self.now_ms(ctx);
                self.holder.acked(now_ms, ack);
            }
            Packet::Submit { ticket, command } => {
                self.raft.propose(ticket, command);
            }
            Packet::ReadIndex { number } => self.read_index(ctx, from, number),
            Packet::Index { number, index } => self.got_index(ctx, number, index),
        }
    }

    fn timer(&mut self, ctx: &mut Ctx, timer: Timer) {
        let again = match timer {
            Timer::Tick => {
                let (now_us, next_us) = (self.now_us(ctx), patience(ctx, &self.timing));
                self.raft.tick(now_us, next_us);
                self.lead_tick(ctx);
                self.register(ctx);
                self.owner_tick(ctx);
                self.edge_tick(ctx);
                TICK
            }
            Timer::Heartbeat => {
                self.raft.heartbeat();
                self.timing.raft_heartbeat_ms * MILLI
            }
            Timer::Beat => {
                self.beat(ctx);
                self.timing.heartbeat_ms * MILLI
            }
            Timer::Apply => {
                self.apply_planned = false;
                return self.apply(ctx);
            }
        };
        let after = self.clock.world_us(again);
        ctx.input(after, self.id, Input::Timer(timer));
    }

    fn beat(&mut self, ctx: &mut Ctx) {
        let Some(leader) = self.raft.leader else { return };
        let unreachable = (0..ctx.options.nodes)
            .filter(|peer| *peer != self.id && ctx.net.end(self.id, *peer) == crate::net::End::Down)
            .map(node_id)
            .collect();
        let beat = self.holder.beat(self.now_ms(ctx), unreachable);
        ctx.packet(self.id, leader, Packet::Beat { beat });
    }

    /// The guard before every effect for a slot: whether the lease holds, at the time at which the effect is made.
    /// A process may be suspended before it asks, and after.
    pub(crate) fn may_act(&mut self, ctx: &mut Ctx) -> bool {
        self.suspend_at_guard(ctx);
        let may = self.holder.may_act(self.now_ms(ctx)) || ctx.options.has(Defect::NoFence);
        if may {
            ctx.checks.guard_at = ctx.at();
            self.suspend_at_guard(ctx);
        }
        may
    }

    fn suspend_at_guard(&mut self, ctx: &mut Ctx) {
        ctx.guards += 1;
        let due = ctx.guard_pause_at == Some(ctx.guards);
        if due || (ctx.guard_pause_ppm > 0 && ctx.rng.random_ratio(ctx.guard_pause_ppm, 1_000_000)) {
            let least = if due { self.timing.act_ms } else { 500 };
            ctx.stats.aimed[1] += u64::from(due);
            ctx.paused += ctx.rng.random_range(least * MILLI..=5_000 * MILLI);
            ctx.stats.guard_pauses += 1;
            let paused = ctx.paused;
            ctx.line(format_args!("n{} is suspended at a guard for {} ms", self.id, paused / MILLI));
        }
    }

    /// Stands still until then; what arrives meanwhile waits.
    pub(crate) fn stall(&mut self, ctx: &mut Ctx, until: Micros) {
        if until > self.stalled_until {
            self.stalled_until = until;
            ctx.queue.push(until, Event::Wake { node: self.id });
        }
    }
}

fn patience(ctx: &mut Ctx, timing: &Timing) -> Micros {
    ctx.rng.random_range(timing.election_min_ms..=timing.election_max_ms) * MILLI
}
