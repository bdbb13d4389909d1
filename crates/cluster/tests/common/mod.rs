//! Three nodes in one process, each in a runtime of its own so that it can die at once, over real links, a real registry
//! on disk and a real MCP server that witnesses what is executed.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]

mod answer;
pub mod asked;
mod compose;
mod disk;
mod net;
mod up;
mod wait;

pub use answer::Answer;
pub use up::{Up, call};
pub use wait::{until, within};

use compose::compose;
use disk::Disk;
use enfilade_mcp::Envelope;
use enfilade_registry::{Generation, NodeId, Roles, Run, SessionId, SessionKeys, Timing};
use enfilade_session::owner::{ANONYMOUS, Caller, Owner, Reply, ServerId};
use enfilade_testkit::everything::{self, Era, Options};
use net::Cut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const CALLER: Caller<'static> = Caller { server: ServerId(0), principal: ANONYMOUS };

/// The cluster and its upstream.
pub struct World {
    pub nodes: Vec<Up>,
    pub keys: Arc<SessionKeys>,
    upstream: Arc<str>,
    addresses: Vec<SocketAddr>,
    roles: Vec<Roles>,
    timing: Timing,
    dir: tempfile::TempDir,
}

/// Nothing is taken from a node that is slow, so that a test of what is planned sees nothing else on a busy machine.
const PATIENT: Timing = Timing {
    heartbeat_ms: 250,
    act_ms: 20_000,
    give_away_ms: 25_000,
    election_min_ms: 1_000,
    election_max_ms: 2_000,
    raft_heartbeat_ms: 100,
    fenced_ms: 10_000,
    unreachable_ms: 30_000,
    copy_ms: 300,
    move_ms: 20_000,
    hold_ms: 30_000,
    drain_ms: 60_000,
};

fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLUSTER_LOG").unwrap_or_default();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl World {
    /// Starts `count` nodes with all roles, and waits until they serve.
    pub async fn start(count: usize) -> Self {
        Self::start_with(&vec![Roles::ALL; count]).await
    }

    /// Starts nodes with these roles, which all vote, and waits until they serve.
    pub async fn start_with(roles: &[Roles]) -> Self {
        Self::start_on(roles, Options::default(), Timing::default()).await
    }

    /// Starts three nodes that are given much time for everything.
    pub async fn start_patient(era: Era) -> Self {
        Self::start_on(&[Roles::ALL; 3], Options { era, ..Options::default() }, PATIENT).await
    }

    /// Starts nodes of an upstream that speaks only the old revisions: it holds sessions, and asks clients.
    pub async fn start_legacy(count: usize) -> Self {
        let options = Options { era: Era::Legacy, ..Options::default() };
        Self::start_on(&vec![Roles::ALL; count], options, Timing::default()).await
    }

    /// Starts nodes of an upstream with so many more tools.
    pub async fn start_with_tools(count: usize, extra_tools: usize) -> Self {
        let options = Options { extra_tools, ..Options::default() };
        Self::start_on(&vec![Roles::ALL; count], options, Timing::default()).await
    }

    async fn start_on(roles: &[Roles], options: Options, timing: Timing) -> Self {
        let count = roles.len();
        init_log();
        let upstream = start_upstream(options).await;
        let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let keys = Arc::new(SessionKeys::new(1, &[7; 32]).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { nodes: Vec::new(), keys, upstream, addresses, roles: roles.to_vec(), timing, dir };
        for (at, listener) in listeners.into_iter().enumerate() {
            let up = world.start_node(at, 1, listener).await;
            world.nodes.push(up);
        }
        let voters: Vec<NodeId> = world.nodes.iter().map(|node| node.run.node).collect();
        world.nodes[0].on(|up| async move { up.0.bootstrap(voters).await.unwrap() }).await;
        for node in &world.nodes {
            node.ready().await;
        }
        world
    }

    async fn start_node(&self, at: usize, generation: u64, listener: std::net::TcpListener) -> Up {
        let run = Run { node: NodeId(at as u64 + 1), generation: Generation(generation) };
        let (dir, addresses) = (self.dir.path().join(at.to_string()), self.addresses.clone());
        let (keys, upstream, timing) = (self.keys.clone(), self.upstream.clone(), self.timing);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (cut, disk) = (Cut::default(), Disk::default());
        let parts = runtime
            .spawn(compose(
                run,
                self.roles[at],
                timing,
                dir,
                addresses,
                keys,
                upstream,
                listener,
                cut.clone(),
                disk.clone(),
            ))
            .await
            .unwrap();
        let (cluster, node, raft, memory) = parts;
        let cluster = Arc::new(cluster);
        Up { run, router: cluster.router(), cluster, node, raft, memory, cut, disk, runtime: Some(runtime) }
    }

    /// Starts a node again that was killed.
    pub async fn restart(&mut self, at: usize) {
        let address = self.addresses[at];
        let listener = until(|| async { bind(address) }, Result::is_ok).await.unwrap();
        let generation = self.nodes[at].run.generation.0 + 1;
        // Everything else of the node is gone; in one process the lock of the directory is not.
        let killed = self.nodes.remove(at);
        let _ = tokio::time::timeout(Duration::from_secs(5), killed.raft.close()).await;
        let up = self.start_node(at, generation, listener).await;
        self.nodes.insert(at, up);
    }

    /// A new session, opened at a node. One that has no registry at this moment says that its client is to come again.
    pub async fn open(&self, at: usize, version: &str) -> SessionId {
        let later = |reply: &Reply| matches!(reply, Reply::Message { status: 503, retry_after_s: Some(_), .. });
        match until(|| self.initialize(at, version), |reply| !later(reply)).await {
            Reply::Message { session: Some(id), .. } => id,
            other => panic!("{other:?}"),
        }
    }

    async fn initialize(&self, at: usize, version: &str) -> Reply {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
        );
        let router = self.nodes[at].router.clone();
        let reply = self.nodes[at].spawn(async move {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            router.initialize(CALLER, &envelope).await
        });
        reply.await.expect("the node runs")
    }

    /// The place of the node that owns a session's slot, as node `at` sees it.
    pub fn owner(&self, at: usize, session: SessionId) -> Option<usize> {
        use enfilade_registry::Reader;
        let owner = self.nodes[at].raft.slot_table().get(session.slot()).owner?;
        self.nodes.iter().position(|node| node.run == owner)
    }

    /// A session that node `owner` owns, opened there.
    pub async fn open_owned_by(&self, owner: usize, version: &str) -> SessionId {
        loop {
            let session = self.open(owner, version).await;
            if self.owner(owner, session) == Some(owner) {
                return session;
            }
        }
    }

    /// The node is gone, and the others have noticed that its links are: what is asked from then on is not sent to it.
    pub async fn lose(&mut self, at: usize) {
        self.nodes[at].kill();
        let lost = self.nodes[at].run.node;
        let linked = |node: &Up| node.status().members.iter().any(|member| member.run.node == lost && member.is_linked);
        until(|| async { self.nodes.iter().filter(|node| node.is_up()).any(linked) }, |linked| !*linked).await;
    }

    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.runtime.is_some() && node.cluster.status().is_leader)
    }
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address)
}

async fn start_upstream(options: Options) -> Arc<str> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { everything::serve_http(listener, options, std::future::pending()).await });
    url.into()
}
