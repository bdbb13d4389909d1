//! The light MCP server behind the proxies: hyper HTTP/1.1 on one thread, JSON answers only.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::cli::UpstreamOptions;
use crate::upstream_reply::{Head, Reply, Sessions, delete, post};

const PATH: &str = "/mcp";

/// The path under which the caller of this name knows the upstream.
pub(crate) fn path_of(caller: &str) -> String {
    format!("{PATH}/{caller}")
}

/// Whose path it is: an empty text for nobody's.
fn caller(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PATH)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

const BODY_BYTES_MAX: usize = 16 << 20;
/// Out of descriptors, for one: wait a little instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

type State = Rc<RefCell<Sessions>>;

/// Serves until the process ends.
pub(crate) async fn serve(options: &UpstreamOptions) -> Result<()> {
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
    println!("ready http://{}{PATH}", listener.local_addr()?);
    std::io::stdout().flush()?;
    accept(listener).await
}

/// The accept loop, apart from the printing so that tests can run it.
pub(crate) async fn accept(listener: TcpListener) -> Result<()> {
    let state = State::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection(stream, state.clone()));
            }
            Err(error) => {
                eprintln!("upstream: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, state: State) {
    // Without it small answers may wait for the client's acknowledgement; a socket that refuses is closing anyway.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, state.clone()));
    // Broken connections are the client's to report.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: State) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Some(caller) = caller(parts.uri.path()) else {
        return Ok(response(Reply::empty(StatusCode::NOT_FOUND)));
    };
    let head = Head { caller, ..head(&parts.headers) };
    let reply = match parts.method {
        Method::POST => match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => post(&head, &body.to_bytes(), &mut state.borrow_mut()),
            Err(_) => Reply::empty(StatusCode::BAD_REQUEST),
        },
        Method::DELETE => delete(&head, &mut state.borrow_mut()),
        _ => Reply::empty(StatusCode::METHOD_NOT_ALLOWED),
    };
    Ok(response(reply))
}

fn head(headers: &HeaderMap) -> Head<'_> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Head {
        version: text("mcp-protocol-version"),
        method: text("mcp-method"),
        name: text("mcp-name"),
        session: text("mcp-session-id"),
        caller: "",
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let has_body = !reply.body.is_empty();
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
    }
    if let Some(session) = reply.session.and_then(|id| HeaderValue::from_str(&id).ok()) {
        headers.insert("mcp-session-id", session);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::generator;
    use crate::load::{Load, Owner, Place};
    use crate::wire::Era;

    fn load(address: std::net::SocketAddr, path: &str, era: Era) -> Load {
        Load {
            places: vec![Place::alone(address)],
            path: path.into(),
            era,
            connections: 4,
            payload: 10_240,
            seconds: 30.0,
            calls_max: 200,
            calls_per_second: None,
            warmup_ms: 0,
            opened_within_ms: 10_000,
            proxy_pids: Vec::new(),
            upstream_pids: vec![nix::unistd::getpid().as_raw()],
        }
    }

    #[tokio::test]
    async fn generator_and_upstream_understand_each_other_in_both_eras() {
        let inside = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let address = listener.local_addr().expect("address");
            tokio::task::spawn_local(accept(listener));
            for era in [Era::Legacy, Era::Modern] {
                let sample = generator::measure(&load(address, PATH, era)).await.expect("measure");
                assert!(sample.is_good(), "{era}: {:?}", sample.error_texts);
                assert!(sample.calls >= 200 && sample.p99_us >= sample.p50_us && sample.p50_us > 0.0);
                assert!(sample.upstream_cpu.is_some_and(|cpu| cpu.clock_us > 0.0));
            }
        };
        LocalSet::new().run_until(inside).await;
    }

    #[tokio::test]
    async fn sessions_are_used_only_where_they_belong() {
        let inside = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let address = listener.local_addr().expect("address");
            tokio::task::spawn_local(accept(listener));
            for (name, good) in [("node-7", true), ("node-8", false)] {
                let mut options = load(address, &path_of("node-7"), Era::Legacy);
                options.places = vec![Place { address, owner: Some(Owner { address, name: name.into() }) }];
                options.opened_within_ms = 100 + 9_900 * u64::from(good);
                let sample = generator::measure(&options).await.expect("measure");
                assert_eq!(sample.is_good(), good, "{:?}", sample.error_texts);
            }
        };
        LocalSet::new().run_until(inside).await;
    }

    #[tokio::test]
    async fn failures_are_counted() {
        let inside = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let address = listener.local_addr().expect("address");
            tokio::task::spawn_local(accept(listener));
            let mut options = load(address, "/elsewhere", Era::Modern);
            options.seconds = 0.05;
            let sample = generator::measure(&options).await.expect("measure");
            assert!(sample.errors > 0 && sample.calls == 0 && !sample.is_good());
            assert!(sample.error_texts[0].contains("404"), "{:?}", sample.error_texts);
        };
        LocalSet::new().run_until(inside).await;
    }
}
