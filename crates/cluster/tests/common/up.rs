//! One node that runs, and what a client says to it.

use super::CALLER;
use super::answer::Answer;
use super::disk::Disk;
use super::net::Cut;
use super::wait::within;
use enfilade_cluster::{Cluster, Router, Status};
use enfilade_mcp::Envelope;
use enfilade_mcp::classify::{Class, Headers, classify};
use enfilade_raft::Raft;
use enfilade_registry::{Run, SessionId};
use enfilade_runtime::{Limit, Pressure};
use enfilade_session::Node;
use enfilade_session::owner::{HeaderLookup, Legacy, Owner};
use enfilade_session::stream::EventId;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

static IDS: AtomicU64 = AtomicU64::new(1);

/// One node that runs.
pub struct Up {
    pub run: Run,
    pub cluster: Arc<Cluster>,
    pub router: Arc<Router>,
    pub node: Arc<Node>,
    pub raft: Arc<Raft>,
    /// What is said to be used of its memory, and what messages take of it.
    pub memory: (Pressure, Limit),
    pub cut: Cut,
    pub disk: Disk,
    pub(super) runtime: Option<Runtime>,
}

impl Up {
    /// Runs something on the node's runtime; it ends when the node is killed.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("the node runs").spawn(future)
    }

    pub(super) async fn on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
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

    /// Gives everything to the others. How long that takes depends on the machine: it must only go on.
    pub async fn drain(&self) {
        let cluster = self.cluster.clone();
        let mut drained = self.spawn(async move { cluster.drain(Duration::from_secs(3_600)).await });
        let mut left_before = usize::MAX;
        loop {
            if let Ok(drained) = tokio::time::timeout(Duration::from_secs(60), &mut drained).await {
                return assert!(drained.expect("the node runs"), "it is empty");
            }
            let (status, calls) = (self.status(), self.node.in_flight());
            let left = status.slots_owned + status.slots_second + calls;
            assert!(left < left_before, "nothing goes on, with {calls} calls: {status:?}");
            left_before = left;
        }
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

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
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
