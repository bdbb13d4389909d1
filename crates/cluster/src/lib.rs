//! A node as a part of a cluster: whose slot it is, whether it may act, and where a message goes.
//!
//! [`Router`] is the edge's side, `serve` the owner's; `tenure` keeps this node's slots and lease, `leader` runs where
//! the registry is led. docs/OWNERSHIP.md is the protocol; what decides in it is pure and lies in `enfilade_registry`.

mod ask;
mod clock;
mod cluster;
mod config;
mod duty;
mod finish;
mod leader;
mod map;
mod roster;
mod router;
mod serve;
mod status;
mod switchboard;
mod tenure;
mod wire;

pub use clock::{Clock, boottime};
pub use cluster::{Cluster, Prepared};
pub use config::{Config, Registration};
pub use roster::Seen;
pub use router::{Local, Router};
pub use status::{MemberStatus, Status};
pub use switchboard::{OnCall, RaftLinks, Switchboard};

use enfilade_mesh::CallKind;
use futures::future::BoxFuture;

/// The kind of call that a heartbeat is. Below 100 are Raft's, from 1000 on the composition's.
const HEARTBEAT: CallKind = CallKind(100);

/// Like `FutureExt::boxed`, for any lifetime.
fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}
