//! Takes connections of other nodes, and the links and calls on them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::mesh::peer_server::{Peer, PeerServer};
use enfilade_proto::mesh::{self as proto, CallReply, CallRequest, Frame, Hello};
use hyper::rt::Executor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use crate::band::Tasks;
use crate::dial::FRAME_OVERHEAD;
use crate::hello::{self, Stranger};
use crate::link::{self, Link};
use crate::net::{BoxIo, Listen};
use crate::outbox::{Answer, Outbox};
use crate::peers::Linked;
use crate::shared::Shared;
use crate::tls::Purpose;
use crate::{CallError, CallKind, Open, reader, relay, wire};

/// After an error of the socket, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the mesh closes.
pub(crate) async fn accept(shared: Arc<Shared>, listener: Box<dyn Listen>) {
    let room = Arc::new(Semaphore::new(shared.config.limits.connections_max));
    while let Some(accepted) = shared.closing.run_until_cancelled(listener.accept()).await {
        let io = match accepted {
            Ok(io) => io,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            warn!("too many connections from other nodes: one was closed");
            continue;
        };
        let greeting = greet(Arc::clone(&shared), io, permit);
        shared.spawn_on(&shared.control, &shared.tasks, greeting);
    }
}

/// Greets who dialled, and serves the connection where it belongs.
async fn greet(shared: Arc<Shared>, io: BoxIo, permit: OwnedSemaphorePermit) {
    let (io, purpose) = match &shared.tls {
        None => (io, Purpose::Link),
        Some(tls) => match timeout(shared.config.timing.connect, tls.accept(io, &shared.links)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return debug!(%error, "a connection without the cluster's keys was refused"),
            Err(_) => return debug!("a connection was silent"),
        },
    };
    let runtime = match purpose {
        Purpose::Link => &shared.links,
        Purpose::Calls => &shared.control,
    };
    let connection = connection(Arc::clone(&shared), io, purpose);
    shared.spawn_on(runtime, &shared.tasks, async move {
        connection.await;
        drop(permit);
    });
}

async fn connection(shared: Arc<Shared>, io: BoxIo, purpose: Purpose) {
    let timing = shared.config.timing;
    let limits = &shared.config.limits;
    let bytes_max = limits.message_bytes_max.max(limits.call_bytes_max) + FRAME_OVERHEAD;
    let service = |tasks| {
        PeerServer::new(Service { shared: Arc::clone(&shared), tasks })
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(bytes_max)
    };
    wire::serve(io, purpose, &timing, limits.calls_max, service).await;
}

struct Service {
    shared: Arc<Shared>,
    /// Of the connection.
    tasks: Tasks,
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = Answer;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Answer>, Status> {
        if self.shared.closing.is_cancelled() {
            return Err(Status::unavailable("closing"));
        }
        let mut frames = request.into_inner();
        let limit = self.shared.config.timing.connect;
        let first = timeout(limit, frames.message()).await.map_err(|_| Status::deadline_exceeded("no greeting"))??;
        let hello = hello::greeting(first).ok_or_else(|| Status::invalid_argument("no greeting"))?;
        let link = self.enter(&hello).map_err(|stranger| {
            info!(%stranger, "a link was refused");
            Status::failed_precondition(stranger.to_string())
        })?;
        let answer = Answer(Arc::clone(&link.outbox));
        let shared = Arc::clone(&self.shared);
        self.tasks.execute(self.shared.readers.track_future(async move {
            let ended = reader::read(&link, frames, |open| {
                take(&shared, &link, open);
                Ok(())
            })
            .await;
            shared.accepted.leave(&link);
            debug!(from = %link.peer, reason = %ended, "a link from another node ended");
        }));
        Ok(Response::new(answer))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let request = request.into_inner();
        let limit = Duration::from_millis(u64::from(request.within_ms.max(1)));
        // Nobody waits for a late answer; and it is no refusal: what was begun may have been done.
        let in_time = timeout(limit, self.answer(request)).await;
        let answered = in_time.map_err(|_| Status::deadline_exceeded("no answer in time"))?;
        let (error, body) = match answered {
            Ok(body) => (proto::CallError::None, body),
            Err(CallError::Unsupported) => (proto::CallError::Unsupported, Bytes::new()),
            Err(CallError::Unavailable) => (proto::CallError::Unavailable, Bytes::new()),
            Err(CallError::Invalid) => (proto::CallError::Invalid, Bytes::new()),
            Err(CallError::Stranger) => (proto::CallError::Stranger, Bytes::new()),
        };
        Ok(Response::new(CallReply { error: error.into(), body }))
    }
}

impl Service {
    fn enter(&self, hello: &Hello) -> Result<Arc<Link>, Stranger> {
        let shared = &self.shared;
        let config = &shared.config;
        let mine = shared.cluster();
        let (run, cluster) = hello::check(config.me, mine, hello.protocol, &hello.cluster, hello.run.as_ref())?;
        let outbox = Arc::new(Outbox::new(config.limits.queue_bytes_max));
        let link = Link::new(run, Arc::clone(&outbox), &config.limits, hello);
        // The greeting is queued first; what changes after it was made is announced after it.
        let linked = shared.peers.connected();
        let _ = outbox.push(hello::hello(config.me, mine, &linked, &config.limits));
        shared.accepted.enter(Linked { link: Arc::clone(&link), cluster })?;
        let now = shared.peers.connected();
        if now != linked {
            link.announce(&now);
        }
        shared.peers.heard(run);
        Ok(link)
    }

    async fn answer(&self, request: CallRequest) -> Result<Bytes, CallError> {
        let shared = &self.shared;
        let checked =
            hello::check(shared.config.me, shared.cluster(), request.protocol, &request.cluster, request.from.as_ref());
        let (from, _) = checked.map_err(|stranger| {
            debug!(%stranger, "a call was refused");
            CallError::Stranger
        })?;
        if shared.closing.is_cancelled() {
            return Err(CallError::Unavailable);
        }
        let _permit = shared.calls.try_acquire().map_err(|_| CallError::Unavailable)?;
        shared.serve.call(from, CallKind(request.kind), request.body).await
    }
}

/// Takes an exchange that another node opened: for this node, or to be relayed.
fn take(shared: &Arc<Shared>, link: &Arc<Link>, frame: proto::Open) {
    let from = frame.relayed_for.as_ref().map_or(link.peer, hello::from_proto);
    let Some(exchange) = link.accept(&frame, from) else { return };
    let relay_to = frame.relay_to;
    let open = Open {
        kind: frame.kind,
        slot: u16::try_from(frame.slot).unwrap_or(u16::MAX),
        term: frame.term,
        within: link::within(&frame),
        traceparent: (!frame.traceparent.is_empty()).then_some(frame.traceparent),
        payload: link::kept(frame.payload),
        body: link::kept(frame.body),
        last: frame.last,
    };
    match relay_to {
        None => shared.serve.exchange(from, open, exchange),
        Some(node) => relay::begin(shared, enfilade_registry::NodeId(node), from, open, exchange),
    }
}
