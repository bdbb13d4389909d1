//! The replicated state: the registry's state machine, driven by openraft.
//!
//! Rule: what is applied depends on the entries alone. An entry that this release cannot read, or a state that
//! differs from another replica's, stops the replica: going on would make the states differ for good.

mod cut;
mod file;
mod machine;
pub mod offline;
mod origins;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use enfilade_journal::{JournalError, Snapshots};
use enfilade_registry::watch::Recent;
use enfilade_registry::{Command, Ended, OnEnded, Outcome, Refusal, RestoreError, Run, SessionRecord, StateMachine};
use openraft::EntryPayload;
use parking_lot::RwLock;
use tokio::sync::watch;

pub(crate) use self::cut::Cuts;
pub(crate) use self::file::digest_of;
pub(crate) use self::machine::Machine;
pub(crate) use self::origins::Origins;
use crate::codec::BadMessage;
use crate::pending::Pending;
use crate::types::{Batch, Entry, LogId, Proposal, StoredMembership};

/// The state, and who hears of its changes.
pub(crate) struct State {
    applied: RwLock<Applied>,
    index: watch::Sender<u64>,
    pub(crate) pending: Arc<Pending>,
    on_ended: RwLock<Vec<OnEnded>>,
    snapshots: Snapshots,
    pub(crate) cuts: Cuts,
}

/// The registry, and where in the log it stands.
#[derive(Default)]
struct Applied {
    registry: StateMachine,
    origins: Origins,
    last: Option<LogId>,
    membership: StoredMembership,
    /// For those who watch.
    recent: Recent,
}

/// Why a snapshot on the disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the snapshot cannot be read: {0}")]
    Form(#[from] BadMessage),
    #[error("the snapshot cannot be restored: {0}")]
    Restore(#[from] RestoreError),
}

/// Why an entry cannot be applied: the replica stops.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("entry {index} has a command that this release cannot read ({why}): install the release that wrote it")]
    Unreadable { index: u64, why: enfilade_registry::DecodeError },
    #[error(
        "the state of this replica differs from the leader's at index {index}: \
         move its data directory away and let it join anew"
    )]
    Differs { index: u64 },
}

impl From<ApplyError> for std::io::Error {
    fn from(error: ApplyError) -> std::io::Error {
        tracing::error!(%error, "this replica stops");
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl State {
    /// The state in the newest snapshot in `dir`, or an empty one. Blocks.
    pub(crate) fn open(dir: &Path, run: Run, log_bytes_min: u64) -> Result<State, StateError> {
        let snapshots = Snapshots::open(dir)?;
        let cuts = Cuts::new(log_bytes_min);
        let mut applied = Applied::default();
        if let Some(index) = snapshots.newest()? {
            let stored = file::read(&snapshots, index)?;
            applied.registry = StateMachine::restore(&stored.content.registry)?;
            applied.origins = stored.content.origins;
            applied.last = stored.meta.last_log_id;
            applied.membership = stored.meta.last_membership;
            cuts.is_durable(index, stored.digest, stored.content.registry.len());
        }
        let index = applied.last.map_or(0, |id| id.index);
        applied.recent.restart(index);
        Ok(State {
            applied: RwLock::new(applied),
            index: watch::Sender::new(index),
            pending: Arc::new(Pending::new(run)),
            on_ended: RwLock::default(),
            snapshots,
            cuts,
        })
    }

    /// Reads the registry. Not for long: applying waits meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&StateMachine) -> T) -> T {
        read(&self.applied.read().registry)
    }

    /// The last index of the log that is applied.
    pub(crate) fn index(&self) -> u64 {
        self.applied.read().last.map_or(0, |id| id.index)
    }

    /// Changes with every entry applied, after those that wait for the entry were answered.
    pub(crate) fn watch_index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Who hears of sessions that end.
    pub(crate) fn on_ended(&self, hear: OnEnded) {
        self.on_ended.write().push(hear);
    }

    fn apply(&self, entry: Entry) -> std::io::Result<()> {
        let index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => self.applied.write().last = Some(entry.log_id),
            EntryPayload::Membership(membership) => {
                let mut applied = self.applied.write();
                applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                applied.last = Some(entry.log_id);
            }
            EntryPayload::Normal(Proposal::Batch(batch)) => {
                match self.apply_batch(entry.log_id, &batch)? {
                    Some(results) => {
                        self.tell_of_ended(&results);
                        self.pending.applied(&batch, results);
                    }
                    None => self.pending.skipped(&batch),
                }
                self.cuts.count(batch.bytes());
            }
            EntryPayload::Normal(Proposal::Cut(cut)) => {
                if let Some((index, _)) = cut.previous.filter(|previous| self.cuts.contradicts(*previous)) {
                    return Err(ApplyError::Differs { index }.into());
                }
                self.applied.write().last = Some(entry.log_id);
                self.cuts.take(self.taken());
            }
        }
        self.index.send_replace(index);
        Ok(())
    }

    /// The results, or none if the batch was applied before.
    fn apply_batch(&self, id: LogId, batch: &Batch) -> std::io::Result<Option<Vec<Result<Outcome, Refusal>>>> {
        let index = id.index;
        let commands = batch.commands.iter().map(|bytes| Command::decode(bytes));
        let commands: Vec<Command> =
            commands.collect::<Result<_, _>>().map_err(|why| ApplyError::Unreadable { index, why })?;
        let mut applied = self.applied.write();
        applied.last = Some(id);
        if !applied.origins.is_first(batch.origin, batch.seq) {
            return Ok(None);
        }
        let results = applied.registry.apply_batch(index, &commands);
        // Who has a replica applies the batch itself.
        let member = applied.registry.members().get(batch.origin.node);
        let waits = member.is_none_or(|member| !member.roles.registry).then_some((batch.origin, batch.seq));
        applied.recent.applied(index, &commands, &results, waits);
        Ok(Some(results))
    }

    /// What a feed gives at this moment.
    pub(crate) fn feed<T>(&self, give: impl FnOnce(&StateMachine, u64, &Recent) -> T) -> T {
        let applied = self.applied.read();
        give(&applied.registry, applied.last.map_or(0, |id| id.index), &applied.recent)
    }

    fn taken(&self) -> cut::Taken {
        let applied = self.applied.read();
        cut::Taken {
            frozen: applied.registry.freeze(),
            origins: applied.origins.clone(),
            last: applied.last,
            membership: applied.membership.clone(),
        }
    }

    fn tell_of_ended(&self, results: &[Result<Outcome, Refusal>]) {
        let ended: Vec<Ended> = results.iter().flatten().flat_map(|outcome| outcome.ended()).copied().collect();
        self.hear_of(&ended);
    }

    fn hear_of(&self, ended: &[Ended]) {
        if !ended.is_empty() {
            let all = self.on_ended.read().clone();
            all.iter().for_each(|hear| hear(ended));
        }
    }

    /// Puts a state in the place of this one. What ended in between is told without knowing why.
    fn replace(&self, mut new: Applied) {
        let index = new.last.map_or(0, |id| id.index);
        new.recent.restart(index);
        let old = std::mem::replace(&mut *self.applied.write(), new);
        let gone: Vec<Ended> = {
            let applied = self.applied.read();
            let gone = old.registry.page(None).filter(|record| applied.registry.get(&record.id).is_none());
            gone.map(ended_unseen).collect()
        };
        self.index.send_replace(index);
        self.hear_of(&gone);
    }
}

fn ended_unseen(record: &Arc<SessionRecord>) -> Ended {
    Ended { id: record.id, reason: enfilade_registry::EndReason::Idle }
}
