//! The state as openraft sees it.

use std::io;
use std::sync::Arc;

use enfilade_registry::StateMachine;
use enfilade_registry::watch::Recent;
use futures::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::sync::oneshot;

use super::cut::Taken;
use super::{Applied, State, StateError, file};
use crate::types::{Content, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};

/// Entries applied before other tasks get their turn.
const TURN: usize = 8;

/// How little the kernel prefers a snapshot's thread, as `nice` counts.
const NICE: i32 = 10;

/// Openraft's handle to the state.
#[derive(Clone)]
pub(crate) struct Machine(pub(crate) Arc<State>);

/// Encodes and writes one snapshot; entries are applied meanwhile.
pub(crate) struct Builder {
    state: Arc<State>,
    taken: Option<Taken>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Content;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.0.applied.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut count = 0;
        while let Some((entry, responder)) = entries.try_next().await? {
            self.0.apply(entry)?;
            if let Some(responder) = responder {
                responder.send(());
            }
            count += 1;
            if count % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // At a cut it is the state there; openraft may ask at other times.
        let taken = self.0.cuts.taken().unwrap_or_else(|| self.0.taken());
        Builder { state: self.0.clone(), taken: Some(taken) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Content) -> io::Result<()> {
        let state = self.0.clone();
        let meta = meta.clone();
        blocking(move || {
            let registry = StateMachine::restore(&snapshot.registry)?;
            let digest = file::write(&state.snapshots, &meta, &snapshot)?;
            state.cuts.is_installed(file::index_of(&meta), digest, snapshot.registry.len());
            let (last, membership) = (meta.last_log_id, meta.last_membership);
            let recent = Recent::default();
            state.replace(Applied { registry, origins: snapshot.origins, last, membership, recent });
            Ok(())
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let state = self.0.clone();
        blocking(move || {
            let Some(index) = state.snapshots.newest()? else { return Ok(None) };
            let stored = file::read(&state.snapshots, index)?;
            Ok(Some(Snapshot { meta: stored.meta, snapshot: stored.content }))
        })
        .await
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Content;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let taken = self.taken.take().ok_or_else(|| io::Error::other("the snapshot was built already"))?;
        let state = self.state.clone();
        blocking(move || {
            let meta = SnapshotMeta { last_log_id: taken.last, last_membership: taken.membership };
            let content = Content { origins: taken.origins, registry: taken.frozen.encode().into() };
            let digest = file::write(&state.snapshots, &meta, &content)?;
            let (index, bytes) = (file::index_of(&meta), content.registry.len());
            state.cuts.is_durable(index, digest, bytes);
            tracing::info!(index, bytes, "a snapshot of the registry is written");
            Ok(Snapshot { meta, snapshot: content })
        })
        .await
    }
}

/// Runs on a thread of its own that the kernel prefers less than others. Those of the runtime may be preferred, because
/// Raft's messages must not be late; a snapshot may take its time, and takes a lot of it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StateError> + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let run = move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a snapshot takes as much time as requests do");
        }
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("raft-snapshot".to_owned()).spawn(run)?;
    result.await.map_err(|_| io::Error::other("the snapshot's thread panicked"))?.map_err(io::Error::other)
}
