//! A node of a test: a mesh on a port of its own, and what arrives at it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_mesh::{CallError, CallKind, Config, Exchange, Mesh, Open, Peer, Serve};
use enfilade_registry::{BoxFuture, Generation, NodeId, Run};
use tokio::sync::{Notify, mpsc};

/// No step of a test takes longer, also on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Answers with the body.
pub(crate) const ECHO: CallKind = CallKind(1);
/// Never answers.
pub(crate) const HANG: CallKind = CallKind(2);

pub(crate) struct Arrived {
    pub(crate) from: Run,
    pub(crate) open: Open,
    pub(crate) exchange: Exchange,
}

pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) run: Run,
    pub(crate) address: String,
    pub(crate) arrived: mpsc::Receiver<Arrived>,
    /// A call that never answers was given up.
    pub(crate) given_up: Arc<Notify>,
}

struct Taker {
    arrived: mpsc::Sender<Arrived>,
    given_up: Arc<Notify>,
}

impl Serve for Taker {
    fn exchange(&self, from: Run, open: Open, exchange: Exchange) {
        // What does not fit is dropped, and thereby reset.
        let _ = self.arrived.try_send(Arrived { from, open, exchange });
    }

    fn call(&self, from: Run, kind: CallKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        struct Tell(Arc<Notify>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        assert_ne!(from, Run::default());
        match kind {
            ECHO => Box::pin(async move { Ok(body) }),
            HANG => {
                let tell = Tell(Arc::clone(&self.given_up));
                Box::pin(async move {
                    let _tell = tell;
                    std::future::pending().await
                })
            }
            _ => Box::pin(async { Err(CallError::Unsupported) }),
        }
    }
}

pub(crate) fn run(node: u64, generation: u64) -> Run {
    Run { node: NodeId(node), generation: Generation(generation) }
}

impl Node {
    pub(crate) fn start(node: u64) -> Self {
        Self::start_with(Config::new(run(node, 1)))
    }

    pub(crate) fn start_with(config: Config) -> Self {
        Self::start_at(config, "127.0.0.1:0")
    }

    pub(crate) fn start_at(config: Config, address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, arrived) = mpsc::channel(4096);
        let given_up = Arc::new(Notify::new());
        let taker = Taker { arrived: sender, given_up: Arc::clone(&given_up) };
        let run = config.me;
        let mesh = Mesh::start(config, listener, Arc::new(taker)).unwrap();
        Self { mesh, run, address, arrived, given_up }
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { run: self.run, address: self.address.clone() }
    }

    /// Waits until there is a link to each of these nodes and to no other.
    pub(crate) async fn linked_to(&self, nodes: &[u64]) {
        let mut watch = self.mesh.watch();
        let wait = watch.wait_for(|now| now.iter().map(|node| node.0).eq(nodes.iter().copied()));
        bounded(wait).await.unwrap();
    }

    pub(crate) async fn open(&self, to: u64, open: Open) -> Exchange {
        bounded(self.mesh.open(NodeId(to), open)).await.unwrap()
    }

    pub(crate) async fn next(&mut self) -> Arrived {
        bounded(self.arrived.recv()).await.unwrap()
    }
}

/// Two nodes with links to each other: 1 and 2.
pub(crate) async fn pair() -> (Node, Node) {
    pair_of(Config::new(run(1, 1)), Config::new(run(2, 1))).await
}

pub(crate) async fn pair_of(a: Config, b: Config) -> (Node, Node) {
    let (a, b) = (Node::start_with(a), Node::start_with(b));
    a.mesh.set_peers(vec![b.peer()]);
    b.mesh.set_peers(vec![a.peer()]);
    a.linked_to(&[b.run.node.0]).await;
    b.linked_to(&[a.run.node.0]).await;
    (a, b)
}

pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.expect("within the bound")
}

/// An opening with a payload; the opener says no more.
pub(crate) fn question(payload: &'static str) -> Open {
    Open { payload: Bytes::from_static(payload.as_bytes()), last: true, ..Open::default() }
}

/// An opening after which both sides go on.
pub(crate) fn talk() -> Open {
    Open::default()
}
