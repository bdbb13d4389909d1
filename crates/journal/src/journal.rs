//! The journal: a snapshot and the log of what came after it, in one directory.
//! Recovery: newest snapshot, then every record above its index, without a gap; else the start is refused.
//! All of it blocks: callers run it on a thread of its own.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::JournalError;
use crate::files::{self, Listing};
use crate::segment::{self, Scanned, Segment};
use crate::snapshot;

/// An open journal. One process has it; see [`JournalError::Locked`].
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    segment: Segment,
    /// Segments before the present one, oldest first.
    older: Vec<Older>,
    last_index: u64,
    snapshot_index: u64,
    snapshot_bytes: u64,
    failed: bool,
    scratch: Vec<u8>,
    _lock: File,
}

#[derive(Debug)]
struct Older {
    path: PathBuf,
    last_index: u64,
    len: u64,
}

/// What a journal held when it was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest snapshot.
    pub snapshot: Option<Vec<u8>>,
    /// The index it was taken at; 0 without one.
    pub snapshot_index: u64,
    /// The records after it, at consecutive indexes.
    pub records: Vec<(u64, Vec<u8>)>,
    /// The batches that they are in: the index of the first record of each, and its place.
    pub places: Vec<(u64, BatchPlace)>,
    /// Bytes that a crash left of a batch nobody was told of. They are gone now. (A batch that was
    /// the last one and rotted on the disk looks the same.)
    pub torn_bytes: u64,
}

/// Where in the log a batch is, as long as no snapshot replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    segment: u64,
    offset: u64,
}

impl BatchPlace {
    /// Reads the batch again: the index of its first record, and its records.
    ///
    /// # Errors
    /// The batch is no longer there, or damaged, or the system refuses.
    pub fn read(self, dir: &Path) -> Result<(u64, Vec<Vec<u8>>), JournalError> {
        segment::read_batch(&files::segment_path(dir, self.segment), self.offset)
    }
}

impl Journal {
    /// Opens the journal in `dir`, which is made if need be, and reads it.
    ///
    /// # Errors
    /// Another process has it, a file is corrupt or of a newer release, or the system refuses.
    pub fn open(dir: &Path) -> Result<(Journal, Recovered), JournalError> {
        let lock = files::lock(dir)?;
        let Listing { segments, snapshots, unfinished } = files::list(dir)?;
        for path in unfinished {
            files::remove(&path)?;
        }
        let mut recovered = Recovered::default();
        if let Some((index, path)) = snapshots.last() {
            recovered.snapshot = Some(snapshot::read(path, *index)?);
            recovered.snapshot_index = *index;
        }
        let scanned = scan_all(segments, &mut recovered)?;
        let last_index = scanned.last().map_or(recovered.snapshot_index, |last| last.last_index);
        let segment = match scanned.last() {
            Some(last) => Segment::reopen(last)?,
            None => new_segment(dir, last_index + 1)?,
        };
        let older = &scanned[..scanned.len().saturating_sub(1)];
        let mut journal = Journal {
            dir: dir.to_owned(),
            segment,
            older: older.iter().map(Older::from).collect(),
            last_index,
            snapshot_index: recovered.snapshot_index,
            snapshot_bytes: recovered.snapshot.as_ref().map_or(0, |bytes| bytes.len() as u64),
            failed: false,
            scratch: Vec::new(),
            _lock: lock,
        };
        // A crash may have come between a snapshot and the removal of what it replaces.
        journal.remove_replaced()?;
        Ok((journal, recovered))
    }

    /// Appends records and waits until they are on the disk, all of them with one sync. Gives back
    /// the index of the last one; the first is at [`Journal::last_index`] + 1. After a crash either
    /// all of the batch is there or nothing.
    ///
    /// # Errors
    /// After an error from the system the journal is [`JournalError::Failed`] for good: whether the
    /// batch is on the disk is known only when it is opened again.
    pub fn append_batch(&mut self, records: &[&[u8]]) -> Result<u64, JournalError> {
        self.usable()?;
        if records.is_empty() {
            return Ok(self.last_index);
        }
        let written = self.segment.append(&mut self.scratch, self.last_index + 1, records);
        self.failed = matches!(written, Err(JournalError::Io { .. }));
        written?;
        self.last_index += records.len() as u64;
        Ok(self.last_index)
    }

    /// Replaces every record up to `index` by a snapshot.
    ///
    /// # Errors
    /// As [`Journal::start_compaction`], [`Compaction::write`] and [`Journal::finish_compaction`].
    pub fn compact(&mut self, snapshot: &[u8], index: u64) -> Result<(), JournalError> {
        let written = self.start_compaction(index)?.write(snapshot)?;
        self.finish_compaction(written)
    }

