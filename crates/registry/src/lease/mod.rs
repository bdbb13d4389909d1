//! Leases: an owner's right to act, renewed with the registry's leader without a log entry.
//! Rule: the [`Holder`] stops before the [`Keeper`] gives away, whatever is lost or late, if clocks differ by < 10 %.

mod holder;
mod keeper;
mod reach;
mod timing;

use crate::{NodeId, Run};

pub use self::holder::Holder;
pub use self::keeper::{Keeper, LeaseRefused, Receipt, Round};
pub use self::timing::{Timing, TimingError};

/// What a node tells the leader, every `heartbeat_ms` and at once when the leader changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub run: Run,
    /// Rises with each of this run.
    pub seq: u64,
    /// Whether the node may not act: it has no lease yet, or lost it.
    pub fenced: bool,
    /// The nodes to which it has no link.
    pub unreachable: Vec<NodeId>,
}

/// The leader's answer to a heartbeat, after a quorum said that it still is the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The heartbeat that it answers.
    pub seq: u64,
    /// The node may act once it has applied this index: that of the last change of any slot.
    pub applied: u64,
}
