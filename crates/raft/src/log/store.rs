//! The log as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use enfilade_journal::BatchPlace;
use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::queue::Op;
use super::record::{self, Record};
use super::window::Found;
use super::{LogStore, stopped};
use crate::types::{Entry, LogId, Proposal, Types, Vote};

/// Bytes of entries that are read at a time, for replication and for applying.
const READ_BYTES_MAX: u64 = 4 << 20;

/// What an entry takes beside its commands.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(half_open(&range), u64::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let chunks = futures::stream::try_unfold((self.clone(), half_open(&range)), |(log, rest)| async move {
            let entries = log.read(rest.clone(), READ_BYTES_MAX).await?;
            let Some(last) = entries.last() else { return io::Result::Ok(None) };
            let rest = last.log_id.index + 1..rest.end;
            Ok(Some((futures::stream::iter(entries.into_iter().map(io::Result::Ok)), (log, rest))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.kept.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let window = self.shared.window.lock();
        Ok(LogState { last_purged_log_id: window.purged().cloned(), last_log_id: window.last().cloned() })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        self.shared.queue.push(Op::Vote { vote: *vote, done }).await?;
        saved.await.map_err(|_| stopped())??;
        self.shared.kept.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.kept.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.kept.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Arc<Entry>> = entries.into_iter().map(Arc::new).collect();
        {
            let mut window = self.shared.window.lock();
            for entry in &entries {
                window.push(entry.clone(), bytes_of(entry))?;
            }
        }
        self.shared.queue.push(Op::Append { entries, done: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.shared.window.lock().truncate_after(last_log_id.as_ref());
        self.shared.queue.push(Op::Truncate { after: last_log_id }).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.shared.window.lock().purge(log_id);
        self.shared.queue.push(Op::Purge { upto: log_id }).await
    }
}

impl LogStore {
    /// The entries in `range` that are there: the first ones up to `bytes_max`, but at least one.
    pub(super) async fn read(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Entry>> {
        match self.read_once(range.clone(), bytes_max).await {
            // A segment may have gone between the look and the reading: then its entries are purged by now.
            Err(_) if self.purged_since(range.start) => self.read_once(range, bytes_max).await,
            read => read,
        }
    }

    async fn read_once(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Entry>> {
        let found = self.shared.window.lock().find(range, bytes_max)?;
        if let Some(entries) = found.iter().map(Found::here).collect() {
            return Ok(entries);
        }
        let dir = self.shared.dir.clone();
        tokio::task::spawn_blocking(move || load(&dir, found)).await.map_err(io::Error::other)?
    }

    fn purged_since(&self, index: u64) -> bool {
        self.shared.window.lock().purged().is_some_and(|purged| purged.index >= index)
    }
}

impl Found {
    fn here(&self) -> Option<Entry> {
        match self {
            Found::Here(entry) => Some(Entry::clone(entry)),
            Found::OnDisk(..) => None,
        }
    }
}

/// Reads from the disk what is not in memory, each batch of records once.
fn load(dir: &Path, found: Vec<Found>) -> io::Result<Vec<Entry>> {
    let mut batch: Option<(BatchPlace, Vec<Vec<u8>>)> = None;
    let mut entries = Vec::with_capacity(found.len());
    for found in found {
        let (id, place) = match found {
            Found::Here(entry) => {
                entries.push(Entry::clone(&entry));
                continue;
            }
            Found::OnDisk(id, place) => (id, place),
        };
        if batch.as_ref().is_none_or(|(at, _)| *at != place.batch) {
            let (_, records) = place.batch.read(dir).map_err(io::Error::other)?;
            batch = Some((place.batch, records));
        }
        let record = batch.as_mut().and_then(|(_, records)| records.get_mut(place.nth as usize)).map(std::mem::take);
        match record::read(record.unwrap_or_default())? {
            Record::Entry(entry) if entry.log_id == id => entries.push(entry),
            _ => return Err(io::Error::other(format!("another record stands in the place of entry {id}"))),
        }
    }
    Ok(entries)
}

fn bytes_of(entry: &Entry) -> u32 {
    let commands = match &entry.payload {
        openraft::EntryPayload::Normal(Proposal::Batch(batch)) => batch.bytes(),
        _ => 0,
    };
    u32::try_from(commands + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
