//! The upstream behind the cluster: an MCP server of the legacy era over Streamable HTTP, with sessions.
//! It never restarts during a drill, and writes down what it executes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::effects::{Effects, FENCE};
use crate::ledger::{Executing, Ledger};

/// A call that may run once: the gateway is told nothing about it.
pub(crate) const WORK: &str = "work";
/// A call that says of itself that it may run again.
pub(crate) const WORK_SAFE: &str = "work_safe";
/// A call that says a number of things before it ends.
pub(crate) const EVENTS: &str = "events";

/// Announcements that a slow listener may miss; it hears one anyway.
const ANNOUNCED_MAX: usize = 16;

const VERSION: &str = "2025-11-25";
/// Out of descriptors, for one: wait a little instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running witness; it ends with the process.
#[derive(Clone)]
pub(crate) struct Witness {
    address: SocketAddr,
    ledger: Ledger,
    effects: Effects,
    opened: Arc<AtomicU64>,
    announced: broadcast::Sender<()>,
}

struct State {
    ledger: Ledger,
    effects: Effects,
    sessions: Mutex<HashSet<u128>>,
    opened: Arc<AtomicU64>,
    announced: broadcast::Sender<()>,
}

impl Witness {
    /// Serves at `listen`.
    pub(crate) async fn start(listen: SocketAddr) -> Result<Witness> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let (announced, _) = broadcast::channel(ANNOUNCED_MAX);
        let (ledger, effects, opened) = (Ledger::default(), Effects::default(), Arc::<AtomicU64>::default());
        let witness = Witness { address: listener.local_addr()?, ledger, effects, opened, announced };
        let Witness { ledger, effects, opened, announced, .. } = witness.clone();
        let state = Arc::new(State { ledger, effects, sessions: Mutex::default(), opened, announced });
        tokio::spawn(accept(listener, state));
        Ok(witness)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// In whose right it was called.
    pub(crate) fn effects(&self) -> &Effects {
        &self.effects
    }

    /// Sessions that were opened here, the nodes' own included.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Says to all who listen that its tools have changed.
    pub(crate) fn announce(&self) {
        // Nobody may listen.
        let _ = self.announced.send(());
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            }
            Err(error) => {
                eprintln!("witness: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Without it small answers may wait for the other side's acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    // Broken connections are what the drills are about.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let session = parts.headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Ok(match parts.method {
        Method::POST => match body.collect().await {
            Ok(body) => {
                let fence = parts.headers.get(FENCE).and_then(|fence| fence.to_str().ok());
                post(&state, session.as_deref(), fence, &body.to_bytes()).await
            }
            Err(_) => status(StatusCode::BAD_REQUEST),
        },
        Method::DELETE => status(if state.end(session.as_deref()) { StatusCode::OK } else { StatusCode::NOT_FOUND }),
        Method::GET if state.has(session.as_deref()) => announcements(state.announced.subscribe()),
        Method::GET => status(StatusCode::NOT_FOUND),
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    })
}

