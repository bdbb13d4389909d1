//! The network: packets that may be lost or overtake each other, and links, which keep order until they break.
//! Rule: what is lost on a link breaks it, and its two ends learn of that at different times.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::clock::{MILLI, Micros};

/// What a node believes of its link to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Connected, by the connection of this number.
    Up(u64),
    Down,
}

pub(crate) struct Net {
    nodes: usize,
    /// One-way: what `from` sends does not reach `to`.
    cut: Vec<bool>,
    /// Packets lost, and links broken per frame, in thousandths.
    pub(crate) loss_permille: u32,
    pub(crate) break_permille: u32,
    /// Slowest delay of a message.
    pub(crate) delay_max: Micros,
    ends: Vec<End>,
    /// The connection of each pair that works, if one does.
    working: Vec<Option<u64>>,
    connections: u64,
    arrival: Vec<Micros>,
}

impl Net {
    pub(crate) fn new(nodes: usize) -> Net {
        let pairs = nodes * nodes;
        Net {
            nodes,
            cut: vec![false; pairs],
            loss_permille: 0,
            break_permille: 0,
            delay_max: 5 * MILLI,
            ends: vec![End::Down; pairs],
            working: vec![None; pairs],
            connections: 0,
            arrival: vec![0; pairs],
        }
    }

    fn at(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        self.at(a.min(b), a.max(b))
    }

    pub(crate) fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        let at = self.at(from, to);
        self.cut[at] = cut;
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[self.at(from, to)]
    }

    pub(crate) fn heal(&mut self) {
        self.cut.fill(false);
        self.loss_permille = 0;
        self.break_permille = 0;
        self.delay_max = 5 * MILLI;
    }

    /// How long a message takes: mostly short, seldom up to the slowest.
    pub(crate) fn delay(&self, rng: &mut ChaCha8Rng) -> Micros {
        if rng.random_ratio(1, 16) { rng.random_range(100..=self.delay_max) } else { rng.random_range(100..=1_500) }
    }

    /// When a packet arrives; `None` when it is lost.
    pub(crate) fn packet(&self, rng: &mut ChaCha8Rng, now: Micros, from: usize, to: usize) -> Option<Micros> {
        let lost = self.is_cut(from, to) || (self.loss_permille > 0 && rng.random_ratio(self.loss_permille, 1000));
        let delay = self.delay(rng);
        (!lost).then_some(now + delay)
    }

    pub(crate) fn end(&self, node: usize, peer: usize) -> End {
        self.ends[self.at(node, peer)]
    }

    /// Whether the connection still carries frames.
    pub(crate) fn works(&self, a: usize, b: usize, connection: u64) -> bool {
        self.working[self.pair(a, b)] == Some(connection)
    }

    pub(crate) fn working(&self, a: usize, b: usize) -> Option<u64> {
        self.working[self.pair(a, b)]
    }

    /// When a frame arrives on the sender's connection; `None` when it is lost with the connection. Keeps order.
    pub(crate) fn frame(&mut self, rng: &mut ChaCha8Rng, now: Micros, from: usize, to: usize) -> Option<Micros> {
        let End::Up(connection) = self.end(from, to) else { return None };
        let delay = self.delay(rng);
        if !self.works(from, to, connection) {
            return None;
        }
        let at = self.at(from, to);
        self.arrival[at] = (now + delay).max(self.arrival[at] + 1);
        Some(self.arrival[at])
    }

    /// When what a node says to itself arrives. Keeps order.
    pub(crate) fn local(&mut self, now: Micros, node: usize) -> Micros {
        let at = self.at(node, node);
        self.arrival[at] = (now + 1).max(self.arrival[at] + 1);
        self.arrival[at]
    }

    /// Whether this frame breaks its connection.
    pub(crate) fn breaks(&self, rng: &mut ChaCha8Rng, from: usize, to: usize) -> bool {
        self.is_cut(from, to) || (self.break_permille > 0 && rng.random_ratio(self.break_permille, 1000))
    }

    /// The connection stops to carry frames. Returns its number, if there was one.
    pub(crate) fn sever(&mut self, a: usize, b: usize) -> Option<u64> {
        let pair = self.pair(a, b);
        self.working[pair].take()
    }

    /// An end learns that its connection is gone. `false`: it knew, or has a newer one.
    pub(crate) fn notice(&mut self, node: usize, peer: usize, connection: u64) -> bool {
        let at = self.at(node, peer);
        let stale = self.ends[at] == End::Up(connection);
        if stale {
            self.ends[at] = End::Down;
        }
        stale
    }

    /// Forgets what a node believed, when it ends.
    pub(crate) fn forget(&mut self, node: usize) {
        for peer in 0..self.nodes {
            let at = self.at(node, peer);
            self.ends[at] = End::Down;
        }
    }

    /// Connects two nodes anew. Both ends must be down.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        self.connections += 1;
        let (pair, one, other) = (self.pair(a, b), self.at(a, b), self.at(b, a));
        self.working[pair] = Some(self.connections);
        self.ends[one] = End::Up(self.connections);
        self.ends[other] = End::Up(self.connections);
    }

    pub(crate) fn can_connect(&self, a: usize, b: usize) -> bool {
        self.working(a, b).is_none() && !self.is_cut(a, b) && !self.is_cut(b, a)
    }
}
