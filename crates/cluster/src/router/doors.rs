//! How a message reaches the owner on another node. The router sees no links, only this.

use crate::wire::{self, Head};
use enfilade_mesh::{Broken, Exchange, Mesh, Message, Open};
use enfilade_registry::{Fence, NodeId};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

/// Asks owners on other nodes.
pub(crate) trait Doors: Send + Sync {
    /// Asks `to`; `fence` is what the asking edge believes. Dropping the future or the events gives the question up.
    fn ask(&self, to: NodeId, fence: Option<Fence>, message: Message) -> BoxFuture<'_, Result<Answered, Failed>>;

    /// Changes when a link comes or goes.
    fn links(&self) -> watch::Receiver<Vec<NodeId>>;
}

/// What came back first.
pub(crate) struct Answered {
    /// Under which the owner acted.
    pub(crate) fence: Option<Fence>,
    pub(crate) head: Head,
    /// What follows [`Head::Events`], as it comes; nothing follows another head.
    pub(crate) events: Option<BoxStream<'static, Result<Message, Lost>>>,
}

/// There is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nothing was written to the other node.
    NotSent,
    /// It may have been executed.
    Lost,
}

/// The connection broke, or the owner may no longer speak for its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

/// Doors over links.
pub(crate) struct MeshDoors(pub(crate) Mesh);

impl Doors for MeshDoors {
    fn ask(&self, to: NodeId, fence: Option<Fence>, message: Message) -> BoxFuture<'_, Result<Answered, Failed>> {
        async move {
            let open = Open {
                kind: wire::kind::ASK,
                slot: fence.map_or(0, |fence| fence.slot.get()),
                term: fence.map_or(0, |fence| fence.term.0),
                within: None,
                traceparent: None,
                payload: message.head,
                body: message.body,
                // The owner notices that this side gives up by the reset that dropping the exchange sends.
                last: true,
            };
            let mut exchange = self.0.open(to, open).await.map_err(|_| Failed::NotSent)?;
            let first = match exchange.next_message().await {
                Some(Ok(first)) => first,
                Some(Err(Broken::Unsent)) => return Err(Failed::NotSent),
                Some(Err(_)) | None => return Err(Failed::Lost),
            };
            let (fence, head) = wire::decode_reply(first).map_err(|error| {
                tracing::error!(node = %to, %error, "an owner's answer is not understood");
                Failed::Lost
            })?;
            let events = matches!(head, Head::Events { .. }).then(|| events(exchange));
            Ok(Answered { fence, head, events })
        }
        .boxed()
    }

    fn links(&self) -> watch::Receiver<Vec<NodeId>> {
        self.0.watch()
    }
}

/// The payloads that follow; dropping the stream resets the exchange.
fn events(exchange: Exchange) -> BoxStream<'static, Result<Message, Lost>> {
    futures::stream::unfold(exchange, |mut exchange| async {
        let next = exchange.next_message().await?;
        Some((next.map_err(|_: Broken| Lost), exchange))
    })
    .boxed()
}
