//! One client connection: its task, what its requests share, and how it ends.

use crate::config::Config;
use crate::ending::Ending;
use crate::guard::{Guard, Place};
use crate::hold;
use crate::limit::{Limit, Permit};
use crate::linger::Lingering;
use crate::service;
use crate::stop::Stop;
use enfilade_registry::SessionKeys;
use enfilade_session::owner::Owner;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// Longest head of a request, in bytes. `Mcp-Param-*` headers carry arguments, so it is roomy.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Most streams at a time in one HTTP/2 connection.
const STREAMS_MAX: u32 = 1000;
/// Most streams that a client may open and reset before they were handled (rapid reset, CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 20;
/// HTTP/2 asks silent clients for a sign of life; HTTP/1.1 has no such means.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections share.
pub(crate) struct Edge {
    pub(crate) config: Arc<Config>,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) keys: Arc<SessionKeys>,
    pub(crate) guard: Guard,
    pub(crate) connections: Limit,
    pub(crate) requests: Limit,
    pub(crate) messages: Limit,
    /// What it was told of its end.
    pub(crate) ending: Ending,
    /// No more requests are taken and lasting streams end.
    pub(crate) stopping: Stop,
    /// Everything ends at once.
    pub(crate) abort: Stop,
    pub(crate) tasks: TaskTracker,
}

impl Edge {
    pub(crate) fn new(config: Arc<Config>, owner: Arc<dyn Owner>, keys: Arc<SessionKeys>, ending: Ending) -> Self {
        Self {
            ending,
            guard: Guard::new(&config),
            connections: Limit::new(config.connections_max),
            requests: Limit::new(config.requests_in_flight_max),
            messages: Limit::new(config.messages_bytes_max),
            stopping: Stop::default(),
            abort: Stop::default(),
            tasks: TaskTracker::new(),
            config,
            owner,
            keys,
        }
    }
}

/// What all requests of a connection share.
pub(crate) struct Connection {
    pub(crate) edge: Arc<Edge>,
    pub(crate) place: Place,
    /// A request was refused before all of it was read.
    pub(crate) unread: AtomicBool,
    /// Its place among all connections, for as long as its socket is open.
    pub(crate) _permit: Permit,
}

/// Speaks the one protocol of a listening address.
#[derive(Clone)]
pub(crate) enum Speaker {
    Http1(http1::Builder),
    Http2(http2::Builder<Tracked>),
}

/// Runs the streams of HTTP/2 connections, and counts them among the edge's tasks.
#[derive(Clone)]
pub(crate) struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl Speaker {
    pub(crate) fn http1(config: &Config) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
            .max_header_size(HEAD_BYTES_MAX as usize)
            // A client that closed its side is gone: its request is dropped, which cancels it where its era says so.
            .half_close(false);
        Self::Http1(builder)
    }

    pub(crate) fn http2(edge: &Edge) -> Self {
        let mut builder = http2::Builder::new(Tracked(edge.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Self::Http2(builder)
    }

    /// Serves one connection until it ends, or the node does.
    pub(crate) async fn serve(self, stream: TcpStream, connection: Arc<Connection>) {
        let edge = connection.edge.clone();
        // hyper limits the time of an HTTP/1.1 head only, and pings HTTP/2 clients only once they have spoken.
        if matches!(self, Self::Http2(_)) && !speaks(&stream, &edge).await {
            return;
        }
        let io = TokioIo::new(Lingering::new(stream, connection.clone()));
        let service = service_fn(move |request| service::answer(connection.clone(), request));
        match self {
            Self::Http1(builder) => {
                let connection = builder.serve_connection(io, service).with_upgrades();
                hold::run(pin!(drive(connection, |connection| connection.graceful_shutdown(), &edge))).await;
            }
            Self::Http2(builder) => {
                drive(builder.serve_connection(io, service), |connection| connection.graceful_shutdown(), &edge).await;
            }
        }
    }
}

/// Waits for a client's first byte; false when none came in time, or before the node stopped.
async fn speaks(stream: &TcpStream, edge: &Edge) -> bool {
    let wait = Duration::from_millis(edge.config.header_timeout_ms);
    let (mut stopping, mut byte) = (edge.stopping.watch(), [0]);
    tokio::select! {
        biased;
        first = tokio::time::timeout(wait, stream.peek(&mut byte)) => matches!(first, Ok(Ok(1..))),
        () = poll_fn(|context| if stopping.poll(context) { Poll::Ready(()) } else { Poll::Pending }) => false,
    }
}

async fn drive<C>(connection: C, finish: fn(Pin<&mut C>), edge: &Edge)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let (mut stopping, mut abort) = (edge.stopping.watch(), edge.abort.watch());
    let mut finishing = false;
    poll_fn(|context| {
        if !finishing && stopping.poll(context) {
            finishing = true;
            finish(connection.as_mut());
        }
        if finishing && abort.poll(context) {
            return Poll::Ready(());
        }
        connection.as_mut().poll(context).map(|ended| {
            // Clients leave as they like: nothing to do, and nothing that an operator must know.
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
        })
    })
    .await;
}