    /// Begins to replace the records up to `index`: later ones go to a new segment. The snapshot can
    /// then be written on another thread while appending goes on.
    ///
    /// # Errors
    /// The index has no record. Or the system refuses: then the journal is [`JournalError::Failed`],
    /// because a half-made segment may hold the name of the records to come.
    pub fn start_compaction(&mut self, index: u64) -> Result<Compaction, JournalError> {
        self.usable()?;
        if index > self.last_index || index < self.snapshot_index {
            return Err(JournalError::BadIndex { index, last: self.last_index });
        }
        if self.last_index >= self.segment.first_index {
            let next = new_segment(&self.dir, self.last_index + 1);
            self.failed = next.is_err();
            let next = next?;
            let full = std::mem::replace(&mut self.segment, next);
            self.older.push(Older { path: full.path, last_index: self.last_index, len: full.len });
        }
        Ok(Compaction { dir: self.dir.clone(), index })
    }

    /// Ends a compaction: what the snapshot replaces is removed.
    ///
    /// # Errors
    /// The system refuses. The snapshot stands; the rest is removed when the journal is next opened.
    pub fn finish_compaction(&mut self, written: Compacted) -> Result<(), JournalError> {
        if written.index >= self.snapshot_index {
            (self.snapshot_index, self.snapshot_bytes) = (written.index, written.bytes);
        }
        self.remove_replaced()
    }

    /// Oldest first, so that a crash in between leaves a log without a gap.
    fn remove_replaced(&mut self) -> Result<(), JournalError> {
        while let Some(oldest) = self.older.first().filter(|oldest| oldest.last_index <= self.snapshot_index) {
            files::remove(&oldest.path)?;
            self.older.remove(0);
        }
        for (index, path) in files::list(&self.dir)?.snapshots {
            if index < self.snapshot_index {
                files::remove(&path)?;
            }
        }
        files::sync_dir(&self.dir)
    }

    fn usable(&self) -> Result<(), JournalError> {
        if self.failed { Err(JournalError::Failed) } else { Ok(()) }
    }

    /// Where the next batch will be.
    pub fn next_place(&self) -> BatchPlace {
        BatchPlace { segment: self.segment.first_index, offset: self.segment.len }
    }

    /// The index of the last record; 0 before the first.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The index of the newest snapshot; 0 without one.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot_index
    }

    /// Bytes of log on the disk.
    pub fn log_bytes(&self) -> u64 {
        self.segment.len + self.older.iter().map(|older| older.len).sum::<u64>()
    }

    /// Bytes of the newest snapshot; 0 without one.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// Makes the next write fail, as a full or broken disk would.
    #[cfg(test)]
    pub(crate) fn break_disk(&mut self) {
        self.segment.file = File::open(&self.segment.path).expect("the segment is there");
    }
}

/// A compaction under way: its snapshot is to be written, on any thread.
#[derive(Debug)]
pub struct Compaction {
    dir: PathBuf,
    index: u64,
}

/// A compaction whose snapshot is durable.
#[derive(Debug)]
pub struct Compacted {
    index: u64,
    bytes: u64,
}

impl Compaction {
    /// Writes the snapshot and waits until it is on the disk.
    ///
    /// # Errors
    /// The system refuses; the journal is whole without it.
    pub fn write(self, snapshot: &[u8]) -> Result<Compacted, JournalError> {
        snapshot::write(&self.dir, self.index, &[snapshot])?;
        Ok(Compacted { index: self.index, bytes: snapshot.len() as u64 })
    }
}

impl From<&Scanned> for Older {
    fn from(scanned: &Scanned) -> Older {
        Older { path: scanned.path.clone(), last_index: scanned.last_index, len: scanned.sound_len }
    }
}

fn new_segment(dir: &Path, first_index: u64) -> Result<Segment, JournalError> {
    let segment = Segment::create(files::segment_path(dir, first_index), first_index)?;
    files::sync_dir(dir)?;
    Ok(segment)
}

/// Reads every segment into `recovered` and checks that they follow each other.
fn scan_all(segments: Vec<(u64, PathBuf)>, recovered: &mut Recovered) -> Result<Vec<Scanned>, JournalError> {
    let mut all: Vec<Scanned> = Vec::new();
    let count = segments.len();
    for (n, (first_index, path)) in segments.into_iter().enumerate() {
        let is_last = n + 1 == count;
        let Some(mut scanned) = segment::scan(&path, first_index, recovered.snapshot_index, is_last)? else {
            recovered.torn_bytes += std::fs::metadata(&path).map_or(0, |file| file.len());
            files::remove(&path)?;
            continue;
        };
        let follows = match all.last() {
            Some(before) => first_index == before.last_index + 1,
            None => first_index <= recovered.snapshot_index + 1,
        };
        if !follows {
            return Err(JournalError::corrupt(&path, 0, "records before this file are missing"));
        }
        recovered.records.append(&mut scanned.records);
        let segment = scanned.first_index;
        recovered
            .places
            .extend(scanned.frames.iter().map(|(index, offset)| (*index, BatchPlace { segment, offset: *offset })));
        recovered.torn_bytes += scanned.torn_bytes;
        all.push(scanned);
    }
    match all.last() {
        Some(last) if last.last_index < recovered.snapshot_index => {
            Err(JournalError::corrupt(&last.path, last.sound_len as usize, "the log ends before the snapshot"))
        }
        _ => Ok(all),
    }
}
