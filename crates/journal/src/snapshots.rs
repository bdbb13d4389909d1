//! Snapshots on their own, for a log that is kept elsewhere: a directory with the newest one.
//! Rule: one is removed only once a newer one is durable.

use std::path::{Path, PathBuf};

use crate::JournalError;
use crate::{files, snapshot};

/// A directory of snapshots. Of two that use one directory, each may remove what the other reads.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// The snapshots in `dir`, which is made if need be. What a crash left half written is removed.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(dir: &Path) -> Result<Snapshots, JournalError> {
        files::make_dir(dir)?;
        for path in files::list(dir)?.unfinished {
            files::remove(&path)?;
        }
        Ok(Snapshots { dir: dir.to_owned() })
    }

    /// The index of the newest one.
    ///
    /// # Errors
    /// The system refuses.
    pub fn newest(&self) -> Result<Option<u64>, JournalError> {
        Ok(files::list(&self.dir)?.snapshots.last().map(|(index, _)| *index))
    }

    /// The snapshot of that index.
    ///
    /// # Errors
    /// It is not there, or damaged, or the system refuses.
    pub fn read(&self, index: u64) -> Result<Vec<u8>, JournalError> {
        snapshot::read(&files::snapshot_path(&self.dir, index), index)
    }

    /// Writes a snapshot, given in parts, waits until it is on the disk, and removes the older ones.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write(&self, index: u64, content: &[&[u8]]) -> Result<(), JournalError> {
        snapshot::write(&self.dir, index, content)?;
        for (older, path) in files::list(&self.dir)?.snapshots {
            if older < index {
                files::remove(&path)?;
            }
        }
        files::sync_dir(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_replaces_the_older_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        let snapshots = Snapshots::open(dir.path()).expect("an empty directory");
        assert_eq!(snapshots.newest().expect("listed"), None);
        snapshots.write(3, &[b"a", b"", b"bc"]).expect("written");
        snapshots.write(7, &[b"d"]).expect("written");
        let again = Snapshots::open(dir.path()).expect("opened");
        assert_eq!(again.newest().expect("listed"), Some(7));
        assert_eq!(again.read(7).expect("read"), b"d");
        assert!(matches!(again.read(3), Err(JournalError::Io { what: "read", .. })));
    }

    #[test]
    fn a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let snapshots = Snapshots::open(dir.path()).expect("an empty directory");
        snapshots.write(3, &[b"content"]).expect("written");
        let path = files::snapshot_path(dir.path(), 3);
        let mut bytes = std::fs::read(&path).expect("read");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(matches!(snapshots.read(3), Err(JournalError::Corrupt { .. })));
    }
}
