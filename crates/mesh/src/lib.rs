//! Links between nodes: one long-lived stream per pair for messages, another connection for calls.
//!
//! Rule: an exchange that was not opened ([`NotSent`]) or is [`Broken::Unsent`] was executed nowhere; any other loss
//! leaves its outcome unknown. Nothing is sent twice here, and every queue is bounded.

mod accept;
mod backoff;
mod band;
mod calls;
mod config;
mod dial;
mod error;
mod exchange;
mod flow;
mod hello;
pub mod keys;
mod link;
mod mesh;
mod net;
mod outbox;
mod peers;
mod reader;
mod relay;
mod shared;
mod tls;
mod wire;

pub use config::{Config, Limits, Peer, Timing, Tls};
pub use error::{Broken, CallError, CallFailed, NotSent, StartError};
pub use exchange::{Exchange, Message, Open, Receiving, Sending};
pub use mesh::{CallKind, Mesh, Serve, Stats};
pub use net::{BoxIo, Io, Listen, Net, TcpNet};
