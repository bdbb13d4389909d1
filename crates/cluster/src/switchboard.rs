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
use enfilade_raft::{Raft, RaftCall, Transport, Unreachable};
use enfilade_registry::{BoxFuture, NodeId, Run};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Answers one kind of call.
pub type OnCall = Arc<dyn Fn(Run, Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> + Send + Sync>;

/// Hands on what other nodes send. What nobody serves yet is refused as not executed.
#[derive(Default)]
pub struct Switchboard {
    raft: OnceLock<Arc<Raft>>,
    parts: RwLock<Option<Parts>>,
    calls: RwLock<BTreeMap<CallKind, OnCall>>,
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

    /// The replica of the registry; calls of other replicas reach it from now on. Once.
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

    pub(crate) fn disconnect(&self) {
        *self.parts.write() = None;
    }
}

impl Serve for Switchboard {
    fn exchange(&self, from: Run, open: Open, exchange: Exchange) {
        let parts = self.parts.read().clone();
        match (open.kind, parts) {
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
            called.map_err(|why| Unreachable { to, why: why.to_string() })
        })
    }
}
