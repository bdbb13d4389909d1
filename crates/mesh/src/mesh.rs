//! The mesh of one node: whom it has links to, what it sends, and who serves what arrives.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_registry::{BoxFuture, ClusterId, NodeId, Run};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::calls::{Call, Line};
use crate::link::Route;
use crate::peers::Peers;
use crate::shared::{Accepted, Shared};
use crate::tls::Secured;
use crate::{CallError, CallFailed, Config, Exchange, Listen, NotSent, Open, Peer, StartError, accept, dial};

/// What a call is about; the meaning is the users'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKind(pub u32);

/// Takes what other nodes send.
pub trait Serve: Send + Sync {
    /// An exchange begins; `open` holds its first message. Called on the link's reader: it must not wait, so hand the
    /// exchange to a task. Dropping `exchange` resets it.
    fn exchange(&self, from: Run, open: Open, exchange: Exchange);

    /// A call; its future is dropped when the caller's time is over.
    fn call(&self, from: Run, kind: CallKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// How much a mesh holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Links to other nodes, over which exchanges are opened.
    pub links: usize,
    /// Links that other nodes opened.
    pub links_accepted: usize,
    /// Open exchanges that this node opened.
    pub exchanges: usize,
    /// Open exchanges that other nodes opened.
    pub exchanges_accepted: usize,
    /// What waits to be written, over all links.
    pub queued_bytes: usize,
}

/// The links of this node. Cheap to clone; when the last clone is dropped all links break.
///
/// One who serves and holds a clone keeps the mesh alive until [`Mesh::close`].
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

impl Mesh {
    /// Begins to accept links and calls on a socket. Must be called within a tokio runtime.
    pub fn start(config: Config, listener: TcpListener, serve: Arc<dyn Serve>) -> Result<Mesh, StartError> {
        listener.set_nonblocking(true)?;
        let listener = {
            let _entered = config.control.as_ref().map(Handle::enter);
            tokio::net::TcpListener::from_std(listener)?
        };
        Self::start_on(config, Box::new(listener), serve)
    }

    /// As [`Mesh::start`], on anything that accepts connections.
    pub fn start_on(config: Config, listener: Box<dyn Listen>, serve: Arc<dyn Serve>) -> Result<Mesh, StartError> {
        let tls = config.tls.as_ref().map(Secured::new).transpose()?;
        let stop = CancellationToken::new();
        let links = Handle::current();
        let shared = Arc::new(Shared {
            tls,
            control: config.control.clone().unwrap_or_else(|| links.clone()),
            links,
            serve,
            peers: Peers::new(),
            accepted: Accepted::default(),
            cluster: Mutex::new(config.cluster),
            calls: Semaphore::new(config.limits.calls_max),
            closing: stop.child_token(),
            stop: stop.clone(),
            readers: TaskTracker::new(),
            tasks: TaskTracker::new(),
            config,
        });
        shared.spawn_on(&shared.control, &shared.tasks, accept::accept(Arc::clone(&shared), listener));
        Ok(Self { shared, _stop: Arc::new(stop.drop_guard()) })
    }

    /// Says which other nodes there are. Links to them are opened, and opened again, in the background; links to nodes
    /// that are not among them any more are closed. This node itself may be among them and is passed over.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        if self.shared.closing.is_cancelled() {
            return;
        }
        for known in self.shared.peers.set(self.shared.config.me.node, peers, &self.shared.stop) {
            self.shared.spawn(&self.shared.readers, dial::keep(Arc::clone(&self.shared), known));
        }
    }

    /// Says which cluster this node now belongs to. Links to nodes of another one are closed.
    pub fn set_cluster(&self, cluster: ClusterId) {
        let before = self.shared.cluster.lock().replace(cluster);
        if before != Some(cluster) {
            self.shared.peers.belong_to(cluster);
            self.shared.accepted.belong_to(cluster);
        }
    }

    /// Opens an exchange with a node: over its link, or over one other node that has a link to it.
    ///
    /// `Err` guarantees that nothing was written. After `Ok`, a loss shows as [`Broken`](crate::Broken) at the exchange.
    pub async fn open(&self, to: NodeId, open: Open) -> Result<Exchange, NotSent> {
        let peers = &self.shared.peers;
        if let Some(link) = peers.link(to) {
            return link.open(open, Route::default()).await;
        }
        let (run, link) = peers.run(to).zip(peers.relay(to)).ok_or(NotSent::Unreachable)?;
        link.open(open, Route { relay_to: Some(run), relayed_for: None }).await
    }

    /// Asks a known node, on a connection that is not shared with exchanges. Never relayed.
    pub async fn call(&self, to: NodeId, kind: CallKind, body: Bytes, within: Duration) -> Result<Bytes, CallFailed> {
        let known = self.shared.peers.get(to).ok_or(CallFailed::NotSent)?;
        let address = known.target.borrow().address.clone();
        known.calls.call(&self.shared, &address, Call { kind, body, within }).await
    }

    /// Asks whoever answers at an address (`host:port`): for a node that does not know the others yet.
    pub async fn call_address(
        &self,
        address: &str,
        kind: CallKind,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, CallFailed> {
        Line::default().call(&self.shared, address, Call { kind, body, within }).await
    }

    /// The nodes that this one has a link to, in the order of their ids.
    pub fn connected(&self) -> Vec<NodeId> {
        self.shared.peers.connected()
    }

    /// Tells of every change of [`Mesh::connected`].
    pub fn watch(&self) -> watch::Receiver<Vec<NodeId>> {
        self.shared.peers.watch()
    }

    /// The known peers that this node has no link to, in the order of their ids.
    pub fn unreachable(&self) -> Vec<NodeId> {
        self.shared.peers.unreachable()
    }

    /// What there is now.
    pub fn stats(&self) -> Stats {
        let (dialled, accepted) = (self.shared.peers.links(), self.shared.accepted.links());
        Stats {
            links: dialled.len(),
            links_accepted: accepted.len(),
            exchanges: dialled.iter().map(|link| link.exchanges()).sum(),
            exchanges_accepted: accepted.iter().map(|link| link.exchanges()).sum(),
            queued_bytes: dialled.iter().chain(&accepted).map(|link| link.outbox.bytes()).sum(),
        }
    }

    /// Stops accepting, writes what is queued (for at most [`Timing::flush`](crate::Timing)), and closes all links.
    pub async fn close(&self) {
        let shared = &self.shared;
        shared.closing.cancel();
        for link in shared.peers.links().into_iter().chain(shared.accepted.links()) {
            link.finish();
        }
        shared.readers.close();
        // Who does not read what is queued loses it with the link, and sees that.
        let _ = tokio::time::timeout(shared.config.timing.flush, shared.readers.wait()).await;
        shared.stop.cancel();
        shared.readers.wait().await;
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}
