//! What every part of the world shares: time, chance, the network, the trace, the checks and the counts.

use std::collections::BTreeMap;
use std::fmt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::call::CallId;
use crate::checks::Checks;
use crate::clock::{MILLI, Micros, SECOND};
use crate::event::{ClientEvent, Event, Frame, Input, Packet, Said, Sent};
use crate::history::Histories;
use crate::net::{End, Net};
use crate::options::Options;
use crate::queue::Queue;
use crate::stats::Stats;
use crate::trace::Trace;
use crate::upstream::Upstream;

/// Two ends learn of a broken link within this time.
const NOTICE_MAX: Micros = 2 * SECOND;

/// The frame was not written: nothing was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotSent;

pub(crate) struct Ctx {
    pub(crate) now: Micros,
    /// For how long the process that acts now was suspended in the middle of what it does.
    pub(crate) paused: Micros,
    /// How likely a process is suspended at a guard, in millionths.
    pub(crate) guard_pause_ppm: u32,
    /// How many times a guard was passed so far, and the one at which the process is to be suspended.
    pub(crate) guards: u64,
    pub(crate) guard_pause_at: Option<u64>,
    /// The one fault of a scenario of moves has happened.
    pub(crate) move_fault_done: bool,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) options: Options,
    pub(crate) checks: Checks,
    pub(crate) stats: Stats,
    pub(crate) upstream: Upstream,
    pub(crate) histories: Histories,
    /// When the last thing said for a call arrives.
    said: BTreeMap<CallId, Micros>,
    /// Which life of each node's process is the present one; what was sent to an earlier one is lost.
    pub(crate) lives: Vec<u64>,
    pub(crate) up: Vec<bool>,
    /// When each node's last process ended.
    pub(crate) died_at: Vec<Micros>,
    pub(crate) exchanges: u64,
}

impl Ctx {
    pub(crate) fn new(options: Options) -> Ctx {
        let nodes = options.nodes;
        Ctx {
            now: 0,
            paused: 0,
            guard_pause_ppm: 0,
            guards: 0,
            guard_pause_at: None,
            move_fault_done: false,
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            queue: Queue::new(),
            net: Net::new(nodes),
            trace: Trace::new(options.trace),
            checks: Checks::default(),
            stats: Stats::default(),
            upstream: Upstream::default(),
            histories: Histories::default(),
            said: BTreeMap::new(),
            lives: vec![1; nodes],
            up: vec![true; nodes],
            died_at: vec![0; nodes],
            exchanges: 0,
            options,
        }
    }

    /// The time at which the acting process is.
    pub(crate) fn at(&self) -> Micros {
        self.now + self.paused
    }

    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) {
        self.trace.line(self.now, text);
    }

    /// A packet: a message of Raft, a heartbeat, a submission. May be lost, doubled never.
    pub(crate) fn packet(&mut self, from: usize, to: usize, packet: Packet) {
        let at = self.at();
        let arrival = if from == to {
            Some(at + self.rng.random_range(1..=50))
        } else {
            self.net.packet(&mut self.rng, at, from, to)
        };
        let life = self.lives[to];
        match arrival {
            Some(arrival) => {
                self.queue.push(arrival, Event::Input { node: to, life, input: Input::Packet { from, packet } })
            }
            None => self.stats.packets_lost += 1,
        }
    }

    /// A frame on the link between two nodes; `Ok` says that it was written, not that it arrives.
    pub(crate) fn frame(&mut self, from: usize, to: usize, frame: Frame) -> Result<(), NotSent> {
        let at = self.at();
        if from == to {
            let (arrival, life) = (self.net.local(at, from), self.lives[to]);
            self.queue.push(arrival, Event::Input { node: to, life, input: Input::Frame { from, frame } });
            return Ok(());
        }
        let End::Up(connection) = self.net.end(from, to) else { return Err(NotSent) };
        if self.net.breaks(&mut self.rng, from, to) {
            self.sever(from, to);
        }
        match self.net.frame(&mut self.rng, at, from, to) {
            Some(arrival) => self.queue.push(arrival, Event::Frame { from, to, connection, frame }),
            None => self.stats.frames_lost += 1,
        }
        Ok(())
    }

    /// Breaks the link between two nodes; each end learns of it in its own time.
    pub(crate) fn sever(&mut self, a: usize, b: usize) {
        let Some(connection) = self.net.sever(a, b) else { return };
        self.stats.links_broken += 1;
        for (node, peer) in [(a, b), (b, a)] {
            let quick = self.rng.random_ratio(1, 2);
            let after = self.rng.random_range(MILLI / 2..=if quick { 20 * MILLI } else { NOTICE_MAX });
            self.queue.push(self.now + after, Event::Lost { node, peer, connection });
        }
    }

    /// An event for a node's process, if the same process still lives then.
    pub(crate) fn input(&mut self, after: Micros, node: usize, input: Input) {
        let (at, life) = (self.at() + after, self.lives[node]);
        self.queue.push(at, Event::Input { node, life, input });
    }

    /// The number of a new exchange.
    pub(crate) fn exchange(&mut self) -> u64 {
        self.exchanges += 1;
        self.exchanges
    }

    /// What the acting process of a node sends now.
    pub(crate) fn sent(&self, node: usize) -> Sent {
        Sent { node, life: self.lives[node], at: self.at() }
    }

    /// Whether the process had ended before it could send this.
    pub(crate) fn ended_before(&self, sent: Sent) -> bool {
        self.lives[sent.node] != sent.life && self.died_at[sent.node] < sent.at
    }

    /// An edge says something to the client of a call. What is said on one connection keeps its order.
    pub(crate) fn say(&mut self, node: usize, call: CallId, attempt: u64, said: Said) {
        let soonest = self.at() + self.net.delay(&mut self.rng);
        let last = self.said.entry(call).or_default();
        *last = soonest.max(*last + 1);
        let (at, from) = (*last, self.sent(node));
        self.queue.push(at, Event::Client(ClientEvent::Said { from, call, attempt, said }));
    }
}
