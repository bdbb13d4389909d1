//! What a mesh is started with, and its defaults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use enfilade_registry::{ClusterId, Run};
use tokio::runtime::Handle;

use crate::net::{Net, TcpNet};

/// Everything [`Mesh::start`](crate::Mesh::start) needs besides a socket and someone who serves.
#[derive(Clone)]
pub struct Config {
    /// This run of this node.
    pub me: Run,
    /// The cluster, when the node belongs to one. Nodes of another cluster are refused in both directions; a node
    /// without a cluster is heard, because clusters are founded and joined over these links.
    pub cluster: Option<ClusterId>,
    /// Keys for mutual TLS. Without them links are plain text, which only a loopback network or a test bears.
    pub tls: Option<Tls>,
    /// The runtime for calls, and for what accepts connections. A runtime of its own keeps calls going, and with them
    /// votes and leases, while others have their hands full. `None`: the one that the mesh is started in.
    pub control: Option<Handle>,
    /// How addresses are dialled.
    pub net: Arc<dyn Net>,
    /// The source of jitter: equal seeds give equal delays.
    pub seed: u64,
    /// Times.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A node without a cluster and without TLS, over TCP, with the default times and bounds.
    pub fn new(me: Run) -> Self {
        Self {
            me,
            cluster: None,
            tls: None,
            control: None,
            net: Arc::new(TcpNet),
            seed: me.node.0 ^ me.generation.0.rotate_left(32),
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

/// Keys of one cluster, as PEM: each node proves that it has a certificate of the cluster's authority.
/// [`keys::generate`](crate::keys::generate) makes them.
#[derive(Clone)]
pub struct Tls {
    /// The certificate of the authority that both sides check against.
    pub ca: String,
    /// This node's certificate, for the name [`keys::SERVER_NAME`](crate::keys::SERVER_NAME).
    pub cert: String,
    /// Its private key.
    pub key: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Another node: who, and where it takes links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The run that is known of. A later one that answers at the address is taken too.
    pub run: Run,
    /// `host:port`.
    pub address: String,
}

/// Times of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Silence after which a peer is asked for a sign of life (an HTTP/2 ping).
    pub ping: Duration,
    /// How long it may take to give one. A dead peer is noticed after `ping + pong`.
    pub pong: Duration,
    /// For dialling, TLS and the greeting, each.
    pub connect: Duration,
    /// First pause after a failed or lost link; doubled each time, with jitter.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// How long [`Mesh::close`](crate::Mesh::close) waits for what is queued to be written.
    pub flush: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Duration::from_millis(750),
            pong: Duration::from_millis(1000),
            connect: Duration::from_millis(1500),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            flush: Duration::from_secs(1),
        }
    }
}

/// Bounds of links and calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one message of an exchange.
    pub message_bytes_max: usize,
    /// What may be on its way to one end of an exchange that does not read (and one message more).
    pub credit_bytes: u32,
    /// What may wait to be written to one link (and one message more); then senders wait.
    pub queue_bytes_max: usize,
    /// Exchanges that one peer may have open here; more are refused as not executed.
    pub exchanges_max: usize,
    /// Largest body of a call or its answer.
    pub call_bytes_max: usize,
    /// Calls that are answered at the same time; more are refused as not executed.
    pub calls_max: usize,
    /// Connections from other nodes at the same time; more are closed at once.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 18 * 1024 * 1024,
            credit_bytes: 256 * 1024,
            queue_bytes_max: 4 * 1024 * 1024,
            exchanges_max: 400_000,
            call_bytes_max: 64 * 1024 * 1024,
            calls_max: 1024,
            connections_max: 1024,
        }
    }
}
