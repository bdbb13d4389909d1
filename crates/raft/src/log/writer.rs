//! The log's thread: takes what waits, writes it with one sync, tells openraft, and drops purged segments.
//! Recovery: after a failure of the disk every write fails, and openraft stops the replica.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use enfilade_journal::{Journal, JournalError};
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::queue::{Op, Waiting};
use super::window::Place;
use super::{Kept, Shared, record};
use crate::types::{LogId, Types};

/// Bytes in one write, beyond which what waits is written in several.
const WRITE_BYTES_MAX: usize = 8 << 20;

pub(super) struct WriterThread {
    shared: Arc<Shared>,
    journal: Journal,
    /// As written, which may be behind what openraft said last.
    kept: Kept,
    purged: Option<LogId>,
    /// Ends of segments: the index of the last record, and the highest entry up to there.
    ends: VecDeque<(u64, Option<u64>)>,
    /// The highest entry since the last of those.
    entry_max: Option<u64>,
    /// The record up to which the base stands in.
    base: u64,
    batch: Batch,
}

/// Records to be written together, and who waits for them.
#[derive(Default)]
struct Batch {
    records: Vec<Vec<u8>>,
    bytes: usize,
    entries: Vec<(LogId, u32)>,
    done: Vec<Done>,
}

enum Done {
    Append(IOFlushed<Types>),
    Vote(oneshot::Sender<io::Result<()>>),
}

impl WriterThread {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, kept: Kept, entry_max: Option<u64>) -> WriterThread {
        let purged = shared.window.lock().purged().cloned();
        // Which segment has which entries is not known of those before the start: they go together.
        WriterThread {
            shared,
            journal,
            kept,
            purged,
            ends: VecDeque::new(),
            entry_max,
            base: 0,
            batch: Batch::default(),
        }
    }

    pub(super) fn run(mut self) {
        let stop = StopOnDrop(self.shared.clone());
        loop {
            let waiting = self.shared.queue.take();
            if waiting.is_empty() {
                break;
            }
            if let Err(error) = self.carry_out(waiting) {
                tracing::error!(%error, "the log cannot be written: this replica stops");
                return;
            }
        }
        drop(stop);
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the end of the log could not be written; nothing acknowledged is lost");
        }
    }

    fn carry_out(&mut self, waiting: Vec<Waiting>) -> Result<(), JournalError> {
        for Waiting { op, .. } in waiting {
            match op {
                Op::Append { entries, done } => {
                    for entry in &entries {
                        let nth = self.batch.records.len() as u32;
                        self.batch.entries.push((entry.log_id, nth));
                        self.batch.push(record::entry_bytes(entry));
                        self.entry_max = self.entry_max.max(Some(entry.log_id.index));
                        self.flush_if_large()?;
                    }
                    self.batch.done.push(Done::Append(done));
                }
                Op::Vote { vote, done } => {
                    self.batch.push(record::vote_bytes(&vote));
                    self.kept.vote = Some(vote);
                    self.batch.done.push(Done::Vote(done));
                }
                Op::Truncate { after } => self.batch.push(record::truncated_bytes(after.as_ref())),
                Op::Purge { upto } => {
                    self.batch.push(record::purged_bytes(&upto));
                    self.purged = Some(upto);
                    self.flush()?;
                    self.drop_purged()?;
                }
            }
            self.flush_if_large()?;
        }
        self.flush()
    }

    fn flush_if_large(&mut self) -> Result<(), JournalError> {
        if self.batch.bytes > WRITE_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes and syncs the batch; then whoever waits for it hears so.
    fn flush(&mut self) -> Result<(), JournalError> {
        let committed = self.shared.kept.lock().committed;
        if let Some(id) = committed.as_ref().filter(|_| committed != self.kept.committed) {
            self.batch.push(record::committed_bytes(id));
            self.kept.committed = committed;
        }
        let batch = std::mem::take(&mut self.batch);
        let place = self.journal.next_place();
        if let Some(call) = self.shared.before_write.get() {
            call();
        }
        let records: Vec<&[u8]> = batch.records.iter().map(Vec::as_slice).collect();
        let written = self.journal.append_batch(&records);
        if written.is_ok() {
            let mut window = self.shared.window.lock();
            for (id, nth) in &batch.entries {
                window.placed(id, Place { batch: place, nth: *nth });
            }
            window.evict();
        }
        for done in batch.done {
            done.tell(written.as_ref().map(drop).map_err(|error| io::Error::other(error.to_string())));
        }
        written.map(drop)
    }

    /// Begins a new segment, and removes the old ones that hold nothing but purged entries.
    fn drop_purged(&mut self) -> Result<(), JournalError> {
        let Some(purged) = self.purged.as_ref().map(|id| id.index) else { return Ok(()) };
        self.ends.push_back((self.journal.last_index(), self.entry_max.take()));
        while let Some((last, entry_max)) = self.ends.front().copied() {
            if entry_max.is_some_and(|index| index > purged) {
                break;
            }
            self.base = last;
            self.ends.pop_front();
        }
        let base = record::base_bytes(&self.kept, self.purged.as_ref());
        let at = self.base.max(self.journal.snapshot_index());
        self.journal.compact(&base, at)
    }
}

impl Batch {
    fn push(&mut self, record: Vec<u8>) {
        self.bytes += record.len();
        self.records.push(record);
    }
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Done::Append(done) => done.io_completed(result),
            // Who asked may have gone; the vote stands.
            Done::Vote(done) => drop(done.send(result)),
        }
    }
}

/// Whatever ends the thread, nobody must wait for it.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.queue.stop();
        // Those that wait hear of it because what they wait on is dropped.
        drop(self.0.queue.take());
    }
}
