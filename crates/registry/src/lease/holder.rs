//! The owner's side of its lease: when it may act.
//! Invariant: it never acts at or after `act_ms` from the sending of the latest heartbeat whose ack it may use.

use std::collections::VecDeque;

use super::{Ack, Heartbeat, Timing};
use crate::{NodeId, Run};

/// Most heartbeats and acks remembered: more than fit in the time in which one is of use.
const REMEMBERED_MAX: usize = 64;

/// One run's lease as it sees it itself. Every method takes the present time and first fences if it is late.
#[derive(Clone, Debug)]
pub struct Holder {
    run: Run,
    timing: Timing,
    seq: u64,
    /// Heartbeats sent, oldest first: (seq, when).
    sent: VecDeque<(u64, u64)>,
    /// Acks that wait for their index: (index, until when one may act).
    waiting: VecDeque<(u64, u64)>,
    applied: u64,
    until_ms: u64,
    fenced: bool,
    /// Acks up to this seq are of before the last fence.
    void_seq: u64,
}

impl Holder {
    /// A run that has no lease yet.
    pub fn new(run: Run, timing: Timing) -> Holder {
        Holder {
            run,
            timing,
            seq: 0,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            applied: 0,
            until_ms: 0,
            fenced: true,
            void_seq: 0,
        }
    }

    /// The next heartbeat, to be sent now.
    pub fn beat(&mut self, now_ms: u64, unreachable: Vec<NodeId>) -> Heartbeat {
        self.may_act(now_ms);
        self.seq += 1;
        if self.sent.len() == REMEMBERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now_ms));
        Heartbeat { run: self.run, seq: self.seq, fenced: self.fenced, unreachable }
    }

    /// The leader acknowledged. Of use once its index is applied, and only if no fence came between.
    pub fn acked(&mut self, now_ms: u64, ack: Ack) {
        self.may_act(now_ms);
        let sent_ms = self.sent.iter().find(|(seq, _)| *seq == ack.seq).map(|(_, at_ms)| *at_ms);
        let Some(sent_ms) = sent_ms.filter(|_| ack.seq > self.void_seq) else { return };
        self.sent.retain(|(seq, _)| *seq > ack.seq);
        let until_ms = sent_ms.saturating_add(self.timing.act_ms);
        if until_ms <= now_ms {
            return;
        }
        if self.waiting.len() == REMEMBERED_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((ack.applied, until_ms));
        self.use_acks();
    }

    /// This node has applied up to `index`.
    pub fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        self.use_acks();
    }

    /// Whether this run may act now. Asked before every effect; when it is late it fences itself, until an ack of a
    /// heartbeat that it sends from then on.
    pub fn may_act(&mut self, now_ms: u64) -> bool {
        if !self.fenced && now_ms >= self.until_ms {
            self.fenced = true;
            self.void_seq = self.seq;
            self.until_ms = 0;
            self.waiting.clear();
        }
        !self.fenced
    }

    /// Until when it may act, if nothing more is heard.
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Whether it was fenced when last asked.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    fn use_acks(&mut self) {
        let applied = self.applied;
        let usable = self.waiting.iter().filter(|(index, _)| *index <= applied).map(|(_, until_ms)| *until_ms).max();
        self.waiting.retain(|(index, _)| *index > applied);
        if let Some(until_ms) = usable {
            self.until_ms = self.until_ms.max(until_ms);
            self.fenced = false;
        }
    }
}
