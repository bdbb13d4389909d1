//! How the other crates see the registry: something to read, and something to write to.
//! Whether one node or a Raft group stands behind it is not theirs to know.

use std::pin::Pin;
use std::sync::Arc;

use crate::{
    ClusterId, Command, Counts, Ended, Limits, Members, Outcome, Refusal, SessionId, SessionRecord, Slot, SlotTable,
};

/// The registry as applied on this node. Never waits for a disk or another node.
pub trait Reader: Send + Sync {
    /// The session with this id.
    fn session(&self, id: &SessionId) -> Option<Arc<SessionRecord>>;

    /// All sessions of a slot, in the order of ids: what a new owner reads before it serves.
    fn sessions_of_slot(&self, slot: Slot) -> Vec<Arc<SessionRecord>>;

    /// The first `limit` sessions of a principal, in the order of ids.
    fn sessions_of_principal(&self, principal: &str, limit: usize) -> Vec<Arc<SessionRecord>>;

    /// The first `limit` sessions after `after`, in the order of ids.
    fn page(&self, after: Option<&SessionId>, limit: usize) -> Vec<Arc<SessionRecord>>;

    /// How much there is.
    fn counts(&self) -> Counts;

    /// The limits in force.
    fn limits(&self) -> Limits;

    /// Registry time, in ms.
    fn now_ms(&self) -> u64;

    /// The index up to which this node has applied.
    fn index(&self) -> u64;

    /// The slot table. Cheap: a reference to what all readers share.
    fn slot_table(&self) -> Arc<SlotTable>;

    /// The members. Cheap like [`Reader::slot_table`].
    fn members(&self) -> Arc<Members>;

    /// The cluster, once founded.
    fn cluster(&self) -> Option<ClusterId>;
}

/// A future in a box, so that [`Writer`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Changes the registry.
pub trait Writer: Send + Sync {
    /// Submits a command. When the answer is `Ok` the command is durable, and applied on this node.
    ///
    /// Dropping the future does not take the command back.
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Outcome, WriteError>>;
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The registry cannot write now. The command may or may not take effect later; every
    /// command bears being sent again.
    #[error("the registry cannot be written to now")]
    Unavailable,
    /// The state machine refused it. Sending it again changes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Hears of every session that ends, whatever the reason, after it is gone from the registry.
/// Called by whoever applies commands: it must hand the news on, not work or wait.
pub type OnEnded = Arc<dyn Fn(&[Ended]) + Send + Sync>;
