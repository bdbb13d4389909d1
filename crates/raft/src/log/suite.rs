//! openraft's own tests of a log and a state machine.

use std::sync::Arc;

use enfilade_registry::{Generation, NodeId, Run};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{LogOwner, LogStore};
use crate::state::{Machine, State};
use crate::types::Types;

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, (LogOwner, TempDir)> for Builder {
    async fn build(&self) -> Result<((LogOwner, TempDir), LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a directory");
        // Nothing stays in memory: every entry that has a place is read from the disk.
        let (store, owner) = LogStore::open(&dir.path().join("log"), 0).expect("a log");
        let run = Run { node: NodeId(0), generation: Generation(1) };
        let state = State::open(&dir.path().join("state"), run, 1 << 20).expect("a state");
        Ok(((owner, dir), store, Machine(Arc::new(state))))
    }
}

#[tokio::test]
async fn openrafts_suite_passes() {
    Suite::test_all(Builder).await.expect("every test of the suite");
}
