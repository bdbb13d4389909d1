//! From the records on the disk back to the log.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use enfilade_journal::{BatchPlace, Journal, JournalError};

use super::Kept;
use super::record::{self, Record};
use super::window::{Place, Window};
use crate::codec::BadMessage;

pub(super) struct Recovered {
    pub(super) journal: Journal,
    pub(super) window: Window,
    pub(super) kept: Kept,
    /// The highest index of any entry in the records.
    pub(super) entry_max: Option<u64>,
}

pub(super) fn recover(dir: &Path, cache_bytes_max: u64) -> Result<Recovered, JournalError> {
    let (journal, found) = Journal::open(dir)?;
    if found.torn_bytes > 0 {
        tracing::info!(bytes = found.torn_bytes, "a crash had left a part of an unacknowledged write in the log");
    }
    let unreadable =
        |why: BadMessage| JournalError::Io { what: "understand the log in", path: dir.to_owned(), source: why.into() };
    let (kept, purged) = record::read_base(found.snapshot.as_deref().unwrap_or_default()).map_err(unreadable)?;
    let window = Window::new(purged, cache_bytes_max);
    let mut recovered = Recovered { journal, window, kept, entry_max: None };
    let mut places: VecDeque<(u64, BatchPlace)> = found.places.into();
    for (index, bytes) in found.records {
        while places.get(1).is_some_and(|(first, _)| *first <= index) {
            places.pop_front();
        }
        let place = places.front().map(|(first, batch)| Place { batch: *batch, nth: (index - first) as u32 });
        let len = bytes.len() as u32;
        let record = record::read(bytes).map_err(unreadable)?;
        recovered.replay(record, len, place).map_err(|source| JournalError::Io {
            what: "understand the log in",
            path: dir.to_owned(),
            source,
        })?;
    }
    Ok(recovered)
}

impl Recovered {
    fn replay(&mut self, record: Record, bytes: u32, place: Option<Place>) -> std::io::Result<()> {
        match record {
            Record::Vote(vote) => self.kept.vote = Some(vote),
            Record::Committed(committed) => self.kept.committed = Some(committed),
            Record::Truncated(after) => self.window.truncate_after(after.as_ref()),
            Record::Purged(upto) => self.window.purge(upto),
            Record::Entry(entry) => {
                let id = entry.log_id;
                self.entry_max = self.entry_max.max(Some(id.index));
                // The base may already say that it is purged.
                if self.window.purged().is_some_and(|purged| purged.index >= id.index) {
                    return Ok(());
                }
                self.window.push(Arc::new(entry), bytes)?;
                if let Some(place) = place {
                    self.window.placed(&id, place);
                }
                self.window.evict();
            }
        }
        Ok(())
    }
}
