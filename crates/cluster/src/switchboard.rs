//! What arrives on links, to those who serve it. It exists before all of them, because links do.

use crate::HEARTBEAT;
use crate::boxed;
use crate::duty::Listener;
use crate::finish::Heir;
use crate::leader::Beats;
use crate::serve::Server;
use crate::wire::{self, kind};
use bytes::Bytes;
use enfilade_mesh::{CallError, CallKind, Exchange, Mesh, Open, Serve};
use enfilade_raft::{Parts as Watched, Raft, RaftCall, Transport, Unreachable, WatchTransport};
use enfilade_registry::{BoxFuture, NodeId, Run};
use futures::StreamExt;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Answers one kind of call.
pub type OnCall = Arc<dyn Fn(Run, Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> + Send + Sync>;

/// Hands on what other nodes send. What nobody serves yet is refused as not executed.
#[derive(Default)]
pub struct Switchboard {
    raft: OnceLock<Arc<Raft>>,
    parts: RwLock<Option<Parts>>,
    calls: RwLock<BTreeMap<CallKind, OnCall>>,
    /// What is given to nodes that watch the registry here; each ends with the replica.
    watches: TaskTracker,
}

/// The parts of a cluster node that serve others.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) server: Arc<Server>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) heir: Arc<Heir>,
    pub(crate) beats: Beats,
}

impl Switchboard {
    /// With nobody behind it.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The replica of the registry; other replicas, and nodes that watch it, reach it from now on. Once.
    pub fn set_raft(&self, raft: Arc<Raft>) {
        let _ = self.raft.set(raft); // A second one would be a mistake of the composition; the first stays.
    }

    /// Answers calls of a kind from 1000 on.
    pub fn on_call(&self, kind: CallKind, answer: OnCall) {
        self.calls.write().insert(kind, answer);
    }

    pub(crate) fn connect(&self, parts: Parts) {
        *self.parts.write() = Some(parts);
    }

    /// Gives another node what it is to know of the registry, for as long as it listens and the replica runs.
    fn watched(&self, from: Run, open: Open, exchange: Exchange) {
        // Without a replica the exchange is reset, and the other node asks elsewhere.
        let Some(Ok(mut parts)) = self.raft.get().map(|raft| raft.watch(from, open.payload)) else { return };
        let (mut sending, mut receiving) = exchange.split();
        self.watches.spawn(async move {
            let given = async {
                while let Some(part) = parts.next().await {
                    if sending.send(part, false).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = given => {}
                _ = receiving.broken() => {}
            }
        });
    }

    pub(crate) fn disconnect(&self) {
        *self.parts.write() = None;
    }
}

impl Serve for Switchboard {
    fn exchange(&self, from: Run, open: Open, exchange: Exchange) {
        let parts = self.parts.read().clone();
        match (open.kind, parts) {
            (kind::WATCH, _) => self.watched(from, open, exchange),
            (kind::ASK, Some(parts)) => parts.server.exchange(open, exchange),
            (kind::WORDS, Some(parts)) => parts.listener.exchange(from, open, exchange),
            (kind::FINISH, Some(parts)) => parts.heir.exchange(&open, exchange),
            (kind, _) => {
                tracing::debug!(kind, "an exchange that nobody serves here");
                drop(exchange);
            }
        }
    }

    fn call(&self, from: Run, kind: CallKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if let Some(call) = RaftCall::from_number(kind.0) {
            let Some(raft) = self.raft.get().cloned() else { return refuse(CallError::Unavailable) };
            return boxed(async move { raft.serve(call, from.node, body).await.map_err(|_| CallError::Unavailable) });
        }
        if kind == HEARTBEAT {
            let Some(parts) = self.parts.read().clone() else { return refuse(CallError::Unavailable) };
            return boxed(async move {
                let beat = wire::decode_heartbeat(body).map_err(|_| CallError::Invalid)?;
                if beat.run != from {
                    return Err(CallError::Invalid);
                }
                Ok(wire::encode_answer(&parts.beats.ask(beat).await))
            });
        }
        match self.calls.read().get(&kind) {
            Some(answer) => answer(from, body),
            None => refuse(CallError::Unsupported),
        }
    }
}

fn refuse(why: CallError) -> BoxFuture<'static, Result<Bytes, CallError>> {
    boxed(std::future::ready(Err(why)))
}

/// The way of the registry's replicas to each other.
pub struct RaftLinks(pub Mesh);

impl Transport for RaftLinks {
    fn call(
        &self,
        to: NodeId,
        kind: RaftCall,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unreachable>> {
        boxed(async move {
            let called = self.0.call(to, CallKind(kind.number()), body, within).await;
            called.map_err(|why| unreachable(to, why))
        })
    }
}

impl WatchTransport for RaftLinks {
    fn watch(&self, to: NodeId, asked: Bytes) -> BoxFuture<'_, Result<Watched, Unreachable>> {
        boxed(async move {
            let open = Open { kind: kind::WATCH, payload: asked, last: true, ..Open::default() };
            let exchange = self.0.open(to, open).await.map_err(|why| unreachable(to, why))?;
            let parts = futures::stream::unfold(exchange, move |mut exchange| async move {
                let part = exchange.next().await?;
                Some((part.map_err(|why| unreachable(to, why)), exchange))
            });
            Ok(parts.boxed())
        })
    }
}

fn unreachable(to: NodeId, why: impl std::fmt::Display) -> Unreachable {
    Unreachable { to, why: why.to_string() }
}
