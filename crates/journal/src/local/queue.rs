//! The bounded queue between callers, who wait without blocking, and the writer thread, which blocks.
//! When it is full, callers wait outside; when it is stopped, they are told at once.

use std::sync::Arc;

use enfilade_registry::{Command, Outcome, WriteError};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// A command, its bytes, and who waits for its answer.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) bytes: Vec<u8>,
    reply: oneshot::Sender<Result<Outcome, WriteError>>,
    /// Its place in the queue, free again when the job is done.
    _place: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn answer(self, answer: Result<Outcome, WriteError>) {
        // The caller may have gone: the command stands all the same.
        let _ = self.reply.send(answer);
    }
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    stopped: bool,
}

impl Queue {
    pub(super) fn new(places: usize) -> Queue {
        let places = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        Queue { waiting: Mutex::default(), changed: Condvar::new(), places }
    }

    /// Hands a command to the writer and waits for the answer.
    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, WriteError> {
        let bytes = command.encode();
        let place = self.places.clone().acquire_owned().await.map_err(|_| WriteError::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        self.push(Job { command, bytes, reply, _place: place })?;
        answer.await.map_err(|_| WriteError::Unavailable)?
    }

    fn push(&self, job: Job) -> Result<(), WriteError> {
        let mut waiting = self.waiting.lock();
        if waiting.stopped {
            return Err(WriteError::Unavailable);
        }
        waiting.jobs.push(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Blocks until there are jobs and takes the first `max` of them into `batch`. False: the queue
    /// is stopped and empty.
    pub(super) fn take(&self, batch: &mut Vec<Job>, max: usize) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() && !waiting.stopped {
            self.changed.wait(&mut waiting);
        }
        let count = waiting.jobs.len().min(max.max(1));
        batch.extend(waiting.jobs.drain(..count));
        !batch.is_empty()
    }

    /// Lets nothing more in. What is in stays to be taken.
    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.places.close();
        self.changed.notify_all();
    }

    /// Stops and drops what is in: the callers learn that the registry is unavailable.
    pub(super) fn abandon(&self) {
        self.stop();
        let dropped = std::mem::take(&mut self.waiting.lock().jobs);
        drop(dropped);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.waiting.lock().stopped
    }
}
