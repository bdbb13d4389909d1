//! Connectors to MCP servers. A [`Connector`] stands for one configured upstream; a [`Peer`] for one session, process
//! or stateless endpoint of it. Each upstream has its own bulkhead, breaker and backoff: one that hangs hurts no other.
//!
//! What a message means is the caller's business; here it is bytes, an id and the few facts that transports need.

mod backoff;
mod common;
mod config;
mod connector;
mod era;
mod guard;
mod http;
mod ids;
mod peer;
mod probe;
mod queue;
mod shared;
mod stdio;
mod wire;

pub use config::{Config, ConfigError, EraChoice, Sharing};
pub use connector::Connector;
pub use peer::{Call, CallError, Exchange, Hello, Messages, Opened, Peer};
