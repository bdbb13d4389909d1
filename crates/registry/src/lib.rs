//! The registry: the replicated state machine that knows every session.
//!
//! Rule: [`StateMachine::apply`] is a function of state, index and command. No clock, no randomness, no I/O,
//! no hash-map order: equal commands give equal bytes on every node, which [`StateMachine::digest`] checks.

mod access;
mod bindings;
mod command;
mod configuration;
pub mod copy;
pub mod duty;
pub mod edge_rule;
mod fence;
mod format;
mod id;
mod intern;
mod keys;
pub mod lease;
mod member;
mod memory;
mod node;
mod placement;
mod principals;
#[cfg(test)]
mod properties;
mod record;
mod refound;
mod sessions;
mod slot;
mod slots;
mod snapshot;
mod state;
pub mod watch;

pub use access::{BoxFuture, OnEnded, Reader, WriteError, Writer};
pub use bindings::{Bindings, UpstreamBinding};
pub use command::{COMMAND_FORMAT, Command, DecodeError, EndReason, Ended, Outcome, Refusal, TOUCH_MAX};
pub use configuration::{Configuration, DOCUMENT_BYTES_MAX, Document, VERSIONS_KEPT};
pub use copy::{CopyAnswer, CopyMessage, CopyPart, CopyReceiver, CopySaid, CopySender, Lane, Received, Step};
pub use duty::{Admission, Duty, DutyAction, DutyEvent, Holds, PeerMessage};
pub use edge_rule::{EdgeRule, Failure, Verdict};
pub use fence::{Fence, NotServed};
pub use id::SessionId;
pub use keys::{BadKeys, BadSessionId, SessionKeys};
pub use lease::{Ack, Heartbeat, Holder, Keeper, LeaseRefused, Receipt, Round, Timing, TimingError};
pub use member::{Member, Members};
pub use memory::MemoryRegistry;
pub use node::{ClusterId, Generation, NodeId, Roles, Run};
pub use record::{Facts, Limits, NewSession, SessionRecord};
pub use slot::{SLOTS, Slot, Term, slot_of_topic};
pub use slots::{CopyId, LateMoves, MOVING_MAX, Move, MoveId, Origin, SlotRecord, SlotTable, plan};
pub use snapshot::{Frozen, RestoreError, SNAPSHOT_FORMAT};
pub use state::{Counts, StateMachine};