impl State {
    fn sessions<T>(&self, work: impl FnOnce(&mut HashSet<u128>) -> T) -> T {
        work(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let id = u128::from_ne_bytes(random);
        self.sessions(|all| all.insert(id));
        self.opened.fetch_add(1, Ordering::Relaxed);
        Some(format!("{id:032x}"))
    }

    fn has(&self, session: Option<&str>) -> bool {
        key(session).is_some_and(|key| self.sessions(|all| all.contains(&key)))
    }

    fn end(&self, session: Option<&str>) -> bool {
        key(session).is_some_and(|key| self.sessions(|all| all.remove(&key)))
    }
}

fn key(session: Option<&str>) -> Option<u128> {
    u128::from_str_radix(session?, 16).ok()
}

async fn post(state: &State, session: Option<&str>, fence: Option<&str>, body: &[u8]) -> Response<Body> {
    let Ok(message) = serde_json::from_slice::<Value>(body) else { return status(StatusCode::BAD_REQUEST) };
    let (id, method) = (&message["id"], message["method"].as_str().unwrap_or_default());
    if method == "initialize" {
        let Some(session) = state.open().and_then(|id| HeaderValue::from_str(&id).ok()) else {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let mut response = result(id, &initialized());
        response.headers_mut().insert("mcp-session-id", session);
        return response;
    }
    if !state.has(session) {
        return status(if session.is_none() { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND });
    }
    if id.is_null() {
        return status(StatusCode::ACCEPTED);
    }
    match method {
        "ping" | "logging/setLevel" => result(id, &json!({})),
        "tools/list" => result(id, &json!({"tools": tools()})),
        "tools/call" => {
            state.effects.note(fence);
            call(state, id, &message["params"]).await
        }
        _ => error(id, -32601, "method not found"),
    }
}

fn initialized() -> Value {
    json!({
        "protocolVersion": VERSION,
        "capabilities": {"tools": {"listChanged": true}, "logging": {}},
        "serverInfo": {"name": "witness", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn tools() -> Value {
    let number = json!({"type": "integer"});
    let work = json!({"type": "object", "properties": {"call": number, "ms": number}, "required": ["call", "ms"]});
    let events = json!({"type": "object", "properties": {"call": number, "count": number, "every_ms": number}});
    json!([
        {"name": WORK, "description": "Takes its time, once.", "inputSchema": work,
         "annotations": {"readOnlyHint": false, "idempotentHint": false}},
        {"name": WORK_SAFE, "description": "Takes its time; may run again.", "inputSchema": work,
         "annotations": {"readOnlyHint": true, "idempotentHint": true}},
        {"name": EVENTS, "description": "Counts while it runs.", "inputSchema": events,
         "annotations": {"readOnlyHint": false, "idempotentHint": false}},
    ])
}

async fn call(state: &State, id: &Value, params: &Value) -> Response<Body> {
    let arguments = &params["arguments"];
    let Some(call) = arguments["call"].as_u64() else { return error(id, -32602, "no call") };
    match params["name"].as_str() {
        Some(WORK | WORK_SAFE) => {
            let _executing = state.ledger.begin(call);
            tokio::time::sleep(Duration::from_millis(arguments["ms"].as_u64().unwrap_or(0))).await;
            result(id, &done(call))
        }
        Some(EVENTS) => {
            let executing = state.ledger.begin(call);
            let token = params["_meta"]["progressToken"].clone();
            events(id.clone(), call, token, arguments, executing)
        }
        _ => error(id, -32602, "unknown tool"),
    }
}

/// The answer says which call it belongs to.
fn done(call: u64) -> Value {
    json!({"content": [{"type": "text", "text": call.to_string()}], "isError": false})
}

/// A stream of numbered log messages, then the answer.
fn events(id: Value, call: u64, token: Value, arguments: &Value, executing: Executing) -> Response<Body> {
    let count = arguments["count"].as_u64().unwrap_or(0);
    let pause = Duration::from_millis(arguments["every_ms"].as_u64().unwrap_or(0));
    let events = stream::unfold((1, executing), move |(number, executing)| {
        let (id, token) = (id.clone(), token.clone());
        async move {
            if number > count + 1 {
                return None;
            }
            let message = if number > count {
                json!({"jsonrpc": "2.0", "id": id, "result": done(call)})
            } else {
                tokio::time::sleep(pause).await;
                numbered(call, number, &token)
            };
            let text = format!("event: message\ndata: {message}\n\n");
            Some((Ok(Frame::data(Bytes::from(text))), (number + 1, executing)))
        }
    });
    event_stream(events)
}

/// What is said outside of calls.
fn announcements(announced: broadcast::Receiver<()>) -> Response<Body> {
    let opened = stream::once(async { Ok(Frame::data(Bytes::from_static(b": open\n\n"))) });
    let said = stream::unfold(announced, |mut announced| async move {
        if announced.recv().await == Err(RecvError::Closed) {
            return None;
        }
        let message = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        Some((Ok(Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n")))), announced))
    });
    event_stream(opened.chain(said))
}

fn event_stream(events: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn numbered(call: u64, number: u64, token: &Value) -> Value {
    if token.is_null() {
        let data = json!({"call": call, "number": number});
        let params = json!({"level": "error", "logger": "witness", "data": data});
        return json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
    }
    let params = json!({"progressToken": token, "progress": number, "message": call.to_string()});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}

fn result(id: &Value, result: &Value) -> Response<Body> {
    json_body(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn error(id: &Value, code: i64, message: &str) -> Response<Body> {
    json_body(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
}

fn json_body(value: &Value) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::from(value.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::default()));
    *response.status_mut() = status;
    response
}
