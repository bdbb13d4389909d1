//! HTTP/2 connections between nodes, with the windows and signs of life that links need.
//! The connection's task is ours, so that a link can be cut at once; tonic speaks gRPC on top.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use enfilade_proto::mesh::peer_client::PeerClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tower::Service;
use tracing::debug;

use crate::Timing;
use crate::band::{Band, Tasks};
use crate::keys::SERVER_NAME;
use crate::net::BoxIo;
use crate::tls::Purpose;

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const FRAME_BYTES: u32 = 64 * 1024;

/// gRPC on a connection of ours.
pub(crate) type Client = PeerClient<H2>;

/// An open connection to a node; dropping it closes the socket.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// What runs here ends with the connection.
    pub(crate) tasks: Tasks,
    sender: client::SendRequest<Body>,
    task: JoinHandle<()>,
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tasks of a new connection. Calls do not wait for each other, and one that panics ends no other.
fn tasks(purpose: Purpose) -> Tasks {
    match purpose {
        Purpose::Link => Tasks::Together(Arc::default()),
        Purpose::Calls => Tasks::Apart,
    }
}

/// Opens HTTP/2 on a connection; bodies of at most `bytes_max` are taken.
pub(crate) async fn connect(
    io: BoxIo,
    purpose: Purpose,
    timing: &Timing,
    bytes_max: usize,
) -> hyper::Result<Connection> {
    let tasks = tasks(purpose);
    let handshake = client::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(timing.ping)
        .keep_alive_timeout(timing.pong)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io));
    let (sender, connection) = handshake.await?;
    // The task ends with the connection; its error shows at every stream on it.
    let connection = async move { drop(connection.await) };
    let task = match &tasks {
        Tasks::Apart => tokio::spawn(connection),
        Tasks::Together(shared) => tokio::spawn(Band::new(Arc::clone(shared), connection)),
    };
    let origin = Uri::builder().scheme("http").authority(SERVER_NAME).path_and_query("/").build().unwrap_or_default();
    let client = PeerClient::with_origin(H2(sender.clone()), origin)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    Ok(Connection { client, tasks, sender, task })
}

/// Serves a connection that another node opened, until it ends or the future is dropped.
pub(crate) async fn serve<S>(
    io: BoxIo,
    purpose: Purpose,
    timing: &Timing,
    streams_max: usize,
    service: impl FnOnce(Tasks) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = std::convert::Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let tasks = tasks(purpose);
    let service = TowerToHyperService::new(service(tasks.clone()));
    let connection = server::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(timing.ping)
        .keep_alive_timeout(timing.pong)
        // As many calls as are answered, the link, and some that are refused in words.
        .max_concurrent_streams(u32::try_from(streams_max).unwrap_or(u32::MAX).saturating_add(64))
        // Calls that are given up before they were seen are no attack: the other side is a node.
        .max_pending_accept_reset_streams(streams_max)
        .serve_connection(TokioIo::new(io), service);
    let connection = async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended");
        }
    };
    match tasks {
        Tasks::Apart => connection.await,
        Tasks::Together(shared) => Band::new(shared, connection).await,
    }
}

/// A connection as the service that generated clients want.
#[derive(Clone)]
pub(crate) struct H2(client::SendRequest<Body>);

impl Service<Request<Body>> for H2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
