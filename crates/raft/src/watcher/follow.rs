//! The task that watches: one replica at a time, the next one when that is lost, silent, or has lost its group.

use std::sync::Arc;
use std::time::Duration;

use enfilade_registry::NodeId;
use enfilade_registry::watch::Update;
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::wire::{self, Gathering, Told};
use crate::codec::BadMessage;
use crate::status::Status;
use crate::transport::{Parts, Unreachable};

/// Between two replicas, so that a group that is gone costs little.
const PAUSE: Duration = Duration::from_millis(50);

/// A replica that knows no leader is left after this part of the time for a standstill.
const LEADERLESS_PART: u32 = 5;

/// Why a replica is left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("it ended the watch")]
    Ended,
    #[error("it is silent")]
    Silent,
    #[error("it stands still, or knows no leader")]
    StandsStill,
    #[error("it is no replica that can be reached any more")]
    Away,
    #[error(transparent)]
    Unreadable(#[from] BadMessage),
}

/// Since when the replica has been of use.
struct Progress {
    index: u64,
    moved: Instant,
    led: Instant,
}

impl Shared {
    /// Watches for ever.
    pub(super) async fn follow(self: Arc<Shared>) {
        let mut replicas = self.config.replicas.clone();
        // Not all nodes watch the same replica.
        let mut at = usize::try_from(self.config.run.node.0 >> 8).unwrap_or(0);
        loop {
            let present = replicas.borrow_and_update().clone();
            if present.is_empty() {
                if replicas.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let to = present[at % present.len()];
            let left = self.watch(to).await;
            tracing::debug!(node = %to, %left, "this replica is not watched any more");
            at = at.wrapping_add(1);
            sleep(PAUSE).await;
        }
    }

    /// Watches one replica until it is left.
    async fn watch(&self, to: NodeId) -> Left {
        let asked = wire::request(&self.watched.read().position());
        let opened = timeout(self.config.silence, self.config.transport.watch(to, asked)).await;
        match opened {
            Ok(Ok(parts)) => self.take_all(to, parts).await.err().unwrap_or(Left::Ended),
            Ok(Err(error)) => error.into(),
            Err(_) => Left::Silent,
        }
    }

    async fn take_all(&self, to: NodeId, mut parts: Parts) -> Result<(), Left> {
        let now = Instant::now();
        let mut progress = Progress { index: self.watched.read().index(), moved: now, led: now };
        let mut gathering = Gathering::default();
        loop {
            let part = timeout(self.config.silence, parts.next()).await.map_err(|_| Left::Silent)?;
            let part = part.ok_or(Left::Ended)??;
            if let Some((update, told)) = gathering.add(part)? {
                progress.note(update.index, told);
                self.apply(update, told);
                self.look(to, &progress)?;
            }
        }
    }

    /// Whether the replica is of use still, or another may be.
    fn look(&self, to: NodeId, progress: &Progress) -> Result<(), Left> {
        let replicas = self.config.replicas.borrow();
        if !replicas.is_empty() && !replicas.contains(&to) {
            return Err(Left::Away);
        }
        let standstill = self.config.standstill;
        let stands_still =
            progress.moved.elapsed() > standstill || progress.led.elapsed() > standstill / LEADERLESS_PART;
        if stands_still && replicas.len() > 1 { Err(Left::StandsStill) } else { Ok(()) }
    }

    /// In this order: whoever is told something finds it here.
    fn apply(&self, mut update: Update, told: Told) {
        let index = update.index;
        let answers = std::mem::take(&mut update.answers);
        let (ended, is_founded) = {
            let mut watched = self.watched.write();
            (watched.apply(&update), watched.state().cluster().is_some())
        };
        if !ended.is_empty() {
            let all = self.on_ended.read().clone();
            all.iter().for_each(|hear| hear(&ended));
        }
        answers.into_iter().for_each(|one| self.pending.answered(one.seq, one.results));
        self.applied.send_if_modified(|applied| std::mem::replace(applied, index) != index);
        self.status.send_if_modified(|status| {
            let new = status_of(status, index, is_founded, told);
            let differs = *status != new;
            *status = new;
            differs
        });
    }
}

/// A replica that lags, or has lost its group, does not know better than what was heard before.
fn status_of(old: &Status, index: u64, is_founded: bool, told: Told) -> Status {
    let newer = told.leader.is_some() && told.raft_term >= old.raft_term;
    let (leader, raft_term) = if newer { (told.leader, told.raft_term) } else { (old.leader, old.raft_term) };
    Status { is_initialised: is_founded, leader, raft_term, last_log: index, applied: index, ..Status::default() }
}

impl Progress {
    fn note(&mut self, index: u64, told: Told) {
        let now = Instant::now();
        if index > self.index {
            (self.index, self.moved) = (index, now);
        }
        if told.leader.is_some() {
            self.led = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_knows_less_changes_nothing() {
        let told = |leader: u64, raft_term| Told { leader: Some(NodeId(leader)).filter(|node| node.0 != 0), raft_term };
        let first = status_of(&Status::default(), 5, true, told(3, 7));
        assert_eq!((first.leader, first.raft_term, first.applied), (Some(NodeId(3)), 7, 5));
        assert_eq!(status_of(&first, 5, true, told(2, 6)), first, "an earlier term");
        assert_eq!(status_of(&first, 5, true, told(0, 8)), first, "nobody leads");
        assert_eq!(status_of(&first, 6, true, told(2, 8)).leader, Some(NodeId(2)));
    }
}
