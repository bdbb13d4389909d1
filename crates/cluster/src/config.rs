//! What a node of a cluster is started with.

use enfilade_registry::{Roles, Run, Timing};
use enfilade_runtime::Limit;
use std::sync::Arc;
use tokio::runtime::Handle;

/// How this node registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What people call it.
    pub name: Arc<str>,
    /// `host:port` at which other nodes reach its links.
    pub link: Arc<str>,
    /// What it does.
    pub roles: Roles,
    /// The highest command format that it supports.
    pub formats: u32,
}

/// What a node of a cluster is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This run of this node.
    pub me: Run,
    /// How it registers.
    pub registration: Registration,
    /// The times of the protocol.
    pub timing: Timing,
    /// Names of the virtual servers, by [`ServerId`](enfilade_session::owner::ServerId).
    pub servers: Vec<String>,
    /// The runtime for leases, this node's and those of others; a runtime of its own keeps them going while others have
    /// their hands full. `None`: the one that the node is started in.
    pub control: Option<Handle>,
    /// Messages of other nodes, streams among them, that are served at the same time; more are refused as busy.
    pub asks_max: usize,
    /// Bytes of messages under way, large ones of other nodes among them; those for which there is no room are refused.
    pub messages: Limit,
    /// Bytes of large answers under way, those to other nodes among them.
    pub answers: Limit,
    /// How long requests that need no slot are served without a lease, in ms; 0 for not at all.
    pub alone_ms_max: u64,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(me: Run, registration: Registration, servers: Vec<String>) -> Self {
        Self {
            me,
            registration,
            timing: Timing::default(),
            servers,
            control: None,
            asks_max: 200_000,
            messages: Limit::new(usize::MAX >> 1),
            answers: Limit::new(usize::MAX >> 1),
            alone_ms_max: 60_000,
        }
    }
}
