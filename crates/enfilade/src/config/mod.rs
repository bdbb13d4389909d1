//! The configuration: plain data, read from files and the command line here and nowhere else.
//! Rule: everything that is wrong is said before any socket is opened.

mod check;
mod check_cluster;
mod cluster;
mod load;
mod mcp_json;
mod placeholders;
mod places;
mod problem;
mod redact;
mod reference;
mod shared;

pub(crate) use cluster::{Cluster, Role, Timing};
pub(crate) use load::{load, load_shared};
pub(crate) use problem::Problem;
pub(crate) use redact::redact;
pub(crate) use reference::{markdown, schema};
pub(crate) use shared::{Chosen, Shared, choose};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The configuration file of a node.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) listen: Vec<enfilade_edge::Listen>,
    /// Permits addresses that are not loopback, although nobody is authenticated.
    pub(crate) allow_remote: bool,
    /// Further names in `Host` that are served, as `name` (any port) or `name:port`. Loopback names and the address
    /// that a client connected to always are.
    pub(crate) hosts: Vec<String>,
    /// Further web origins that may call, as `https://name` or `https://name:port`. Loopback origins always may where
    /// the listening address is loopback.
    pub(crate) origins: Vec<String>,
    /// Most connections at a time; a further one is answered with 503 and closed.
    pub(crate) connections_max: usize,
    /// Most connections of one address at a time, IPv6 by its first 64 bits; a further one is answered with 429 and closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections_per_address_max: Option<usize>,
    /// Most requests at a time that have no complete answer; a further one is answered with 503. Streams that stay
    /// open (GET, `subscriptions/listen`) count only until they open.
    pub(crate) requests_in_flight_max: usize,
    /// While the node's own work has to wait for its turn for longer than this, in milliseconds, fewer and fewer calls are
    /// let in at a time, and others are answered with 503; upstreams that take their time do not count. A processor quota
    /// alone makes it wait for up to one of its periods, commonly 100 ms; 250 is a good value. 0: never.
    pub(crate) own_wait_max_ms: u64,
    /// Largest message of a client, in bytes; at most 16 MiB.
    pub(crate) message_bytes_max: usize,
    /// Most bytes that the messages of all requests in flight may take; a request past it is answered with 503. Large answers
    /// may take as much again (16 MiB at least).
    pub(crate) messages_bytes_max: usize,
    /// Most memory that the process should take, in bytes: from 80 % of it on new sessions and streams are refused, from 90 %
    /// on all but what gives memory back. Without it what the machine has; the limits of its control groups count in any
    /// case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes_max: Option<u64>,
    /// Silence after which a stream gets a comment, in milliseconds; at most 30000.
    pub(crate) keep_alive_ms: u64,
    /// How long a connection may take to send a request's head, in milliseconds; also how long it may stay idle, so
    /// it must be longer than clients keep idle connections (commonly 90 s).
    pub(crate) header_timeout_ms: u64,
    /// How long a request's body may take after its head, in milliseconds.
    pub(crate) body_timeout_ms: u64,
    /// How long requests may finish once the node is told to stop, in milliseconds.
    pub(crate) drain_ms: u64,
    /// Where a supervisor may ask over HTTP, apart from clients, whatever the roles: `/healthz` answers 200 as long as
    /// the process runs, `/readyz` 200 while the node serves and 503 before and after, `/metrics` what it counts, for
    /// Prometheus; port 0 lets the system choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<SocketAddr>,
    /// What must survive a restart is kept here; a relative path starts at the working directory.
    pub(crate) data_dir: PathBuf,
    /// What makes it a node of a cluster; without it the node is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<Cluster>,
    /// Limits of sessions and calls.
    pub(crate) limits: enfilade_session::config::Limits,
    /// The virtual servers; when left out one called `default` at `/mcp` with all upstreams.
    pub(crate) servers: Vec<enfilade_session::config::ServerConfig>,
    /// The MCP servers behind the gateway; their order is the order of merged lists.
    pub(crate) upstreams: Vec<enfilade_upstream::Config>,
}

impl Config {
    /// The part that the edge wants.
    pub(crate) fn edge(&self) -> enfilade_edge::Config {
        enfilade_edge::Config {
            listen: self.listen.clone(),
            allow_remote: self.allow_remote,
            hosts: self.hosts.clone(),
            origins: self.origins.clone(),
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            requests_in_flight_max: self.requests_in_flight_max,
            own_wait_max_ms: self.own_wait_max_ms,
            message_bytes_max: self.message_bytes_max,
            messages_bytes_max: self.messages_bytes_max,
            keep_alive_ms: self.keep_alive_ms,
            header_timeout_ms: self.header_timeout_ms,
            body_timeout_ms: self.body_timeout_ms,
            drain_ms: self.drain_ms,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let edge = enfilade_edge::Config::default();
        Self {
            listen: edge.listen,
            allow_remote: edge.allow_remote,
            hosts: edge.hosts,
            origins: edge.origins,
            connections_max: edge.connections_max,
            connections_per_address_max: edge.connections_per_address_max,
            requests_in_flight_max: edge.requests_in_flight_max,
            own_wait_max_ms: edge.own_wait_max_ms,
            message_bytes_max: edge.message_bytes_max,
            messages_bytes_max: edge.messages_bytes_max,
            memory_bytes_max: None,
            keep_alive_ms: edge.keep_alive_ms,
            header_timeout_ms: edge.header_timeout_ms,
            body_timeout_ms: edge.body_timeout_ms,
            drain_ms: edge.drain_ms,
            health: None,
            data_dir: "enfilade-data".into(),
            cluster: None,
            limits: enfilade_session::config::Limits::default(),
            servers: Vec::new(),
            upstreams: Vec::new(),
        }
    }
}
