//! What runs where the registry is led: it keeps the leases of all owners, gives away what was lost, and proposes
//! owners, seconds and moves.
//!
//! Rule: a heartbeat is acknowledged only after a quorum round that began after its receipt. Everything that is
//! proposed bears being proposed twice, so a change of leader at any point does no harm.

mod beats;
mod duties;
mod rounds;

pub(crate) use beats::{Beat, Beats};

use crate::clock::Clock;
use crate::wire::HeartbeatAnswer;
use duties::Duties;
use enfilade_raft::Raft;
use enfilade_registry::{Command, Keeper, Reader, Timing, Writer};
use futures::StreamExt;
use rounds::Rounds;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often it is looked who was lost and what is to be proposed.
const POLL: Duration = Duration::from_millis(50);
/// How long a quorum may take to answer.
const ROUND_WITHIN: Duration = Duration::from_millis(1000);

/// The leading task, on every node; it does nothing where another node leads.
pub(crate) struct Leading {
    raft: Arc<Raft>,
    clock: Clock,
    timing: Timing,
    beats: mpsc::Receiver<Beat>,
}

impl Leading {
    pub(crate) fn new(raft: Arc<Raft>, clock: Clock, timing: Timing, beats: mpsc::Receiver<Beat>) -> Self {
        Self { raft, clock, timing, beats }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut status = self.raft.status();
        loop {
            let led = {
                let status = status.borrow_and_update();
                status.is_leader.then_some(status.raft_term)
            };
            if let Some(raft_term) = led {
                self.lead(raft_term).await;
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                Some(Beat { answer, .. }) = self.beats.recv() => {
                    let leader = status.borrow().leader;
                    let _ = answer.send(HeartbeatAnswer::NotLeader(leader)); // The sender may have gone.
                }
            }
        }
    }

    fn leads(&self, raft_term: u64) -> bool {
        let status = self.raft.status();
        let status = status.borrow();
        status.is_leader && status.raft_term == raft_term
    }

    /// Leads until it does not any more.
    async fn lead(&mut self, raft_term: u64) {
        // Committed in this term: nothing that an earlier leader decided on is obeyed any more.
        while self.raft.submit(Command::Lead { epoch: raft_term }).await.is_err() {
            if !self.leads(raft_term) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        if !self.leads(raft_term) {
            return;
        }
        tracing::info!(raft_term, "this node leads the registry");
        let holders = self.raft.slot_table().holders();
        let mut keeper = Keeper::elected((self.clock)(), self.timing, raft_term, holders);
        let mut rounds = Rounds::new(self.raft.clone());
        let mut duties = Duties::new(self.raft.clone(), self.timing.move_ms, (self.clock)());
        let (mut status, mut applied) = (self.raft.status(), self.raft.applied());
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(beat) = self.beats.recv() => rounds.hear(&mut keeper, (self.clock)(), beat, &self.raft.members()),
                Some(ended) = rounds.ended() => rounds.end(&mut keeper, (self.clock)(), ended),
                Some(done) = duties.proposed.next() => duties.done(&mut keeper, (self.clock)(), done),
                _ = poll.tick() => duties.poll(&mut keeper, (self.clock)()),
                Ok(()) = applied.changed() => duties.applied(&mut keeper, (self.clock)()),
                changed = status.changed() => {
                    status.borrow_and_update();
                    if changed.is_err() || !self.leads(raft_term) {
                        tracing::info!(raft_term, "this node does not lead the registry any more");
                        return;
                    }
                }
            }
        }
    }
}
