//! This node's lease: a heartbeat to the leader four times a second, and at once when there is another leader.
//!
//! The lease itself is [`Holder`]'s; here it gets its clock, its messages and the index that this node has applied.

use super::slots::OwnSlots;
use crate::clock::Clock;
use crate::leader::Beats;
use crate::wire::{self, HeartbeatAnswer};
use crate::{HEARTBEAT, boxed};
use enfilade_mesh::Mesh;
use enfilade_raft::Registry;
use enfilade_registry::{Ack, Heartbeat, Holder, NodeId, Run, Timing};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Heartbeats without an answer yet, at the most.
const UNANSWERED_MAX: usize = 8;

/// What the loop works with.
pub(crate) struct Lease {
    pub(crate) me: Run,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) slots: Arc<OwnSlots>,
    pub(crate) mesh: Mesh,
    pub(crate) registry: Arc<dyn Registry>,
    /// Up to where every slot was dealt with.
    pub(crate) dealt: watch::Receiver<u64>,
    /// Heartbeats to this node itself, when it leads.
    pub(crate) beats: Beats,
}

type Answers = FuturesUnordered<BoxFuture<'static, Option<Ack>>>;

impl Lease {
    /// Runs until it is dropped; then the lease ends by itself.
    pub(crate) async fn run(mut self) {
        let mut holder = Holder::new(self.me, self.timing);
        let mut status = self.registry.status();
        let mut leader = status.borrow_and_update().leader;
        let mut interval = tokio::time::interval(Duration::from_millis(self.timing.heartbeat_ms));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answers = Answers::new();
        let mut had = false;
        loop {
            tokio::select! {
                _ = interval.tick() => self.beat(&mut holder, leader, &mut answers),
                Ok(()) = status.changed() => {
                    let now = status.borrow_and_update().leader;
                    if now != leader {
                        leader = now;
                        self.beat(&mut holder, leader, &mut answers);
                        interval.reset();
                    }
                }
                Ok(()) = self.dealt.changed() => {}
                Some(answer) = answers.next() => {
                    if let Some(ack) = answer {
                        holder.acked((self.clock)(), ack);
                    }
                }
            }
            holder.applied(*self.dealt.borrow_and_update());
            let has = holder.may_act((self.clock)());
            self.slots.set_lease(if has { holder.until_ms() } else { 0 });
            if had != has {
                had = has;
                match has {
                    true => tracing::info!("the lease is held"),
                    false => tracing::warn!("the lease is lost: sessions of this node pause"),
                }
            }
        }
    }

    fn beat(&self, holder: &mut Holder, leader: Option<NodeId>, answers: &mut Answers) {
        let Some(leader) = leader.filter(|_| answers.len() < UNANSWERED_MAX) else { return };
        let beat = holder.beat((self.clock)(), self.mesh.unreachable());
        answers.push(match leader == self.me.node {
            true => boxed(at_home(self.beats.clone(), beat)),
            false => {
                let within = Duration::from_millis(self.timing.act_ms);
                boxed(at_leader(self.mesh.clone(), leader, beat, within))
            }
        });
    }
}

async fn at_home(beats: Beats, beat: Heartbeat) -> Option<Ack> {
    understood(beats.ask(beat).await)
}

async fn at_leader(mesh: Mesh, leader: NodeId, beat: Heartbeat, within: Duration) -> Option<Ack> {
    let answer = mesh.call(leader, HEARTBEAT, wire::encode_heartbeat(&beat), within).await.ok()?;
    match wire::decode_answer(answer) {
        Ok(answer) => understood(answer),
        Err(error) => {
            tracing::error!(%leader, %error, "the leader's answer to a heartbeat is not understood");
            None
        }
    }
}

fn understood(answer: HeartbeatAnswer) -> Option<Ack> {
    match answer {
        HeartbeatAnswer::Ack(ack) => Some(ack),
        HeartbeatAnswer::NotLeader(_) => None,
        HeartbeatAnswer::Refused(why) => {
            tracing::debug!(why, "the leader does not renew the lease");
            None
        }
    }
}
