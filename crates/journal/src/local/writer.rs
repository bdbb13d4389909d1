//! The writer thread: takes what waits, syncs it with one write, applies it, answers, compacts.
//! Recovery: if the disk fails, or this thread panics, all callers hear `Unavailable` from then on.

use std::sync::Arc;
use std::thread::JoinHandle;

use enfilade_registry::{Ended, Outcome, Refusal, WriteError};

use super::queue::Job;
use super::{LocalConfig, Shared};
use crate::{Compacted, Journal, JournalError};

/// Commands applied under one lock: a bound on how long a reader waits for it.
const APPLY_CHUNK: usize = 32;

/// A snapshot is due when the log has this many times its bytes.
const LOG_PER_SNAPSHOT: u64 = 4;

pub(super) struct WriterThread {
    shared: Arc<Shared>,
    journal: Journal,
    batch_max: usize,
    compact_log_bytes_min: u64,
    compaction: Option<JoinHandle<Result<Compacted, JournalError>>>,
}

impl WriterThread {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, config: &LocalConfig) -> WriterThread {
        WriterThread {
            shared,
            journal,
            batch_max: config.batch_max,
            compact_log_bytes_min: config.compact_log_bytes_min,
            compaction: None,
        }
    }

    pub(super) fn run(mut self) {
        let abandon = AbandonOnDrop(self.shared.clone());
        let mut batch = Vec::new();
        while self.shared.queue.take(&mut batch, self.batch_max) {
            if let Err(error) = self.write(&batch) {
                tracing::error!(%error, "the registry's journal cannot be written: it takes no more commands");
                break;
            }
            self.apply(&mut batch);
            self.compact_if_due();
        }
        drop(batch);
        drop(abandon);
        if let Some(compaction) = self.compaction.take() {
            self.end_compaction(compaction);
        }
    }

    fn write(&mut self, batch: &[Job]) -> Result<(), JournalError> {
        let records: Vec<&[u8]> = batch.iter().map(|job| job.bytes.as_slice()).collect();
        self.journal.append_batch(&records).map(drop)
    }

    fn apply(&mut self, batch: &mut Vec<Job>) {
        let mut index = self.journal.last_index() - batch.len() as u64;
        while !batch.is_empty() {
            let chunk: Vec<Job> = batch.drain(..batch.len().min(APPLY_CHUNK)).collect();
            let results: Vec<Result<Outcome, Refusal>> = {
                let mut state = self.shared.state.write();
                chunk
                    .iter()
                    .map(|job| {
                        index += 1;
                        state.apply(index, &job.command)
                    })
                    .collect()
            };
            self.tell_of_ended(&results);
            for (job, result) in chunk.into_iter().zip(results) {
                job.answer(result.map_err(WriteError::Refused));
            }
        }
    }

    fn tell_of_ended(&self, results: &[Result<Outcome, Refusal>]) {
        let ended: Vec<Ended> = results.iter().flatten().flat_map(|outcome| outcome.ended()).copied().collect();
        if ended.is_empty() {
            return;
        }
        let hear = self.shared.on_ended.read().clone();
        if let Some(hear) = hear {
            hear(&ended);
        }
    }

    /// Snapshots are encoded and written on a thread of their own; commands go on meanwhile.
    fn compact_if_due(&mut self) {
        match self.compaction.take() {
            Some(running) if !running.is_finished() => {
                self.compaction = Some(running);
                return;
            }
            Some(finished) => self.end_compaction(finished),
            None => {}
        }
        let due_bytes = self.compact_log_bytes_min.max(LOG_PER_SNAPSHOT * self.journal.snapshot_bytes());
        if self.journal.log_bytes() < due_bytes {
            return;
        }
        let frozen = self.shared.state.read().freeze();
        // A failure to rotate shows at the next write, which ends this thread.
        let Ok(compaction) = self.journal.start_compaction(frozen.applied()) else { return };
        let spawned = std::thread::Builder::new()
            .name("registry-snapshot".to_owned())
            .spawn(move || compaction.write(&frozen.encode()));
        match spawned {
            Ok(running) => self.compaction = Some(running),
            Err(error) => tracing::warn!(%error, "no thread for a snapshot of the registry"),
        }
    }

    fn end_compaction(&mut self, finished: JoinHandle<Result<Compacted, JournalError>>) {
        let Ok(written) = finished.join() else {
            tracing::error!("writing a snapshot of the registry panicked");
            return;
        };
        // The log stays whole without the snapshot; more of it makes the next one due.
        if let Err(error) = written.and_then(|written| self.journal.finish_compaction(written)) {
            self.compact_log_bytes_min = 2 * self.journal.log_bytes();
            tracing::warn!(%error, "a snapshot of the registry could not be written");
        }
    }
}

/// Whatever ends the writer, callers must not wait for it.
struct AbandonOnDrop(Arc<Shared>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use enfilade_registry::{Command, StateMachine};
    use parking_lot::RwLock;

    use super::super::queue::Queue;
    use super::*;

    fn writer(dir: &Path) -> WriterThread {
        let (journal, _) = Journal::open(dir).expect("an empty directory");
        let shared =
            Shared { state: RwLock::new(StateMachine::new()), queue: Queue::new(8), on_ended: RwLock::new(None) };
        WriterThread::new(Arc::new(shared), journal, &LocalConfig::new(dir, Arc::new(|| 0)))
    }

    #[tokio::test]
    async fn a_failing_disk_answers_everybody_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = writer(dir.path());
        writer.journal.break_disk();
        let shared = writer.shared.clone();
        let thread = std::thread::spawn(move || writer.run());
        let tick = || shared.queue.submit(Command::Tick { elapsed_ms: 1 });
        assert_eq!(tokio::join!(tick(), tick()), (Err(WriteError::Unavailable), Err(WriteError::Unavailable)));
        thread.join().expect("no panic");
        assert_eq!(tick().await, Err(WriteError::Unavailable));
        assert_eq!(shared.state.read().applied(), 0);
    }

    #[test]
    fn a_journal_that_failed_stays_failed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path()).expect("an empty directory");
        journal.append_batch(&[b"kept"]).expect("written");
        journal.break_disk();
        assert!(matches!(journal.append_batch(&[b"lost"]), Err(JournalError::Io { what: "write", .. })));
        assert!(matches!(journal.append_batch(&[b"lost"]), Err(JournalError::Failed)));
        assert!(matches!(journal.start_compaction(1), Err(JournalError::Failed)));
        drop(journal);
        let (_, recovered) = Journal::open(dir.path()).expect("sound");
        assert_eq!(recovered.records, [(1, b"kept".to_vec())]);
    }
}
