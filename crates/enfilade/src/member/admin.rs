//! What an operator's command asks of this node over its link. Whoever has the cluster's keys may ask.

use super::{COMMAND, configure};
use crate::compose::registry_limits;
use crate::config::{Config as NodeConfig, Shared};
use crate::remote::ADMIN;
use bytes::Bytes;
use enfilade_cluster::Switchboard;
use enfilade_mesh::CallError;
use enfilade_proto::admin::{Backup, Config, ConfigApply, ConfigVersion, Reply, Request, reply, request};
use enfilade_raft::Raft;
use enfilade_registry::{Command, Document, Reader, Refusal, WriteError, Writer};
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a backup in one answer.
const PIECE_BYTES: usize = 4 << 20;

/// A backup that nobody reads on is forgotten.
const FORGET: Duration = Duration::from_secs(20);

/// Answers operators.
pub(super) struct Admin {
    raft: Arc<Raft>,
    /// What the node was started with, and the version of the cluster's configuration that it runs.
    own: NodeConfig,
    runs: u64,
    /// One at a time: it takes as much memory as the registry has bytes.
    backup: Mutex<Option<Frozen>>,
}

/// The registry as it was at one index, being read.
struct Frozen {
    id: u64,
    bytes: Bytes,
    read: Instant,
}

impl Admin {
    pub(super) fn new(raft: Arc<Raft>, own: NodeConfig, runs: u64) -> Arc<Self> {
        Arc::new(Self { raft, own, runs, backup: Mutex::new(None) })
    }

    /// Begins to answer.
    pub(super) fn serve(self: &Arc<Self>, switchboard: &Switchboard) {
        let own = Arc::clone(self);
        switchboard.on_call(
            ADMIN,
            Arc::new(move |_, body| {
                let own = Arc::clone(&own);
                Box::pin(async move {
                    let request = Request::decode(body).map_err(|_| CallError::Invalid)?;
                    // A kind that this release does not know reads as none.
                    let kind = request.kind.ok_or(CallError::Unsupported)?;
                    let kind = own.answer(kind).await.unwrap_or_else(reply::Kind::Refused);
                    Ok(Reply { kind: Some(kind) }.encode_to_vec().into())
                })
            }),
        );
    }

    /// The answer, or why there is none.
    async fn answer(self: &Arc<Self>, kind: request::Kind) -> Result<reply::Kind, String> {
        match kind {
            request::Kind::BackupBegin(begin) => self.freeze(begin.stale).await.map(reply::Kind::Backup),
            request::Kind::BackupRead(read) => self.piece(read.id, read.offset).map(reply::Kind::Piece),
            request::Kind::ConfigShow(show) => self.show(show.version).map(reply::Kind::Config),
            request::Kind::ConfigApply(new) => self.apply(new).await.map(reply::Kind::Config),
            request::Kind::Finalise(finalise) => {
                self.submit(Command::Finalise { version: finalise.version }).await?;
                Ok(reply::Kind::Finalised(finalise.version))
            }
        }
    }

    /// Freezes the registry. It has everything that was acknowledged before the call, unless it may be `stale`.
    async fn freeze(self: &Arc<Self>, stale: bool) -> Result<Backup, String> {
        if self.raft.cluster().is_none() {
            return Err("this node belongs to no cluster yet".to_owned());
        }
        let busy = || format!("another backup is being read here; it is forgotten after {} s", FORGET.as_secs());
        if self.backup.lock().is_some() {
            return Err(busy());
        }
        // Applied here once it is committed, and with it all that was before.
        let barrier = tokio::time::timeout(COMMAND, self.raft.submit(Command::Tick { elapsed_ms: 0 })).await;
        if !stale && !matches!(barrier, Ok(Ok(_))) {
            return Err("there is no quorum now, so this node may lack what was acknowledged elsewhere: \
                        bring a majority of voters back, or take what it has with --stale"
                .to_owned());
        }
        let frozen = self.raft.read(enfilade_registry::StateMachine::freeze);
        let encoded = tokio::task::spawn_blocking(move || frozen.encode()).await;
        let bytes = Bytes::from(encoded.map_err(|error| error.to_string())?);
        let id = crate::data::random().map_err(|error| error.to_string())?;
        let answer = Backup { id, bytes: bytes.len() as u64 };
        let mut backup = self.backup.lock();
        if backup.is_some() {
            return Err(busy());
        }
        *backup = Some(Frozen { id, bytes, read: Instant::now() });
        // Ends when the backup is read, or was forgotten.
        tokio::spawn(Arc::clone(self).forget(id));
        Ok(answer)
    }

    fn piece(&self, id: u64, offset: u64) -> Result<Bytes, String> {
        let mut backup = self.backup.lock();
        let frozen = backup.as_mut().filter(|frozen| frozen.id == id);
        let frozen = frozen.ok_or("this backup was forgotten: begin again")?;
        frozen.read = Instant::now();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(frozen.bytes.len());
        let to = from.saturating_add(PIECE_BYTES).min(frozen.bytes.len());
        let piece = frozen.bytes.slice(from..to);
        if to == frozen.bytes.len() {
            *backup = None;
        }
        Ok(piece)
    }

    async fn forget(self: Arc<Self>, id: u64) {
        loop {
            let until = {
                let mut backup = self.backup.lock();
                let Some(frozen) = backup.as_ref().filter(|frozen| frozen.id == id) else { return };
                let until = frozen.read + FORGET;
                if until <= Instant::now() {
                    *backup = None;
                    return;
                }
                until
            };
            tokio::time::sleep_until(until).await;
        }
    }

    fn show(&self, version: u64) -> Result<Config, String> {
        let (configuration, now_ms) = self.raft.read(|state| (state.configuration().clone(), state.now_ms()));
        let version = if version == 0 { configuration.version() } else { version };
        let document = match configuration.get(version) {
            Some(document) => document.text.to_string(),
            None if version == 0 => String::new(),
            None => return Err(format!("version {version} is not kept, or was never there")),
        };
        let kept = |(version, document): (u64, &Document)| ConfigVersion {
            version,
            age_ms: now_ms.saturating_sub(document.at_ms),
            reverts: document.reverts,
            bytes: document.text.len() as u64,
        };
        let kept = configuration.newest_first().map(kept).collect();
        Ok(Config { version, document, runs: self.runs, kept })
    }

    /// Takes a new version, if this node could run it.
    async fn apply(&self, new: ConfigApply) -> Result<Config, String> {
        let shared = Shared::parse(&new.document).map_err(|why| format!("this node cannot read it: {why}"))?;
        let taken = shared.taken(self.own.clone(), &|name| std::env::var(name).ok());
        let taken = taken.map_err(|why| format!("this node cannot run it: {why}"))?;
        let (version, document) = (new.version, new.document.into());
        self.submit(Command::ApplyConfiguration { version, document, reverts: new.reverts }).await?;
        tracing::info!(version, "a version of the cluster's configuration was applied");
        // These are the registry's own, and so in force at once.
        configure(&*self.raft, registry_limits(&taken.limits)).await;
        self.show(version)
    }

    async fn submit(&self, command: Command) -> Result<(), String> {
        match self.raft.submit(command).await {
            Ok(_) => Ok(()),
            Err(WriteError::Refused(Refusal::OtherVersion { current })) => {
                Err(format!("version {current} is the present one: somebody else was first, or it is done already"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
