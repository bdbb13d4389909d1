//! What a supervisor asks a node, at an address apart from clients: does the process run, does it serve, what does it count?
//! It answers from the start of the process on, whatever the node's roles; bound before anything is built. It has a thread
//! of its own, so that a node with more to do than it can still answers here.

use crate::announce;
use crate::metrics::{self, Sources};
use anyhow::Context;
use bytes::Bytes;
use enfilade_runtime::{Pressure, Step};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Answers 200 as long as the process runs.
const ALIVE: &str = "/healthz";
/// Answers 200 while the node serves, and 503 before and after.
const READY: &str = "/readyz";
/// Answers with what the node counts, for Prometheus.
const METRICS: &str = "/metrics";

/// Connections at a time; a further one waits.
const CONNECTIONS_MAX: usize = 32;
/// The longest that one connection may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// After an accept that failed, so that the process does not spin when it has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What a new atomic is.
const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// Answers until it is dropped; nothing when no address was given.
pub(crate) struct Health {
    known: Arc<Known>,
    thread: Option<Runtime>,
}

/// What can be said.
#[derive(Default)]
struct Known {
    state: AtomicU8,
    pressure: Pressure,
    sources: OnceLock<Sources>,
}

impl Health {
    /// Binds the address and begins to answer.
    ///
    /// # Errors
    /// It cannot be bound, or there is no further thread.
    pub(crate) async fn start(address: Option<SocketAddr>, pressure: Pressure) -> anyhow::Result<Self> {
        let known = Arc::new(Known { pressure, ..Known::default() });
        let Some(address) = address else { return Ok(Self { known, thread: None }) };
        let mut builder = Builder::new_multi_thread();
        let thread = builder.worker_threads(1).thread_name("health").enable_all().build();
        let thread = thread.context("no thread for health")?;
        let cannot = || format!("cannot listen at {address} for health");
        let listener = {
            let _entered = thread.enter();
            let listener = std::net::TcpListener::bind(address).with_context(cannot)?;
            listener.set_nonblocking(true).with_context(cannot)?;
            TcpListener::from_std(listener).with_context(cannot)?
        };
        announce::bound("health", listener.local_addr().with_context(cannot)?);
        // Ends with its thread: it holds nothing.
        thread.spawn(accept(listener, known.clone()));
        Ok(Self { known, thread: Some(thread) })
    }

    /// From now on the node is ready, and has this to show.
    pub(crate) fn serves(&self, sources: Sources) {
        let Some(thread) = &self.thread else { return };
        let sources = sources.and("health", thread.handle().clone());
        // There is nothing yet: a node begins to serve once.
        let _ = self.known.sources.set(sources);
        self.known.state.store(SERVING, Ordering::Relaxed);
    }

    /// From now on it is not.
    pub(crate) fn stops(&self) {
        self.known.state.store(STOPPING, Ordering::Relaxed);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, known: Arc<Known>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // It is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let known = known.clone();
                // Ends within a bound, and owns its place among the connections.
                tokio::spawn(async move {
                    let _permit = permit;
                    // Who asked may have gone, or be too slow: it asks again.
                    let _ = tokio::time::timeout(ANSWER_WITHIN, converse(stream, known)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for health");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One request, then the connection is closed.
async fn converse(stream: TcpStream, known: Arc<Known>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (method, path) = (request.method(), request.uri().path());
        let answer = match path == METRICS && matches!(*method, Method::GET | Method::HEAD) {
            true => shown(metrics::text(known.sources.get(), &known.pressure)),
            false => answer(method, path, known.state.load(Ordering::Relaxed), known.pressure.step()),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

fn shown(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(enfilade_runtime::metrics::CONTENT_TYPE));
    response
}

fn answer(method: &Method, path: &str, state: u8, step: Step) -> Response<Full<Bytes>> {
    let (status, text) = match (path, state) {
        _ if !matches!(*method, Method::GET | Method::HEAD) => (StatusCode::METHOD_NOT_ALLOWED, "ask with GET"),
        (ALIVE, _) => (StatusCode::OK, "ok"),
        (READY, SERVING) => match step {
            Step::Serve => (StatusCode::OK, "ok"),
            // Who is sent elsewhere would leave what goes on here.
            Step::NothingNew => (StatusCode::OK, "ok, but memory is short: no new sessions or streams"),
            Step::TheLeast => (StatusCode::SERVICE_UNAVAILABLE, "memory is nearly used up"),
        },
        (READY, STARTING) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (READY, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_is_alive_and_one_that_serves_is_ready() {
        let table = [
            (Method::GET, ALIVE, [200, 200, 200]),
            (Method::HEAD, READY, [503, 200, 503]),
            (Method::GET, READY, [503, 200, 503]),
            (Method::GET, "/", [404, 404, 404]),
            (Method::POST, READY, [405, 405, 405]),
        ];
        for (method, path, statuses) in table {
            let asked = |state, step| answer(&method, path, state, step).status().as_u16();
            let found = [STARTING, SERVING, STOPPING].map(|state| asked(state, Step::Serve));
            assert_eq!(found, statuses, "{method} {path}");
            assert_eq!(asked(SERVING, Step::NothingNew), statuses[1], "{method} {path}");
            let last = if path == READY && statuses[1] == 200 { 503 } else { statuses[1] };
            assert_eq!(asked(SERVING, Step::TheLeast), last, "{method} {path}");
        }
    }
}
