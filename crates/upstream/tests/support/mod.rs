//! What the tests share: a raw HTTP server that answers as a test says, and waiting for conditions.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]

use bytes::Bytes;
use enfilade_upstream::{Call, CallError, Config, Connector, Exchange, Hello, Messages, Peer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// One request as the server got it.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The JSON-RPC id, as a number.
    pub fn id(&self) -> u64 {
        enfilade_mcp::json::get(&self.body, "id").and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    pub fn rpc(&self) -> String {
        enfilade_mcp::json::get(&self.body, "method").and_then(enfilade_mcp::json::string).unwrap_or_default().into()
    }
}

/// What the server answers.
pub enum Reply {
    /// Status, further headers, body.
    Plain(u16, &'static str, String),
    /// A stream of events.
    Events(&'static str, Vec<Step>),
    /// The connection is closed without a word.
    Drop,
    /// Nothing comes until the connection is closed by the other side.
    Hang,
}

pub enum Step {
    Text(String),
    /// Waits for this.
    Wait(Arc<Notify>),
    /// Leaves the stream open until the other side closes it.
    Stay,
    /// Breaks the connection in the middle of the stream.
    Break,
}

pub fn json(body: impl Into<String>) -> Reply {
    Reply::Plain(200, "content-type: application/json\r\n", body.into())
}

pub fn accepted() -> Reply {
    Reply::Plain(202, "", String::new())
}

pub fn result(id: u64, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// A raw HTTP/1.1 server.
pub struct Server {
    pub url: String,
    pub log: Arc<Mutex<Vec<Received>>>,
    /// When streams were closed.
    pub closed: Arc<Mutex<Vec<Instant>>>,
    changed: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (log, closed, changed): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>, Arc<Notify>) = Default::default();
        let (answer, shared) = (Arc::new(answer), (log.clone(), closed.clone(), changed.clone()));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { break };
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(stream, connection, answer.clone(), shared.clone()));
            }
        });
        Self { url, log, closed, changed, task }
    }

    /// Stops listening, and closes every connection.
    pub async fn stop(self) -> String {
        self.task.abort();
        let _ = self.task.await;
        self.url
    }

    pub fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the requests fulfil a condition.
    pub async fn until(&self, what: &str, condition: impl Fn(&[Received]) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.received()) {
                    return;
                }
                changed.await;
            }
        };
        within(what, wait).await;
    }
}

type Shared = (Arc<Mutex<Vec<Received>>>, Arc<Mutex<Vec<Instant>>>, Arc<Notify>);

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    answer: Arc<impl Fn(&Received) -> Reply>,
    (log, closed, changed): Shared,
) {
    let mut buffer = Vec::new();
    while let Some(received) = read(&mut stream, &mut buffer, connection).await {
        log.lock().unwrap().push(received.clone());
        changed.notify_waiters();
        match answer(&received) {
            Reply::Plain(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(body.as_bytes()).await.is_err()
                {
                    return;
                }
            }
            Reply::Events(headers, steps) => {
                let head = format!(
                    "HTTP/1.1 200 X\r\n{headers}content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                let ended = events(&mut stream, steps).await;
                closed.lock().unwrap().push(Instant::now());
                changed.notify_waiters();
                if !ended {
                    return;
                }
            }
            Reply::Drop => return,
            Reply::Hang => {
                let _ = stream.read(&mut [0; 16]).await;
                closed.lock().unwrap().push(Instant::now());
                changed.notify_waiters();
                return;
            }
        }
    }
}

/// Plays a stream; false when the connection ends with it.
async fn events(stream: &mut TcpStream, steps: Vec<Step>) -> bool {
    for step in steps {
        match step {
            Step::Text(text) => {
                let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return false;
                }
            }
            Step::Wait(notify) => notify.notified().await,
            Step::Stay => {
                let _ = stream.read(&mut [0; 16]).await;
                return false;
            }
            Step::Break => return false,
        }
    }
    stream.write_all(b"0\r\n\r\n").await.is_ok()
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer.drain(..head_end + 4).collect()).unwrap();
    let mut lines = head.lines();
    let method = lines.next()?.split(' ').next()?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
    Some(Received { method, headers, body, at: Instant::now(), connection })
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

/// Fails the test when something takes too long.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("too late: {what}"))
}

/// Waits until a condition holds that nobody announces.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        let mut interval = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            interval.tick().await;
        }
    })
    .await;
}

pub fn hello() -> Hello {
    Hello {
        version: enfilade_mcp::Version::V2025_11_25,
        client_info: r#"{"name":"test","version":"1"}"#.into(),
        capabilities: r#"{"elicitation":{}}"#.into(),
    }
}

/// The scripted process of `examples/scripted.rs`.
pub fn scripted(args: &[&str]) -> Config {
    Config::stdio("files", example("scripted").to_str().unwrap(), args.iter().map(|arg| (*arg).to_owned()))
}

/// The path of an example, which cargo builds along with the tests.
pub fn example(name: &str) -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
    folder.join(name)
}

/// Sends `tools/call` and gives back what comes first.
pub async fn start_call(peer: &dyn Peer, tool: &str, arguments: &str) -> (u64, Result<Exchange, CallError>) {
    let id = peer.next_id();
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":{id}}}}}}}"#
    );
    let call = Call {
        id,
        message: message.into(),
        method: "tools/call",
        name: Some(tool),
        headers: Vec::new(),
        progress_token: Some(id),
    };
    (id, within("the first message of a call", peer.call(call)).await)
}

/// Calls a tool and gives back everything that came, the response last.
pub async fn call(peer: &dyn Peer, tool: &str, arguments: &str) -> Result<Vec<String>, CallError> {
    match start_call(peer, tool, arguments).await.1? {
        Exchange::Answer(answer) => Ok(vec![text(&answer)]),
        Exchange::Stream(mut messages) => rest(&mut messages).await,
    }
}

/// Everything that still comes.
pub async fn rest(messages: &mut Messages) -> Result<Vec<String>, CallError> {
    let mut all = Vec::new();
    while let Some(message) = within("the next message", messages.next()).await {
        all.push(text(&message?));
    }
    Ok(all)
}

/// Calls a tool that answers at once, and gives back the result.
pub async fn result_of(peer: &dyn Peer, tool: &str, arguments: &str) -> String {
    let all = call(peer, tool, arguments).await.unwrap();
    enfilade_mcp::json::get(all.last().unwrap(), "result").unwrap().to_owned()
}

pub fn text(message: &Bytes) -> String {
    String::from_utf8(message.to_vec()).unwrap()
}

pub fn connector(config: Config) -> Arc<Connector> {
    Connector::new(config).unwrap()
}
