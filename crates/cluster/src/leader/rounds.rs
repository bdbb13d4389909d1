//! Quorum rounds for heartbeats: one at a time, each for all heartbeats that were heard before it began.

use super::{Beat, ROUND_WITHIN};
use crate::boxed;
use crate::wire::HeartbeatAnswer;
use enfilade_raft::Raft;
use enfilade_registry::{Keeper, LeaseRefused, Members, Reader, Receipt, Round};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A heartbeat that waits for a round.
type Waiting = (Receipt, oneshot::Sender<HeartbeatAnswer>);

/// How a round ended: the index up to which an owner must have applied, or nothing without a quorum.
pub(crate) struct Ended {
    round: Round,
    index: Option<u64>,
}

pub(crate) struct Rounds {
    raft: Arc<Raft>,
    /// Heard since the present round began.
    heard: Vec<Waiting>,
    /// What the present round is for.
    asked: Vec<Waiting>,
    /// The present round; one at the most.
    present: FuturesUnordered<BoxFuture<'static, Ended>>,
}

impl Rounds {
    pub(crate) fn new(raft: Arc<Raft>) -> Self {
        Self { raft, heard: Vec::new(), asked: Vec::new(), present: FuturesUnordered::new() }
    }

    /// Takes a heartbeat in.
    pub(crate) fn hear(&mut self, keeper: &mut Keeper, now_ms: u64, beat: Beat, members: &Members) {
        match keeper.heard(now_ms, &beat.beat, members) {
            Ok(receipt) => {
                self.heard.push((receipt, beat.answer));
                self.begin(keeper);
            }
            Err(why) => refuse(beat.answer, why),
        }
    }

    fn begin(&mut self, keeper: &mut Keeper) {
        if !self.present.is_empty() || self.heard.is_empty() {
            return;
        }
        self.asked = std::mem::take(&mut self.heard);
        let (raft, round) = (self.raft.clone(), keeper.begin_round());
        self.present.push(boxed(async move {
            // Of what is committed an owner must know which slots it was given, or lost; of the rest it may be behind,
            // as a node is whose disk is slow. Looked up after the round: whatever was taken before it is in.
            let confirmed = raft.read_index(ROUND_WITHIN).await;
            Ended { round, index: confirmed.ok().map(|_| raft.slot_table().version()) }
        }));
    }

    /// Resolves when the present round has ended; nothing while there is none.
    pub(crate) async fn ended(&mut self) -> Option<Ended> {
        self.present.next().await
    }

    /// Answers those that the round was for.
    pub(crate) fn end(&mut self, keeper: &mut Keeper, now_ms: u64, ended: Ended) {
        for (receipt, answer) in std::mem::take(&mut self.asked) {
            let Some(index) = ended.index else {
                let _ = answer.send(HeartbeatAnswer::NotLeader(None)); // The sender may have gone.
                continue;
            };
            match keeper.acknowledge(now_ms, receipt, ended.round, index) {
                Ok(ack) => drop(answer.send(HeartbeatAnswer::Ack(ack))),
                Err(why) => refuse(answer, why),
            }
        }
        self.begin(keeper);
    }
}

fn refuse(answer: oneshot::Sender<HeartbeatAnswer>, why: LeaseRefused) {
    let _ = answer.send(HeartbeatAnswer::Refused(why.to_string())); // The sender may have gone.
}
