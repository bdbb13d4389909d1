//! The replicated registry: one Raft group, its durable log, and the reader and writer of it on each node.
//!
//! Rule: a command is answered once it is durable on a majority and applied on the node that submitted it.
//! Only this crate knows openraft; calls between nodes go through [`Transport`].

mod codec;
mod config;
mod control;
mod core;
mod error;
mod log;
mod network;
mod pending;
mod raft;
mod serve;
mod state;
mod status;
mod submit;
mod transport;
mod types;

pub use config::Config;
pub use error::{ControlError, NoQuorum, OpenError};
pub use raft::Raft;
pub use status::Status;
pub use transport::{RaftCall, ServeError, Transport, Unreachable};
