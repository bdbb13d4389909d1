//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the directory open. Start with another one, or stop that process.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was changed after it was written: acknowledged records may be lost. Restore it from
    /// a copy, or move the directory away and start empty.
    #[error("{} is corrupt at byte {offset}: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// Written by a newer release.
    #[error("{} has format {found}, which this release does not know", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// An earlier write failed, so what is on the disk is not known: nothing more is written
    /// until the journal is opened again.
    #[error("an earlier write to the journal failed")]
    Failed,
    /// More bytes in one batch than a batch may have.
    #[error("a batch of {bytes} bytes, more than {bytes_max}")]
    BatchTooLarge {
        /// How many it had.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// A snapshot of an index that is not between the last snapshot and the last record.
    #[error("no snapshot can be taken at index {index}: the last record is {last}")]
    BadIndex {
        /// The index asked for.
        index: u64,
        /// The last index of the journal.
        last: u64,
    },
}

impl JournalError {
    pub(crate) fn corrupt(path: &Path, offset: usize, why: &'static str) -> JournalError {
        JournalError::Corrupt { path: path.to_owned(), offset: offset as u64, why }
    }
}

/// Names what was tried on which file when the system refuses.
pub(crate) trait Tried<T> {
    fn tried(self, what: &'static str, path: &Path) -> Result<T, JournalError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: &'static str, path: &Path) -> Result<T, JournalError> {
        self.map_err(|source| JournalError::Io { what, path: path.to_owned(), source })
    }
}
