//! Three nodes in one process, each in a runtime of its own so that it can die at once, over real links, a real registry
//! on disk and a real MCP server that witnesses what is executed.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod asked;
mod disk;
mod net;

use bytes::Bytes;
use disk::Disk;
use enfilade_cluster::{
    Cluster, Config, Prepared, RaftLinks, Registration, Router, Seen, Status, Switchboard, boottime,
};
use enfilade_mcp::classify::{Class, Headers, classify};
use enfilade_mcp::{Envelope, json};
use enfilade_mesh::Mesh;
use enfilade_raft::{OpenError, Raft, Share};
use enfilade_registry::{Generation, NodeId, Roles, Run, SessionId, SessionKeys, Timing};
use enfilade_session::config::{Limits, PrefixChoice, ServerConfig};
use enfilade_session::owner::{ANONYMOUS, Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use enfilade_session::stream::{Event, EventId};
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_testkit::everything::{self, Era, Options};
use enfilade_upstream::Connector;
use net::{Cut, CutListener, CutNet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

pub const CALLER: Caller<'static> = Caller { server: ServerId(0), principal: ANONYMOUS };

static IDS: AtomicU64 = AtomicU64::new(1);

/// One node that runs.
pub struct Up {
    pub run: Run,
    pub cluster: Arc<Cluster>,
    pub router: Arc<Router>,
    pub node: Arc<Node>,
    pub raft: Arc<Raft>,
    pub cut: Cut,
    pub disk: Disk,
    runtime: Option<Runtime>,
}

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
        let (cluster, node, raft) = parts;
        let cluster = Arc::new(cluster);
        Up { run, router: cluster.router(), cluster, node, raft, cut, disk, runtime: Some(runtime) }
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

    /// A new session, opened at a node.
    pub async fn open(&self, at: usize, version: &str) -> SessionId {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
        );
        let router = self.nodes[at].router.clone();
        let reply = self.nodes[at].spawn(async move {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            router.initialize(CALLER, &envelope).await
        });
        match reply.await.expect("the node runs") {
            Reply::Message { session: Some(id), .. } => id,
            other => panic!("{other:?}"),
        }
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

#[allow(clippy::too_many_arguments, reason = "all that differs between nodes")]
async fn compose(
    run: Run,
    roles: Roles,
    timing: Timing,
    dir: PathBuf,
    addresses: Vec<SocketAddr>,
    keys: Arc<SessionKeys>,
    upstream: Arc<str>,
    listener: std::net::TcpListener,
    cut: Cut,
    disk: Disk,
) -> (Cluster, Arc<Node>, Arc<Raft>) {
    let link = listener.local_addr().unwrap().to_string();
    let switchboard = Switchboard::new();
    let mut config = enfilade_mesh::Config::new(run);
    config.net = Arc::new(CutNet(cut.clone()));
    listener.set_nonblocking(true).unwrap();
    let listener = CutListener(tokio::net::TcpListener::from_std(listener).unwrap(), cut);
    let mesh = Mesh::start_on(config, Box::new(listener), switchboard.clone()).unwrap();
    let mut raft = enfilade_raft::Config::new(dir, run, Arc::new(RaftLinks(mesh.clone())));
    raft.timing = timing;
    raft.before_write = Some(Arc::new(move || disk.before_write()));
    let opened = until(|| Raft::open(raft.clone()), |opened| !matches!(opened, Err(OpenError::Journal(_)))).await;
    let raft = Arc::new(opened.unwrap());
    switchboard.set_raft(raft.clone());
    let name = format!("node-{}", run.node.0);
    let registration = Registration { name: name.into(), link: link.into(), roles, formats: 1 };
    let config = Config { timing, ..Config::new(run, registration, vec!["all".into()]) };
    let prepared = Prepared::new(config, mesh, &Share::Replica(raft.clone()), keys.clone(), boottime()).unwrap();
    let server =
        ServerConfig { name: "all".into(), path: "/mcp".into(), prefix: PrefixChoice::Never, upstreams: vec![] };
    let limits = Limits { health_interval_ms: 200, ..Limits::default() };
    let node_config = NodeConfig { servers: vec![server], limits, cursor_secret: vec![1; 32] };
    let upstream = serde_json::from_value(serde_json::json!({"name": "everything", "url": &*upstream})).unwrap();
    let connectors = vec![Connector::new(upstream).unwrap()];
    let registry = Registry { reader: raft.clone(), writer: raft.clone(), keys };
    let node = Node::start(node_config, connectors, registry, prepared.slots(), prepared.copies()).unwrap();
    let cluster = prepared.start(node.clone(), &switchboard);
    let seen = addresses.iter().enumerate().map(|(at, address)| Seen {
        run: Run { node: NodeId(at as u64 + 1), generation: Generation(1) },
        link: address.to_string(),
        load: 0,
    });
    cluster.set_roster(seen.collect());
    (cluster, node, raft)
}

impl Up {
    /// Runs something on the node's runtime; it ends when the node is killed.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("the node runs").spawn(future)
    }

    async fn on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        run: impl FnOnce((Arc<Raft>, Arc<Cluster>)) -> F,
    ) -> T {
        self.spawn(run((self.raft.clone(), self.cluster.clone()))).await.expect("the node runs")
    }

    pub async fn ready(&self) {
        within(self.on(|(_, cluster)| async move { cluster.ready().await })).await;
    }

    pub fn status(&self) -> Status {
        self.cluster.status()
    }

    /// The process is gone, without a word.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// Posts a message of a session; the answer comes when it comes.
    pub fn post(&self, session: SessionId, text: String) -> tokio::task::JoinHandle<Answer> {
        let router = self.router.clone();
        self.spawn(async move { post(&router, session, &text).await })
    }

    pub fn call(&self, session: SessionId, tool: &str, arguments: &str) -> tokio::task::JoinHandle<Answer> {
        let (router, tool, arguments) = (self.router.clone(), tool.to_owned(), arguments.to_owned());
        self.spawn(async move { call(&router, session, &tool, &arguments).await })
    }

    /// The text of the first content block of a tool's answer.
    pub async fn content(&self, session: SessionId, tool: &str, arguments: &str) -> String {
        let answer = within(self.call(session, tool, arguments)).await.expect("the node runs");
        answer.content().unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// What follows an event, to the end of its stream.
    pub fn resume(&self, session: SessionId, last: EventId) -> tokio::task::JoinHandle<Answer> {
        let (router, last) = (self.router.clone(), last.to_string());
        self.spawn(async move { Answer::of(router.open_stream(CALLER, session, Some(&last)).await).await })
    }

    /// Calls a tool without a session.
    pub fn modern(&self, tool: &str, arguments: &str) -> tokio::task::JoinHandle<Answer> {
        let params = format!(r#""name":"{tool}","arguments":{arguments}"#);
        self.modern_request("tools/call", Some(tool), &params)
    }

    /// A request without a session; `params` are members of an object.
    pub fn modern_request(&self, method: &str, name: Option<&str>, params: &str) -> tokio::task::JoinHandle<Answer> {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params},{meta}}}}}"#);
        let (router, method, name) = (self.router.clone(), method.to_owned(), name.map(str::to_owned));
        self.spawn(async move {
            let envelope = Envelope::parse(text.as_bytes()).unwrap();
            let name = name.as_deref();
            let headers = Headers { version: Some("2026-07-28"), session: None, method: Some(&method), name };
            let Ok(Class::Modern(meta)) = classify(headers, &envelope.kind) else { panic!("not modern: {text}") };
            Answer::of(router.modern(CALLER, &envelope, &meta, &NoHeaders).await).await
        })
    }

    pub fn end(&self, session: SessionId) -> tokio::task::JoinHandle<Answer> {
        let router = self.router.clone();
        self.spawn(async move { Answer::of(router.end(CALLER, session).await).await })
    }
}

struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn header(&self, _: &str) -> Option<&str> {
        None
    }
}

async fn post(router: &Router, session: SessionId, text: &str) -> Answer {
    let envelope = Envelope::parse(text.as_bytes()).unwrap();
    let reply = router.legacy(CALLER, session, Legacy::One { envelope: &envelope, version: None, again: false }).await;
    Answer::of(reply).await
}

/// Calls a tool.
pub async fn call(router: &Router, session: SessionId, tool: &str, arguments: &str) -> Answer {
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    );
    post(router, session, &text).await
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last word on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    /// The ids of its events.
    pub ids: Vec<EventId>,
    /// All that came.
    pub texts: Vec<String>,
}

impl Answer {
    async fn of(reply: Reply) -> Self {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        match reply {
            Reply::Message { status, body, .. } => Self { status, text: text(&body), ..Self::empty() },
            Reply::Status(status) => Self { status, ..Self::empty() },
            Reply::Accepted => Self { status: 202, ..Self::empty() },
            Reply::Events { mut stream, .. } => {
                let mut answer = Self::empty();
                while let Some(Event { id, data }) = stream.next().await {
                    answer.ids.extend(id);
                    answer.text = text(&data);
                    answer.texts.push(answer.text.clone());
                }
                answer
            }
            Reply::NotServed(_) | Reply::Lost => panic!("a router never says {reply:?}"),
        }
    }

    fn empty() -> Self {
        Self { status: 200, text: String::new(), ids: Vec::new(), texts: Vec::new() }
    }

    pub fn content(&self) -> Option<String> {
        let result = json::get(&self.text, "result")?;
        let value: serde_json::Value = serde_json::from_str(result).ok()?;
        Some(value["content"][0]["text"].as_str()?.to_owned())
    }

    pub fn is_unknown(&self) -> bool {
        self.text.contains("outcome is unknown")
    }
}

/// Bounds a wait, so that a defect fails a test instead of hanging it.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

/// Asks until an answer satisfies the condition.
pub async fn until<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F, mut good: impl FnMut(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it takes too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
