//! One HTTP/1.1 connection to an upstream. Whoever waits for an answer drives it: there is no task beside the call's, and
//! nothing passes between threads. Nobody drives an idle one; what happened to it meanwhile shows when it is used again.

use super::dial::Wire;
use super::signal::{Signal, quietly};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::task::coop::unconstrained;

/// The body of every request: one piece, or none.
pub(crate) type Body = Full<Bytes>;

/// The head of an answer.
pub(crate) type Head = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// A connection. Dropping it closes it.
pub(crate) struct Link {
    sender: SendRequest<Body>,
    /// Nothing once the connection has ended.
    connection: Option<Box<Connection<TokioIo<Wire>, Body>>>,
    signal: Arc<Signal>,
    waker: Waker,
}

impl Link {
    /// Speaks HTTP over an open connection.
    pub(crate) async fn new(wire: Wire) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new().handshake(TokioIo::new(wire)).await?;
        let signal = Arc::new(Signal::default());
        let waker = signal.clone().into();
        Ok(Self { sender, connection: Some(Box::new(connection)), signal, waker })
    }

    /// Ends the connection from elsewhere.
    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Hands a request to the connection, which [`Link::head`] drives. Not asynchronous itself, for a request is large and
    /// each future that takes one keeps room for it.
    pub(crate) fn begin(&mut self, request: Request<Body>) -> impl Future<Output = Head> + Send + use<> {
        // Only driving brings the answer on, so waiting for it needs no waker, and must not be put off for fairness.
        unconstrained(self.sender.try_send_request(request))
    }

    /// Waits for the head of the answer to the request that was begun.
    pub(crate) async fn head(&mut self, mut answer: Pin<&mut impl Future<Output = Head>>) -> Head {
        poll_fn(|context| {
            self.drive(context);
            quietly(|quiet| answer.as_mut().poll(quiet))
        })
        .await
    }

    /// The next piece of an answer's body. Cancel safe.
    pub(crate) async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|context| {
            let taken = quietly(|quiet| Pin::new(&mut *body).poll_frame(quiet));
            if taken.is_ready() {
                return taken;
            }
            self.drive(context);
            quietly(|quiet| Pin::new(&mut *body).poll_frame(quiet))
        })
        .await
    }

    /// After an answer was read to its end: true when another request may be sent.
    pub(crate) fn rest(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.drive(&Context::from_waker(Waker::noop()));
        }
        self.signal.unused();
        self.connection.is_some() && self.sender.is_ready()
    }

    fn drive(&mut self, context: &Context<'_>) {
        self.signal.used_by(context);
        let Some(connection) = &mut self.connection else { return };
        if self.signal.is_ended() {
            self.connection = None;
        } else if let Poll::Ready(ended) = Pin::new(connection).poll(&mut Context::from_waker(&self.waker)) {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection to the upstream ended");
            }
            self.connection = None;
        }
    }
}
