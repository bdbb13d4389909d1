//! Calls to another node: one connection per node, apart from the links, so that a queue of messages holds up no vote.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::mesh::{self as proto, CallReply, CallRequest};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use crate::dial::connect_for_calls;
use crate::hello::{PROTOCOL, cluster_bytes};
use crate::link::to_proto;
use crate::shared::Shared;
use crate::wire::{Client, Connection};
use crate::{CallError, CallFailed, CallKind};

/// The connection for calls to one node; made when it is needed.
#[derive(Default)]
pub(crate) struct Line {
    open: tokio::sync::Mutex<Option<Open>>,
}

struct Open {
    address: String,
    connection: Connection,
}

/// A call.
pub(crate) struct Call {
    pub(crate) kind: CallKind,
    pub(crate) body: Bytes,
    pub(crate) within: Duration,
}

impl Line {
    async fn client(&self, shared: &Arc<Shared>, address: &str) -> Option<Client> {
        let mut open = self.open.lock().await;
        if let Some(current) = open.as_ref().filter(|open| open.address == address && !open.connection.is_closed()) {
            return Some(current.connection.client.clone());
        }
        *open = None;
        let connection = connect_for_calls(shared, address).await?;
        let client = connection.client.clone();
        *open = Some(Open { address: address.to_owned(), connection });
        Some(client)
    }

    /// Asks the node that answers at `address`.
    pub(crate) async fn call(&self, shared: &Arc<Shared>, address: &str, call: Call) -> Result<Bytes, CallFailed> {
        if call.body.len() > shared.config.limits.call_bytes_max {
            return Err(CallFailed::TooLarge);
        }
        let deadline = Instant::now() + call.within;
        let client = timeout_at(deadline, self.client(shared, address)).await.ok().flatten();
        let mut client = client.ok_or(CallFailed::NotSent)?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let request = CallRequest {
            protocol: PROTOCOL,
            cluster: cluster_bytes(shared.cluster()),
            from: Some(to_proto(shared.config.me)),
            kind: call.kind.0,
            within_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            body: call.body,
        };
        match timeout_at(deadline, client.call(request)).await {
            Ok(Ok(reply)) => answer(reply.into_inner()),
            Ok(Err(status)) => Err(failure(&status)),
            Err(_) => Err(CallFailed::Deadline),
        }
    }
}

fn answer(reply: CallReply) -> Result<Bytes, CallFailed> {
    let error = match reply.error() {
        proto::CallError::None => return Ok(reply.body),
        proto::CallError::Unsupported => CallError::Unsupported,
        proto::CallError::Unavailable => CallError::Unavailable,
        proto::CallError::Invalid => CallError::Invalid,
        proto::CallError::Stranger => CallError::Stranger,
    };
    Err(error.into())
}

fn failure(status: &Status) -> CallFailed {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => CallFailed::TooLarge,
        Code::DeadlineExceeded => CallFailed::Deadline,
        _ => CallFailed::Lost,
    }
}
