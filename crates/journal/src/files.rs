//! The journal's directory: its lock, its file names, and what must be synced for a name to last.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::JournalError;
use crate::error::Tried as _;

const LOG: &str = "log-";
const SNAPSHOT: &str = "snapshot-";
const UNFINISHED: &str = ".tmp";

/// What a directory holds, each sorted by index.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Segments by the index of their first record.
    pub(crate) segments: Vec<(u64, PathBuf)>,
    /// Snapshots by the index they were taken at.
    pub(crate) snapshots: Vec<(u64, PathBuf)>,
    /// Files that a crash left half written.
    pub(crate) unfinished: Vec<PathBuf>,
}

/// Makes the directory if need be and takes its lock, which lasts as long as the file is open.
pub(crate) fn lock(dir: &Path) -> Result<File, JournalError> {
    make_dir(dir)?;
    let path = dir.join("lock");
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).tried("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { what: "lock", path, source }),
    }
}

/// Makes the directory if need be, so that its name lasts.
pub(crate) fn make_dir(dir: &Path) -> Result<(), JournalError> {
    fs::create_dir_all(dir).tried("create", dir)?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// The journal's files. Names that are not its own are left alone.
pub(crate) fn list(dir: &Path) -> Result<Listing, JournalError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).tried("list", dir)? {
        let path = entry.tried("list", dir)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(index) = index_in(name, LOG) {
            listing.segments.push((index, path));
        } else if let Some(index) = index_in(name, SNAPSHOT) {
            listing.snapshots.push((index, path));
        } else if name.strip_suffix(UNFINISHED).is_some_and(|stem| index_in(stem, SNAPSHOT).is_some()) {
            listing.unfinished.push(path);
        }
    }
    listing.segments.sort();
    listing.snapshots.sort();
    Ok(listing)
}

fn index_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

pub(crate) fn segment_path(dir: &Path, first_index: u64) -> PathBuf {
    dir.join(format!("{LOG}{first_index:020}"))
}

pub(crate) fn snapshot_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{SNAPSHOT}{index:020}"))
}

pub(crate) fn unfinished_snapshot_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{SNAPSHOT}{index:020}{UNFINISHED}"))
}

/// Makes created, renamed and removed names last.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|dir| dir.sync_all()).tried("sync", dir)
}

pub(crate) fn remove(path: &Path) -> Result<(), JournalError> {
    fs::remove_file(path).tried("remove", path)
}
