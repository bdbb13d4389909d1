//! The coordinator's end of the exchange with workers: a gRPC server that hands on what they say, in order of arrival.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;

use crate::proto::coordinator_server::{self, CoordinatorServer};
use crate::proto::{FromWorker, ToWorker, from_worker, to_worker};

/// What workers say may wait here; they wait when it is full.
const HEARD_MAX: usize = 256;
/// What is said to one worker: a handful in all.
const SAID_MAX: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A worker by the order of arrival, and what it said.
pub(crate) struct Heard {
    pub(crate) worker: usize,
    pub(crate) what: What,
}

/// What a worker did.
pub(crate) enum What {
    /// It came; this is how it is spoken to.
    Came(Speaker),
    Said(from_worker::Message),
    /// The exchange has ended.
    Gone,
}

/// The way to one worker.
#[derive(Clone)]
pub(crate) struct Speaker(mpsc::Sender<Result<ToWorker, Status>>);

impl Speaker {
    /// Says something; a worker that is gone is noticed elsewhere.
    pub(crate) async fn say(&self, message: to_worker::Message) {
        let _ = self.0.send(Ok(ToWorker { message: Some(message) })).await;
    }
}

struct Service {
    came: AtomicUsize,
    heard: mpsc::Sender<Heard>,
}

/// Listens; returns where, and what is heard.
pub(crate) async fn start(listen: SocketAddr) -> Result<(SocketAddr, mpsc::Receiver<Heard>)> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let (heard, hears) = mpsc::channel(HEARD_MAX);
    let service = CoordinatorServer::new(Service { came: AtomicUsize::new(0), heard })
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, service.clone()))),
                // Out of descriptors, for one: wait a little instead of spinning.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    });
    Ok((address, hears))
}

async fn connection(stream: TcpStream, service: CoordinatorServer<Service>) {
    // Small messages need not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| service.clone().oneshot(request));
    // That it broke is noticed in the exchange.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

#[tonic::async_trait]
impl coordinator_server::Coordinator for Service {
    type WorkStream = Pin<Box<dyn Stream<Item = Result<ToWorker, Status>> + Send>>;

    async fn work(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::WorkStream>, Status> {
        let worker = self.came.fetch_add(1, Ordering::Relaxed);
        let (says, said) = mpsc::channel(SAID_MAX);
        let heard = self.heard.clone();
        tokio::spawn(hand_on(worker, request.into_inner(), Speaker(says), heard));
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

async fn hand_on(worker: usize, mut from: Streaming<FromWorker>, speaker: Speaker, heard: mpsc::Sender<Heard>) {
    let tell = async |what| heard.send(Heard { worker, what }).await.is_ok();
    if !tell(What::Came(speaker)).await {
        return;
    }
    while let Ok(Some(message)) = from.message().await {
        if let Some(message) = message.message
            && !tell(What::Said(message)).await
        {
            return;
        }
    }
    tell(What::Gone).await;
}
