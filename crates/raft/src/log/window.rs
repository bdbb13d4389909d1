//! The entries of the log by index: the newest in memory, the older ones by their place on the disk.
//! Invariant: no holes; an entry without a place on the disk is in memory.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use enfilade_journal::BatchPlace;

use crate::types::{Entry, LogId};

/// Where an entry is on the disk: the batch of records, and which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) batch: BatchPlace,
    pub(super) nth: u32,
}

/// How to come by an entry.
#[derive(Debug)]
pub(super) enum Found {
    Here(Arc<Entry>),
    OnDisk(LogId, Place),
}

pub(super) struct Window {
    purged: Option<LogId>,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// How many slots at the front are not in memory.
    evicted: usize,
    cached_bytes: u64,
    cached_bytes_max: u64,
}

struct Slot {
    id: LogId,
    bytes: u32,
    entry: Option<Arc<Entry>>,
    place: Option<Place>,
}

impl Window {
    pub(super) fn new(purged: Option<LogId>, cached_bytes_max: u64) -> Window {
        let first = purged.as_ref().map_or(0, |id| id.index + 1);
        Window { purged, first, slots: VecDeque::new(), evicted: 0, cached_bytes: 0, cached_bytes_max }
    }

    pub(super) fn purged(&self) -> Option<&LogId> {
        self.purged.as_ref()
    }

    /// The last entry's id, or what was purged last.
    pub(super) fn last(&self) -> Option<&LogId> {
        self.slots.back().map(|slot| &slot.id).or(self.purged.as_ref())
    }

    #[cfg(test)]
    pub(super) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Adds an entry, which must follow the last one.
    pub(super) fn push(&mut self, entry: Arc<Entry>, bytes: u32) -> io::Result<()> {
        let index = entry.log_id.index;
        if self.slots.is_empty() {
            self.first = index;
        } else if index != self.first + self.slots.len() as u64 {
            let what = format!("entry {index} does not follow entry {:?}", self.last());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.cached_bytes += u64::from(bytes);
        self.slots.push_back(Slot { id: entry.log_id, bytes, entry: Some(entry), place: None });
        Ok(())
    }

    /// Notes where an entry is, if it is still the one with that id.
    pub(super) fn placed(&mut self, id: &LogId, place: Place) {
        let slot = id.index.checked_sub(self.first).and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = slot.filter(|slot| slot.id == *id) {
            slot.place = Some(place);
        }
    }

    /// Forgets the oldest entries in memory, as long as there is too much of them; the disk has them.
    pub(super) fn evict(&mut self) {
        while self.cached_bytes > self.cached_bytes_max {
            let Some(slot) = self.slots.get_mut(self.evicted).filter(|slot| slot.place.is_some()) else { return };
            slot.entry = None;
            self.cached_bytes -= u64::from(slot.bytes);
            self.evicted += 1;
        }
    }

    pub(super) fn truncate_after(&mut self, after: Option<&LogId>) {
        let keep = after.map_or(0, |id| (id.index + 1).saturating_sub(self.first)) as usize;
        while self.slots.len() > keep {
            let slot = self.slots.pop_back();
            self.uncount(slot);
        }
        self.evicted = self.evicted.min(self.slots.len());
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.as_ref().is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        while !self.slots.is_empty() && self.first <= upto.index {
            let slot = self.slots.pop_front();
            self.uncount(slot);
            self.evicted = self.evicted.saturating_sub(1);
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = upto.index + 1;
        }
        self.purged = Some(upto);
    }

    fn uncount(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot.filter(|slot| slot.entry.is_some()) {
            self.cached_bytes -= u64::from(slot.bytes);
        }
    }

    /// The entries in `range` that are there, the first ones up to `bytes_max` but at least one.
    pub(super) fn find(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Found>> {
        let from = range.start.max(self.first) - self.first;
        let to = range.end.saturating_sub(self.first).min(self.slots.len() as u64);
        let mut bytes = 0;
        let mut found = Vec::new();
        for at in from..to {
            let slot = &self.slots[at as usize];
            bytes += u64::from(slot.bytes);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(match (&slot.entry, slot.place) {
                (Some(entry), _) => Found::Here(entry.clone()),
                (None, Some(place)) => Found::OnDisk(slot.id, place),
                (None, None) => return Err(io::Error::other(format!("entry {} is nowhere", slot.id))),
            });
        }
        Ok(found)
    }
}
