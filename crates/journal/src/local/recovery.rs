//! From a journal's bytes back to the state: the snapshot, then every command after it.

use std::path::Path;

use enfilade_registry::{Command, DecodeError, RestoreError, StateMachine};

use crate::{Journal, JournalError};

/// Why a local registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's snapshot is not a registry's.
    #[error("the registry's snapshot cannot be restored: {0}")]
    Snapshot(#[from] RestoreError),
    /// The snapshot's content is of another index than its file.
    #[error("the registry's snapshot is of index {content}, its file of {file}")]
    SnapshotIndex {
        /// The index in the content.
        content: u64,
        /// The index of the file.
        file: u64,
    },
    /// A record is not a command of this release.
    #[error("the registry's command {index} cannot be read: {source}")]
    Command {
        /// The record's index.
        index: u64,
        /// Why not.
        source: DecodeError,
    },
}

/// The journal, the state that it holds, and the bytes that a crash had left.
pub(super) fn recover(dir: &Path) -> Result<(Journal, StateMachine, u64), OpenError> {
    let (journal, recovered) = Journal::open(dir)?;
    let mut state = match &recovered.snapshot {
        Some(bytes) => StateMachine::restore(bytes)?,
        None => StateMachine::new(),
    };
    if state.applied() != recovered.snapshot_index {
        return Err(OpenError::SnapshotIndex { content: state.applied(), file: recovered.snapshot_index });
    }
    for (index, bytes) in recovered.records {
        let command = Command::decode(&bytes).map_err(|source| OpenError::Command { index, source })?;
        // A refusal was a refusal the first time, too.
        let _ = state.apply(index, &command);
    }
    Ok((journal, state, recovered.torn_bytes))
}
