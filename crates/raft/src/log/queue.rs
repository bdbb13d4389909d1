//! The bounded queue between openraft, which waits without blocking, and the writer thread, which blocks.

use std::io;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::types::{Entry, LogId, Types, Vote};

/// Most writes that wait; openraft waits beyond.
const PLACES: usize = 1024;

/// What the writer thread is to do, in order.
pub(super) enum Op {
    Append { entries: Vec<Arc<Entry>>, done: IOFlushed<Types> },
    Vote { vote: Vote, done: oneshot::Sender<io::Result<()>> },
    Truncate { after: Option<LogId> },
    Purge { upto: LogId },
}

/// An operation, and its place in the queue, which is free again when it is done.
pub(super) struct Waiting {
    pub(super) op: Op,
    _place: OwnedSemaphorePermit,
}

pub(super) struct Queue {
    waiting: Mutex<State>,
    changed: Condvar,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    ops: Vec<Waiting>,
    stopped: bool,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue { waiting: Mutex::default(), changed: Condvar::new(), places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// Hands an operation to the writer, which does them in the order in which they came.
    pub(super) async fn push(&self, op: Op) -> io::Result<()> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| super::stopped())?;
        let mut waiting = self.waiting.lock();
        if waiting.stopped {
            return Err(super::stopped());
        }
        waiting.ops.push(Waiting { op, _place: place });
        self.changed.notify_one();
        Ok(())
    }

    /// Blocks until there is something to do, and takes all of it. Empty: the queue is stopped and empty.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        while waiting.ops.is_empty() && !waiting.stopped {
            self.changed.wait(&mut waiting);
        }
        std::mem::take(&mut waiting.ops)
    }

    /// Lets nothing more in. What is in stays to be taken.
    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.places.close();
        self.changed.notify_all();
    }
}
