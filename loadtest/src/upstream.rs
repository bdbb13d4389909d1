//! The light MCP server behind the nodes of a `local` run: the legacy era over Streamable HTTP, sessions, an echo, and a
//! resource that can be announced. One thread.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use enfilade_process::parent_gone;
use futures::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::wire::{LEGACY, UPDATED};

const BODY_BYTES_MAX: usize = 16 << 20;
/// An echo repeats a text of up to 1 KiB so often, without passing what the gateway takes.
const TIMES_MAX: u64 = 8192;
/// Notices that wait for one listener; further ones are dropped, as a server may.
const NOTICES_MAX: usize = 64;
/// Out of descriptors, for one: wait a little instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;
type State = Rc<RefCell<Sessions>>;

#[derive(Default)]
struct Sessions(HashMap<u128, Session>);

#[derive(Default)]
struct Session {
    subscribed: HashSet<String>,
    listener: Option<mpsc::Sender<Bytes>>,
}

/// Serves until the process ends.
pub(crate) async fn serve(listen: SocketAddr, with_parent: bool) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("ready http://{}/mcp", listener.local_addr()?);
    std::io::stdout().flush()?;
    let state = State::default();
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream, Rc::clone(&state)))),
                Err(error) => {
                    eprintln!("upstream: accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    if !with_parent {
        return std::future::pending().await;
    }
    parent_gone().await;
    Ok(())
}

async fn connection(stream: TcpStream, state: State) {
    // Without it small answers may wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Rc::clone(&state)));
    // Broken connections are the client's to report.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: State) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let session = parts.headers.get("mcp-session-id").and_then(|id| u128::from_str_radix(id.to_str().ok()?, 16).ok());
    Ok(match parts.method {
        Method::POST => match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => posted(&state, session, &body.to_bytes()).await,
            Err(_) => status(StatusCode::BAD_REQUEST),
        },
        Method::GET => match state.borrow_mut().of(session) {
            Some(session) => listen(session),
            None => status(StatusCode::NOT_FOUND),
        },
        Method::DELETE => {
            let known = session.is_some_and(|id| state.borrow_mut().0.remove(&id).is_some());
            status(if known { StatusCode::OK } else { StatusCode::NOT_FOUND })
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    })
}

impl Sessions {
    fn of(&mut self, id: Option<u128>) -> Option<&mut Session> {
        self.0.get_mut(&id?)
    }

    fn open(&mut self) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let id = u128::from_ne_bytes(random);
        self.0.insert(id, Session::default());
        Some(format!("{id:032x}"))
    }

    /// Tells all who subscribed; to how many.
    fn announce(&self, uri: &str) -> usize {
        let message = json!({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri}});
        let event = Bytes::from(format!("event: message\ndata: {message}\n\n"));
        let told = self.0.values().filter(|session| session.subscribed.contains(uri));
        told.filter_map(|session| session.listener.as_ref()?.try_send(event.clone()).ok()).count()
    }
}

async fn posted(state: &State, session: Option<u128>, body: &[u8]) -> Response<Body> {
    let Ok(message) = serde_json::from_slice::<Value>(body) else { return status(StatusCode::BAD_REQUEST) };
    let response = post(&mut state.borrow_mut(), session, &message);
    // A tool that takes its time.
    if let Some(ms) = message["params"]["arguments"]["wait_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    response
}

fn post(state: &mut Sessions, session: Option<u128>, message: &Value) -> Response<Body> {
    let (id, method) = (&message["id"], message["method"].as_str().unwrap_or_default());
    if method == "initialize" {
        return initialize(state, id);
    }
    let Some(own) = state.of(session) else {
        return status(if session.is_none() { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND });
    };
    if id.is_null() {
        return status(StatusCode::ACCEPTED);
    }
    let (params, uri) = (&message["params"], message["params"]["uri"].as_str().unwrap_or_default());
    match method {
        "ping" | "logging/setLevel" => result(id, &json!({})),
        "tools/list" => result(id, &json!({"tools": tools()})),
        "resources/list" => result(id, &json!({"resources": resources()})),
        "resources/read" => result(id, &json!({"contents": [{"uri": uri, "text": "new"}]})),
        "resources/subscribe" => {
            own.subscribed.insert(uri.to_owned());
            result(id, &json!({}))
        }
        "resources/unsubscribe" => {
            own.subscribed.remove(uri);
            result(id, &json!({}))
        }
        "tools/call" => call(state, id, params),
        _ => error(id, -32601, "method not found"),
    }
}

fn initialize(state: &mut Sessions, id: &Value) -> Response<Body> {
    let Some(session) = state.open().and_then(|id| HeaderValue::from_str(&id).ok()) else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = result(
        id,
        &json!({
            "protocolVersion": LEGACY,
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}},
            "serverInfo": {"name": "enfilade-loadtest-upstream", "version": env!("CARGO_PKG_VERSION")},
        }),
    );
    response.headers_mut().insert("mcp-session-id", session);
    response
}

fn tools() -> Value {
    let text = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
    json!([
        {"name": "echo", "description": "Returns its text, after `wait_ms` milliseconds, and `times` over, where it has these arguments.", "inputSchema": text("text")},
        {"name": "announce", "description": "Says that a resource has changed.", "inputSchema": text("uri")},
    ])
}

fn resources() -> Value {
    json!([{"uri": "load://news", "name": "news"}, {"uri": "load://other", "name": "other"}])
}

fn call(state: &Sessions, id: &Value, params: &Value) -> Response<Body> {
    let arguments = &params["arguments"];
    let text = |text: &str| result(id, &json!({"content": [{"type": "text", "text": text}]}));
    match params["name"].as_str() {
        Some("echo") => {
            let times = arguments["times"].as_u64().map_or(1, |times| times.min(TIMES_MAX) as usize);
            text(&arguments["text"].as_str().unwrap_or_default().repeat(times))
        }
        Some("announce") => text(&state.announce(arguments["uri"].as_str().unwrap_or_default()).to_string()),
        _ => error(id, -32602, "unknown tool"),
    }
}

/// The stream of a session; a second one takes over.
fn listen(session: &mut Session) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(NOTICES_MAX);
    session.listener = Some(sender);
    let opened = stream::once(async { Bytes::from_static(b": open\n\n") });
    let notices = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let events = opened.chain(notices).map(|event| Ok(Frame::data(event)));
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(events)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
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
