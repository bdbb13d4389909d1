//! When snapshots are taken. Rule: at a `Cut` entry, so that every replica has one of the same index, and their
//! digests can be compared: the next cut carries the proposer's digest of the one before.

use std::collections::BTreeMap;

use enfilade_registry::Frozen;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Origins;
use crate::types::{LogId, StoredMembership};

/// A cut is due when the log since the last has this many times the bytes of the last snapshot.
const LOG_PER_SNAPSHOT: u64 = 4;

/// How many digests are kept to compare.
const DIGESTS: usize = 8;

/// The state at a cut, not encoded yet.
pub(crate) struct Taken {
    pub(super) frozen: Frozen,
    pub(super) origins: Origins,
    pub(super) last: Option<LogId>,
    pub(super) membership: StoredMembership,
}

/// When snapshots are taken, and what they were.
pub(crate) struct Cuts {
    log_bytes_min: u64,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    /// Bytes of commands applied since the last cut.
    log_bytes: u64,
    snapshot_bytes: u64,
    taken: Option<Taken>,
    digests: BTreeMap<u64, [u8; 32]>,
}

impl Cuts {
    pub(super) fn new(log_bytes_min: u64) -> Cuts {
        Cuts { log_bytes_min, known: Mutex::default(), changed: Notify::new() }
    }

    /// Waits until a cut may be due, or was made.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the leader is to propose a cut.
    pub(crate) fn is_due(&self) -> bool {
        let known = self.known.lock();
        known.log_bytes >= self.log_bytes_min.max(LOG_PER_SNAPSHOT.saturating_mul(known.snapshot_bytes))
    }

    /// Whether a cut was made whose snapshot is not written yet.
    pub(crate) fn is_taken(&self) -> bool {
        self.known.lock().taken.is_some()
    }

    /// The newest snapshot: its index and digest.
    pub(crate) fn newest(&self) -> Option<(u64, [u8; 32])> {
        self.known.lock().digests.last_key_value().map(|(index, digest)| (*index, *digest))
    }

    pub(super) fn count(&self, bytes: u64) {
        self.known.lock().log_bytes += bytes;
        if self.is_due() {
            self.changed.notify_one();
        }
    }

    pub(super) fn take(&self, taken: Taken) {
        let mut known = self.known.lock();
        known.log_bytes = 0;
        known.taken = Some(taken);
        self.changed.notify_one();
    }

    pub(super) fn taken(&self) -> Option<Taken> {
        self.known.lock().taken.take()
    }

    /// Whether this replica had another state at that index.
    pub(super) fn contradicts(&self, (index, digest): (u64, [u8; 32])) -> bool {
        self.known.lock().digests.get(&index).is_some_and(|mine| *mine != digest)
    }

    /// A snapshot is on the disk.
    pub(super) fn is_durable(&self, index: u64, digest: [u8; 32], bytes: usize) {
        let mut known = self.known.lock();
        known.snapshot_bytes = bytes as u64;
        known.digests.insert(index, digest);
        while known.digests.len() > DIGESTS {
            known.digests.pop_first();
        }
    }

    /// The state was replaced by a snapshot of another replica.
    pub(super) fn is_installed(&self, index: u64, digest: [u8; 32], bytes: usize) {
        self.is_durable(index, digest, bytes);
        let mut known = self.known.lock();
        known.log_bytes = 0;
        known.taken = None;
    }
}
