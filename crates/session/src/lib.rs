//! The owner: runs sessions, routes their calls to upstreams, and keeps what must survive a broken connection.
//!
//! It sees clients only as [`owner::Caller`]s with messages, upstreams only as [`enfilade_upstream::Peer`]s, and the
//! registry only as [`enfilade_registry::Reader`] and [`enfilade_registry::Writer`].

mod ask;
mod call;
pub mod config;
mod handle;
mod lists;
mod live;
mod node;
mod outlet;
pub mod owner;
mod route;
mod run;
mod site;
pub mod stream;
mod subscribe;
mod sweep;
mod topics;
mod view;
mod viewer;
mod watch;

pub use node::{ConfigError, Node, NodeConfig, Registry};
