//! HTTP/2 connections between nodes, with the windows and signs of life that links need.
//! The connection's task is ours, so that a link can be cut at once; tonic speaks gRPC on top.

use std::future::Future;
use std::pin::Pin;
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

use crate::Timing;
use crate::calm::{Calm, Tasks};
use crate::keys::SERVER_NAME;
use crate::net::BoxIo;

const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const FRAME_BYTES: u32 = 64 * 1024;

/// gRPC on a connection of ours.
pub(crate) type Client = PeerClient<H2>;

/// An open connection to a node; dropping it closes the socket.
pub(crate) struct Connection {
    pub(crate) client: Client,
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

/// Opens HTTP/2 on a connection; bodies of at most `bytes_max` are taken.
pub(crate) async fn connect(io: BoxIo, timing: &Timing, bytes_max: usize) -> hyper::Result<Connection> {
    let (sender, connection) = client::Builder::new(Tasks)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(timing.ping)
        .keep_alive_timeout(timing.pong)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await?;
    // The task ends with the connection; its error shows at every stream on it.
    let task = tokio::spawn(Calm::new(async move {
        let _ = connection.await;
    }));
    let origin = Uri::builder().scheme("http").authority(SERVER_NAME).path_and_query("/").build().unwrap_or_default();
    let client = PeerClient::with_origin(H2(sender.clone()), origin)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    Ok(Connection { client, sender, task })
}

/// Serves a connection that another node opened, until it ends or the future is dropped.
pub(crate) async fn serve<S>(io: BoxIo, timing: &Timing, streams_max: usize, service: S) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = std::convert::Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let connection = server::Builder::new(Tasks)
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
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    Calm::new(connection).await
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
