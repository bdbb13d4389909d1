//! The registry: the replicated state machine that knows every session.
//!
//! Rule: [`StateMachine::apply`] is a function of state, index and command. No clock, no randomness, no I/O,
//! no hash-map order: equal commands give equal bytes on every node, which [`StateMachine::digest`] checks.

mod access;
mod bindings;
mod command;
mod id;
mod index;
mod intern;
mod keys;
mod memory;
#[cfg(test)]
mod properties;
mod record;
mod slot;
mod snapshot;
mod state;

pub use access::{BoxFuture, OnEnded, Reader, WriteError, Writer};
pub use bindings::{Bindings, UpstreamBinding};
pub use command::{COMMAND_FORMAT, Command, DecodeError, EndReason, Ended, Outcome, Refusal, TOUCH_MAX};
pub use id::SessionId;
pub use keys::{BadKeys, BadSessionId, SessionKeys};
pub use memory::MemoryRegistry;
pub use record::{Limits, NewSession, SessionRecord};
pub use slot::{SLOTS, Slot, Term, slot_of_topic};
pub use snapshot::{Frozen, RestoreError, SNAPSHOT_FORMAT};
pub use state::{Counts, StateMachine};
