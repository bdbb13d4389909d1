//! The durable log: what openraft appends goes to a thread that syncs all that waits with one write.
//!
//! Rule: records reach the disk in the order in which openraft gave them, and it hears of each after the sync.
//! Recovery: the records are read again in that order; what a crash tore off had been acknowledged to nobody.

mod queue;
mod record;
mod recovery;
mod store;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use enfilade_journal::JournalError;
use parking_lot::Mutex;

use self::queue::Queue;
use self::window::Window;
use self::writer::WriterThread;
use crate::BeforeWrite;
use crate::types::{LogId, Vote};

/// The log of one replica. Clones are handles to one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

/// What openraft's tasks and the writer thread share.
pub(crate) struct Shared {
    dir: PathBuf,
    window: Mutex<Window>,
    kept: Mutex<Kept>,
    queue: Queue,
    before_write: OnceLock<BeforeWrite>,
}

/// What is kept beside the entries.
#[derive(Clone, Debug, Default)]
struct Kept {
    vote: Option<Vote>,
    /// Written with the next record: losing it costs nothing but a later start of reading.
    committed: Option<LogId>,
}

/// Ends the writer thread; the directory is free afterwards.
pub(crate) struct LogOwner {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LogStore {
    /// Opens the log in `dir` and starts its thread. Blocks.
    pub(crate) fn open(dir: &Path, cache_bytes_max: u64) -> Result<(LogStore, LogOwner), JournalError> {
        let recovered = recovery::recover(dir, cache_bytes_max)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            window: Mutex::new(recovered.window),
            kept: Mutex::new(recovered.kept.clone()),
            queue: Queue::new(),
            before_write: OnceLock::new(),
        });
        let writer = WriterThread::new(shared.clone(), recovered.journal, recovered.kept, recovered.entry_max);
        let started = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run());
        let writer =
            started.map_err(|source| JournalError::Io { what: "start the writer of", path: dir.to_owned(), source })?;
        let owner = LogOwner { shared: shared.clone(), writer: Mutex::new(Some(writer)) };
        Ok((LogStore { shared }, owner))
    }
}

impl LogOwner {
    /// What is called before each write from now on. Once.
    pub(crate) fn before_write(&self, call: BeforeWrite) {
        let _ = self.shared.before_write.set(call);
    }

    /// Writes what waits and gives up the directory. Blocks.
    pub(crate) fn close(&self) {
        self.shared.queue.stop();
        let writer = self.writer.lock().take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            tracing::error!("the log's writer thread had panicked");
        }
    }
}

impl Drop for LogOwner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The log takes nothing more.
fn stopped() -> io::Error {
    io::Error::other("the log is closed, or its disk has failed")
}
