//! Makes faults happen to the nodes of a world, and checks what their memory must hold.

use enfilade_registry::{Command, Run, Slot, Term};

use crate::checks::Invariant;
use crate::clock::{MILLI, Micros, SECOND};
use crate::event::Event;
use crate::faults::{Fault, Who};
use crate::node::{index_of, node_id};
use crate::world::World;

/// A process that stands still for longer loses its links: the other ends hear no keep-alive.
const KEEPALIVE: Micros = 1_500 * MILLI;

impl World {
    /// The node that knows most of the registry.
    fn best(&self) -> usize {
        (0..self.nodes.len()).max_by_key(|node| self.nodes[*node].machine.applied()).unwrap_or(0)
    }

    fn who(&self, who: Who) -> Option<usize> {
        let record = |slot: Slot| *self.nodes[self.best()].machine.slots().get(slot);
        let node = |run: Run| index_of(run.node);
        match who {
            Who::Node(node) => Some(node),
            Who::Leader => {
                let leading = (0..self.nodes.len()).filter(|node| self.ctx.up[*node] && self.nodes[*node].leads());
                leading.max_by_key(|node| self.nodes[*node].raft.term)
            }
            Who::OwnerOf(slot) => record(slot).owner.map(node),
            Who::SecondOf(slot) => record(slot).second.map(node),
            Who::TargetOf(slot) => record(slot).moving.map(|moving| node(moving.to)),
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.clients.calm_at.is_some() && fault.name() != "end" {
            return;
        }
        self.ctx.line(format_args!("fault: {fault}"));
        if fault.name() != "end" {
            self.ctx.stats.fault(fault.name());
        }
        match fault {
            Fault::Crash { who, restart } => {
                if let Some(node) = self.who(who) {
                    self.crash(node, restart);
                }
            }
            Fault::Stall { who, stall } => {
                if let Some(node) = self.who(who) {
                    self.stall(node, stall);
                }
            }
            Fault::CutOneWay { from, to, lasts } => {
                if let (Some(from), Some(to)) = (self.who(from), self.who(to)) {
                    self.cut(from, to, lasts);
                }
            }
            Fault::Isolate { who, lasts } => {
                if let Some(node) = self.who(who) {
                    self.isolate(node, None, lasts);
                }
            }
            Fault::OnlyLeader { who, lasts } => {
                let leader = self.who(Who::Leader);
                if let Some(node) = self.who(who).filter(|node| leader.is_some_and(|leader| leader != *node)) {
                    self.isolate(node, leader, lasts);
                }
            }
            Fault::Partition { below, lasts } => {
                let nodes = self.nodes.len();
                for (a, b) in (0..below).flat_map(|a| (below..nodes).map(move |b| (a, b))) {
                    self.cut(a, b, lasts);
                    self.cut(b, a, lasts);
                }
            }
            Fault::Uncut { from, to } => self.ctx.net.set_cut(from, to, false),
            Fault::Break { a, b } => {
                if let (Some(a), Some(b)) = (self.who(a), self.who(b)) {
                    self.ctx.sever(a, b);
                }
            }
            Fault::Loss { packets, links, lasts } => {
                (self.ctx.net.loss_permille, self.ctx.net.break_permille) = (packets, links);
                self.ctx.queue.push(self.ctx.now + lasts, Event::Fault(Fault::Calmer));
            }
            Fault::Slow { delay_max, lasts } => {
                self.ctx.net.delay_max = delay_max;
                self.ctx.queue.push(self.ctx.now + lasts, Event::Fault(Fault::Calmer));
            }
            Fault::Calmer => {
                (self.ctx.net.loss_permille, self.ctx.net.break_permille) = (0, 0);
                self.ctx.net.delay_max = 5 * MILLI;
            }
            Fault::Drain { who, lasts } => {
                if let Some(node) = self.who(who) {
                    self.drain(node, true);
                    self.ctx.queue.push(self.ctx.now + lasts, Event::Fault(Fault::Undrain { node }));
                }
            }
            Fault::Undrain { node } => self.undrain(node),
        }
    }

    fn crash(&mut self, node: usize, restart: Micros) {
        if !self.ctx.up[node] {
            return;
        }
        self.ctx.up[node] = false;
        self.ctx.died_at[node] = self.ctx.now;
        self.ctx.lives[node] += 1;
        self.nodes[node].lose_memory();
        self.clients.edge_died(&mut self.ctx, node);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            self.ctx.sever(node, peer);
        }
        self.ctx.net.forget(node);
        self.ctx.queue.push(self.ctx.now + restart, Event::Restart { node });
        self.check_events_kept();
    }

    fn stall(&mut self, node: usize, stall: Micros) {
        let until = self.ctx.now + stall;
        self.nodes[node].stall(&mut self.ctx, until);
        if stall > KEEPALIVE {
            for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
                self.ctx.sever(node, peer);
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, lasts: Micros) {
        if from == to {
            return;
        }
        self.ctx.net.set_cut(from, to, true);
        self.ctx.sever(from, to);
        self.ctx.queue.push(self.ctx.now + lasts, Event::Fault(Fault::Uncut { from, to }));
    }

    fn isolate(&mut self, node: usize, but: Option<usize>, lasts: Micros) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node && Some(*peer) != but) {
            self.cut(node, peer, lasts);
            self.cut(peer, node, lasts);
        }
    }

    /// An operator's command, by whichever node leads.
    fn drain(&mut self, node: usize, on: bool) {
        if let Some(leader) = self.who(Who::Leader) {
            self.nodes[leader].submit(&mut self.ctx, Command::Drain { node: node_id(node), on });
        }
    }

    /// The operator insists until the node takes slots again: a drain must not outlast the faults.
    fn undrain(&mut self, node: usize) {
        if self.nodes[self.best()].machine.members().is_draining(node_id(node)) {
            self.drain(node, false);
            self.ctx.queue.push(self.ctx.now + SECOND, Event::Fault(Fault::Undrain { node }));
        }
    }

    /// Every event that a client has must be at the owner, or at the second if the registry says that it is in step.
    /// When the processes that had it are gone, nothing is left to promise.
    pub(crate) fn check_events_kept(&mut self) {
        let table = self.nodes[self.best()].machine.slots().clone();
        let lives = |run: Run| {
            let node = index_of(run.node);
            (self.ctx.up[node] && self.nodes[node].run == run).then_some(node)
        };
        let mut missing = Vec::new();
        let mut gone = Vec::new();
        for (slot, events) in &self.ctx.checks.delivered {
            let record = table.get(*slot);
            let owner = record.owner.and_then(lives);
            let second = record.second.filter(|_| record.in_sync).and_then(lives);
            if owner.is_none() && second.is_none() {
                gone.push(*slot);
                continue;
            }
            let held = |node: Option<usize>, event| node.is_some_and(|node| self.nodes[node].owner.holds(*slot, event));
            let lost = events.keys().find(|event| !held(owner, event) && !held(second, event));
            missing.extend(lost.map(|event| (*slot, *event, *record)));
        }
        for slot in gone {
            self.ctx.gap(slot, Term(table.get(slot).term.0 + 1));
        }
        for (slot, event, record) in missing {
            self.ctx.violated(
                Invariant::EventsKept,
                format_args!(
                    "a client has event {event} of slot {slot}; neither owner nor in-sync second has: {record:?}"
                ),
            );
        }
    }
}
