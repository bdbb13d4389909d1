//! The replicated registry: one Raft group, its durable log, and the reader and writer of it on each node.
//!
//! Rule: a command is answered once it is durable on a majority and applied on the node that submitted it.
//! Only this crate knows openraft; calls between nodes go through [`Transport`]. A node without a replica has a
//! [`Watcher`] instead: it submits in the same way, and holds what concerns it.

mod codec;
mod config;
mod control;
mod core;
mod error;
mod feed;
mod log;
mod network;
mod pending;
mod raft;
mod registry;
mod serve;
mod state;
mod status;
mod submit;
mod transport;
mod types;
mod watcher;

pub use config::{BeforeWrite, Config, Submitting};
pub use error::{ControlError, NoQuorum, OpenError};
pub use raft::Raft;
pub use registry::{Registry, Share};
pub use state::offline;
pub use status::Status;
pub use transport::{Parts, RaftCall, ServeError, Transport, Unreachable, WatchTransport};
pub use watcher::{Watcher, WatcherConfig};
