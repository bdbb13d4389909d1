//! Puts commands that wait together into batches. A command that finds nothing under way leaves at once; while as
//! many batches are under way as there may be, commands gather, and so load makes batches larger and not slower.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_registry::{Command, Outcome, WriteError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::way::Way;
use crate::pending::Reply;
use crate::types::Batch;

/// A command on its way into a batch.
struct Job {
    bytes: Bytes,
    reply: Reply,
}

/// Where callers hand in commands.
pub(crate) struct Submitter {
    within: Duration,
    jobs: mpsc::Sender<Job>,
}

impl Submitter {
    /// Hands in a command and waits until this node has applied it.
    pub(crate) async fn submit(&self, command: &Command) -> Result<Outcome, WriteError> {
        let until = Instant::now() + self.within;
        let bytes = Bytes::from(command.encode());
        let (reply, answer) = oneshot::channel();
        let answered = async {
            self.jobs.send(Job { bytes, reply }).await.map_err(|_| WriteError::Unavailable)?;
            answer.await.map_err(|_| WriteError::Unavailable)?
        };
        timeout_at(until, answered).await.unwrap_or(Err(WriteError::Unavailable))
    }
}

/// The task that makes batches.
pub(crate) struct Batcher {
    way: Arc<Way>,
    jobs: mpsc::Receiver<Job>,
    /// A command that did not fit into the batch before.
    left: Option<Job>,
    seq: u64,
}

impl Batcher {
    pub(crate) fn new(way: Way) -> (Submitter, Batcher) {
        let (sender, jobs) = mpsc::channel(way.submitting.queue_max.max(1));
        let submitter = Submitter { within: way.submitting.within, jobs: sender };
        (submitter, Batcher { way: Arc::new(way), jobs, left: None, seq: 0 })
    }

    pub(crate) async fn run(mut self) {
        let places = Arc::new(Semaphore::new(self.way.submitting.batches_in_flight_max.max(1)));
        // Those under way end with this task.
        let mut under_way = JoinSet::new();
        while let Some(first) = self.next().await {
            // Never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            // Callers that are ready to submit get in as well.
            tokio::task::yield_now().await;
            let batch = self.gather(first);
            let way = self.way.clone();
            under_way.spawn(async move {
                way.deliver(batch).await;
                drop(place);
            });
            while under_way.try_join_next().is_some() {}
        }
    }

    async fn next(&mut self) -> Option<Job> {
        match self.left.take() {
            Some(job) => Some(job),
            None => self.jobs.recv().await,
        }
    }

    fn gather(&mut self, first: Job) -> Arc<Batch> {
        let (commands_max, bytes_max) = (self.way.submitting.batch_commands_max, self.way.submitting.batch_bytes_max);
        let mut bytes = first.bytes.len();
        let mut commands = vec![first.bytes];
        let mut replies = vec![first.reply];
        while commands.len() < commands_max {
            let Ok(job) = self.jobs.try_recv() else { break };
            if bytes + job.bytes.len() > bytes_max {
                self.left = Some(job);
                break;
            }
            bytes += job.bytes.len();
            commands.push(job.bytes);
            replies.push(job.reply);
        }
        self.seq += 1;
        self.way.pending.add(self.seq, replies);
        Arc::new(Batch { origin: self.way.run, seq: self.seq, commands })
    }
}
