//! One client connection: its task, what its requests share, and how it ends.

use crate::config::Config;
use crate::ending::Ending;
use crate::entrance::{Pass, SPARE_SILENCE};
use crate::guard::{Guard, Place};
use crate::hand_over::{HandOver, Next};
use crate::hold;
use crate::linger::Lingering;
use crate::metrics::Figures;
use crate::service;
use crate::stop::Stop;
use crate::streaming;
use crate::ws;
use enfilade_registry::SessionKeys;
use enfilade_session::owner::Owner;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
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
    pub(crate) figures: Figures,
    /// What it was told of its end.
    pub(crate) ending: Ending,
    /// No more requests are taken and lasting streams end.
    pub(crate) stopping: Stop,
    /// Everything ends at once.
    pub(crate) abort: Stop,
    pub(crate) tasks: TaskTracker,
}

impl Edge {
    pub(crate) fn new(
        config: Arc<Config>,
        owner: Arc<dyn Owner>,
        keys: Arc<SessionKeys>,
        ending: Ending,
        figures: Figures,
    ) -> Self {
        Self {
            ending,
            guard: Guard::new(&config),
            figures,
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
    /// An answer was its last one; HTTP/2 says so by itself, HTTP/1.1 with the answer.
    pub(crate) ends: AtomicBool,
    pub(crate) hand_over: HandOver,
    /// Its place among all connections, for as long as its socket is open.
    pub(crate) pass: Pass,
}

impl Connection {
    /// How long it may be silent.
    fn silence(&self) -> Duration {
        let configured = Duration::from_millis(self.edge.config.header_timeout_ms);
        if self.pass.is_spare() { configured.min(SPARE_SILENCE) } else { configured }
    }
}

/// Speaks the one protocol of a listening address.
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

    /// Serves one connection until it ends, or the node does. What is needed for a time only is boxed: the task of a
    /// stream that was taken over keeps no room for it.
    pub(crate) async fn serve(self: Arc<Self>, io: Box<Lingering>, connection: Arc<Connection>) {
        match &*self {
            Self::Http1(builder) if connection.pass.is_spare() => {
                let mut builder = builder.clone();
                builder.header_read_timeout(connection.silence());
                Box::pin(async move { serve_http1(&builder, io, connection).await }).await;
            }
            Self::Http1(builder) => serve_http1(builder, io, connection).await,
            Self::Http2(builder) => Box::pin(serve_http2(builder, io, connection)).await,
        }
    }
}

async fn serve_http1(builder: &http1::Builder, mut io: Box<Lingering>, connection: Arc<Connection>) {
    while let Some((taken, next)) = Box::pin(answer_http1(builder, io, &connection)).await {
        io = taken;
        match next {
            Next::WebSocket(opening) => return Box::pin(ws::serve(connection, opening, io)).await,
            Next::Events { events, closes } => {
                if !streaming::run(&mut io, events, &connection.edge).await {
                    return;
                }
                if closes {
                    let _ = io.shutdown().await; // It ends in any case.
                    return;
                }
            }
        }
    }
}

/// Answers requests until the connection ends, or goes on without hyper.
async fn answer_http1(
    builder: &http1::Builder,
    io: Box<Lingering>,
    connection: &Arc<Connection>,
) -> Option<(Box<Lingering>, Next)> {
    let (edge, hand_over) = (&connection.edge, &connection.hand_over);
    let shared = connection.clone();
    let service = service_fn(move |request| service::answer(shared.clone(), request));
    let mut http = builder.serve_connection(TokioIo::new(io), service);
    let driven = drive(Pin::new(&mut http), |http| http.graceful_shutdown(), edge, || false, || hand_over.is_due());
    let end = hold::run(pin!(driven)).await;
    // Taken in any case: what is not gone on with ends here.
    let next = match (end, hand_over.take()?) {
        (End::Done, next @ Next::WebSocket(_)) | (End::HandedOver, next @ Next::Events { .. }) => next,
        _ => return None,
    };
    let parts = http.into_parts();
    let mut io = parts.io.into_inner();
    // Copied: it is commonly nothing, or little in a large buffer.
    io.put_back(&parts.read_buf);
    Some((io, next))
}

async fn serve_http2(builder: &http2::Builder<Tracked>, io: Box<Lingering>, connection: Arc<Connection>) {
    let edge = connection.edge.clone();
    // hyper limits the time of an HTTP/1.1 head only, and pings HTTP/2 clients only once they have spoken.
    if !speaks(io.stream(), &edge, connection.silence()).await {
        return;
    }
    let shared = connection.clone();
    let service = service_fn(move |request| service::answer(shared.clone(), request));
    let http = pin!(builder.serve_connection(TokioIo::new(io), service));
    drive(http, |http| http.graceful_shutdown(), &edge, || connection.ends.load(Ordering::Relaxed), || false).await;
}

/// Waits for a client's first byte; false when none came in time, or before the node stopped.
async fn speaks(stream: &TcpStream, edge: &Edge, wait: Duration) -> bool {
    let (mut stopping, mut byte) = (edge.stopping.watch(), [0]);
    tokio::select! {
        biased;
        first = tokio::time::timeout(wait, stream.peek(&mut byte)) => matches!(first, Ok(Ok(1..))),
        () = poll_fn(|context| if stopping.poll(context) { Poll::Ready(()) } else { Poll::Pending }) => false,
    }
}

/// How hyper's part of a connection ends.
enum End {
    /// In order, or with an upgrade.
    Done,
    /// What follows is written without hyper.
    HandedOver,
    /// The client is gone, or the node ends at once.
    Broken,
}

async fn drive<C>(
    mut http: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    edge: &Edge,
    ends: impl Fn() -> bool,
    is_handed_over: impl Fn() -> bool,
) -> End
where
    C: Future<Output = hyper::Result<()>>,
{
    let (mut stopping, mut abort) = (edge.stopping.watch(), edge.abort.watch());
    let mut finishing = false;
    poll_fn(|context| {
        if !finishing && (stopping.poll(context) || ends()) {
            finishing = true;
            finish(http.as_mut());
        }
        if finishing && abort.poll(context) {
            return Poll::Ready(End::Broken);
        }
        match http.as_mut().poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Done),
            // Clients leave as they like: nothing to do, and nothing that an operator must know.
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "connection ended");
                Poll::Ready(End::Broken)
            }
            Poll::Pending if is_handed_over() => Poll::Ready(End::HandedOver),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The task of a stream keeps room for what it needs, and for no more.
    #[test]
    fn a_connection_without_hyper_keeps_little_room() {
        fn size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(Speaker::serve);
        assert!(bytes <= 256, "{bytes} bytes");
    }
}
