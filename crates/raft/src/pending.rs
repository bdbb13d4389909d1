//! Who at this node waits for which batch. A batch is answered when this node applies it, and once.

use std::collections::HashMap;

use enfilade_registry::{Outcome, Refusal, Run, WriteError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::types::Batch;

/// Hears what became of one command.
pub(crate) type Reply = oneshot::Sender<Result<Outcome, WriteError>>;

/// The batches of this run that are not applied yet.
pub(crate) struct Pending {
    run: Run,
    waiting: Mutex<HashMap<u64, Vec<Reply>>>,
}

impl Pending {
    pub(crate) fn new(run: Run) -> Pending {
        Pending { run, waiting: Mutex::default() }
    }

    /// Notes who waits for the commands of a batch, in their order.
    pub(crate) fn add(&self, seq: u64, replies: Vec<Reply>) {
        self.waiting.lock().insert(seq, replies);
    }

    /// Answers those that wait for the batch, if it is of this run. A batch that comes twice is answered the first time.
    pub(crate) fn applied(&self, batch: &Batch, results: Vec<Result<Outcome, Refusal>>) {
        if batch.origin == self.run {
            self.answered(batch.seq, results);
        }
    }

    /// Answers those that wait for this batch of this run.
    pub(crate) fn answered(&self, seq: u64, results: Vec<Result<Outcome, Refusal>>) {
        let Some(replies) = self.waiting.lock().remove(&seq) else { return };
        for (reply, result) in replies.into_iter().zip(results) {
            // The caller may have gone: the command stands all the same.
            let _ = reply.send(result.map_err(WriteError::Refused));
        }
    }

    /// The batch came before. If it was not this run that sent it, then an earlier one had the same generation.
    pub(crate) fn skipped(&self, batch: &Batch) {
        if batch.origin == self.run && self.waits(batch.seq) {
            tracing::error!(run = %self.run, "a batch of this run was applied before: its generation was used twice");
            self.give_up(batch.seq);
        }
    }

    /// Whether somebody waits for the batch.
    pub(crate) fn waits(&self, seq: u64) -> bool {
        self.waiting.lock().contains_key(&seq)
    }

    /// Answers `Unavailable` to everybody.
    pub(crate) fn give_up_all(&self) {
        // Dropping a reply says so.
        self.waiting.lock().clear();
    }

    /// Answers `Unavailable`: what becomes of the batch will not be known here.
    pub(crate) fn give_up(&self, seq: u64) {
        for reply in self.waiting.lock().remove(&seq).into_iter().flatten() {
            let _ = reply.send(Err(WriteError::Unavailable));
        }
    }
}
