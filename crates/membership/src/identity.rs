//! Who a node says it is.

use std::net::SocketAddr;

use enfilade_registry::{Roles, Run};
use serde::{Deserialize, Serialize};

/// Longest name. Two or three identities stand in each packet, which leaves no room for long ones.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest link address.
pub const LINK_BYTES_MAX: usize = 128;

/// A node in one of its runs, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node and its run: of two runs of one node the later one counts.
    pub run: Run,
    /// Its name for people, at most [`NAME_BYTES_MAX`] long.
    pub name: String,
    /// Where others send its gossip.
    pub gossip: SocketAddr,
    /// `host:port` of its links, at most [`LINK_BYTES_MAX`] long.
    pub link: String,
    /// What it does.
    pub roles: Roles,
}
