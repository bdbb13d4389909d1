//! An exchange: messages in both directions between two nodes, one of many on a link.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::mesh::ResetReason;
use enfilade_registry::Run;
use futures::Stream;

use crate::Broken;
use crate::flow::Flow;

/// What begins an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// What it is about; the meaning is the users'.
    pub kind: u32,
    /// The slot it concerns.
    pub slot: u16,
    /// The term that the opener believes the slot has.
    pub term: u64,
    /// Time for the whole exchange. When it is over, both ends are [`Broken::Deadline`].
    pub within: Option<Duration>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The first message.
    pub payload: Bytes,
    /// Its second part, as [`Message::body`].
    pub body: Bytes,
    /// No more from the opener.
    pub last: bool,
}

/// What is said at once. It may have two parts, so that large bytes need not be copied behind what is said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// All of it, or what is said of the body.
    pub head: Bytes,
    /// Often empty.
    pub body: Bytes,
}

impl Message {
    /// Bytes of both parts.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both parts as one; copies them when there are two.
    fn joined(self) -> Bytes {
        if self.body.is_empty() { self.head } else { [self.head, self.body].concat().into() }
    }
}

impl From<Bytes> for Message {
    fn from(head: Bytes) -> Self {
        Self { head, body: Bytes::new() }
    }
}

/// One end of an exchange. Dropping it before both sides said `last` resets it at the other end.
pub struct Exchange {
    sending: Sending,
    receiving: Receiving,
}

impl Exchange {
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        Self { sending: Sending { flow: Arc::clone(&flow) }, receiving: Receiving { flow } }
    }

    /// The node at the other end.
    pub fn peer(&self) -> Run {
        self.sending.peer()
    }

    /// Sends a message; waits while the other side has given no credit. Dropping the future before it is ready takes
    /// the message back. With `last` it is the last of this side; an empty one then is only the end, no message.
    pub async fn send(&mut self, message: impl Into<Message>, last: bool) -> Result<(), Broken> {
        self.sending.send(message, last).await
    }

    /// The next message. `None`: the other side said `last`. What arrived before an exchange broke comes first.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        self.receiving.next().await
    }

    /// As [`Exchange::next`], in the parts that it was sent in.
    pub async fn next_message(&mut self) -> Option<Result<Message, Broken>> {
        self.receiving.next_message().await
    }

    /// As [`Sending::broken`].
    pub async fn broken(&mut self) -> Broken {
        self.sending.broken().await
    }

    /// The two directions, to be used from different tasks.
    pub fn split(self) -> (Sending, Receiving) {
        (self.sending, self.receiving)
    }

    /// Ends it at both ends for a reason other than lost interest.
    pub(crate) fn reset(self, reason: ResetReason) {
        self.sending.flow.reset(reason);
    }
}

/// The sending direction. Dropping it before `last` was sent resets the exchange.
pub struct Sending {
    flow: Arc<Flow>,
}

impl Sending {
    /// The node at the other end.
    pub fn peer(&self) -> Run {
        self.flow.peer
    }

    /// As [`Exchange::send`].
    pub async fn send(&mut self, message: impl Into<Message>, last: bool) -> Result<(), Broken> {
        let message = message.into();
        if message.len() > self.flow.message_bytes_max() {
            return Err(Broken::TooLarge);
        }
        let mut message = Some((message, last));
        poll_fn(|cx| self.flow.poll_send(&mut message, cx)).await
    }

    /// Waits until the exchange is broken, by whatever; [`Broken::Finished`] once both sides said `last`. It is how
    /// one who works on an answer learns that nobody waits for it any more.
    pub async fn broken(&mut self) -> Broken {
        poll_fn(|cx| self.flow.poll_broken(cx)).await
    }

    /// Ends the exchange at both ends for a reason other than lost interest.
    pub(crate) fn reset(&self, reason: ResetReason) {
        self.flow.reset(reason);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.flow.drop_sending();
    }
}

/// The receiving direction; a [`Stream`] of messages, each as one. Dropping it before the other side said `last` resets the exchange.
pub struct Receiving {
    flow: Arc<Flow>,
}

impl Receiving {
    /// The node at the other end.
    pub fn peer(&self) -> Run {
        self.flow.peer
    }

    /// As [`Sending::broken`]; for one who has heard the last and wants to know whether the other side still listens.
    pub async fn broken(&mut self) -> Broken {
        poll_fn(|cx| self.flow.poll_broken(cx)).await
    }

    /// As [`Exchange::next`].
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        Some(self.next_message().await?.map(Message::joined))
    }

    /// As [`Exchange::next_message`].
    pub async fn next_message(&mut self) -> Option<Result<Message, Broken>> {
        poll_fn(|cx| self.flow.poll_next(cx)).await
    }
}

impl Stream for Receiving {
    type Item = Result<Bytes, Broken>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.flow.poll_next(cx).map(|next| Some(next?.map(Message::joined)))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.flow.drop_receiving();
    }
}
