//! The owner: runs sessions, routes their calls to upstreams, and keeps what must survive a broken connection.
//!
//! It sees clients only as [`owner::Caller`]s with messages, upstreams only as [`enfilade_upstream::Peer`]s, and the
//! registry only as [`enfilade_registry::Reader`] and [`enfilade_registry::Writer`].

mod ask;
mod call;
pub mod config;
pub mod copy;
pub mod finish;
mod gate;
mod hand_over;
mod handle;
mod lists;
mod live;
mod lives;
mod node;
mod outlet;
pub mod owner;
mod route;
mod run;
mod safe;
mod site;
pub mod slots;
pub mod stream;
mod subscribe;
mod sweep;
mod topics;
mod view;
mod viewer;
mod watch;

pub use node::{ConfigError, Node, NodeConfig, Registry};
pub use topics::Announced;
