//! The connections to one endpoint. A call takes an idle one or dials, and gives it back when the answer has been read;
//! one driver task per connection, none per call.

use super::dial::{Target, Wire};
use crate::peer::CallError;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Connections that nobody uses are given up after this time: less than the 5 s after which common servers close
/// theirs, or a request could be lost on a connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Most idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long to wait for a connection whose last answer was only just read; it takes one turn of its driver task.
const READY_MAX: Duration = Duration::from_millis(20);

/// The body of every request: one piece, or none.
pub(crate) type Body = Full<Bytes>;

/// The connections to one endpoint.
pub(crate) struct Pool {
    target: Target,
    /// Oldest in front.
    idle: Mutex<VecDeque<Idle>>,
    /// The driver tasks, and those that read the ends of streams. They end with their connections.
    tasks: Mutex<JoinSet<()>>,
    closed: AtomicBool,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// A connection in use. Dropping it before the answer was read closes the connection.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    sender: SendRequest<Body>,
}

impl Pool {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self { target, idle: Mutex::default(), tasks: Mutex::default(), closed: AtomicBool::new(false) })
    }

    /// Sends a request and waits for the head of its answer. A request that a closing connection certainly did not
    /// write is sent again on another one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), CallError> {
        loop {
            let (mut sender, reused) = self.checkout().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { pool: self.clone(), sender })),
                Err(mut failed) => match failed.take_message() {
                    // Each round uses up an idle connection, so this ends.
                    Some(unsent) if reused => request = unsent,
                    Some(_) => return Err(CallError::Unreachable),
                    None => return Err(CallError::Lost),
                },
            }
        }
    }

    /// Ends every connection, whatever is on it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.idle.lock().clear();
        self.tasks.lock().abort_all();
    }

    async fn checkout(&self) -> Result<(SendRequest<Body>, bool), CallError> {
        while let Some(mut sender) = self.take_idle() {
            if sender.is_ready() || matches!(tokio::time::timeout(READY_MAX, sender.ready()).await, Ok(Ok(()))) {
                return Ok((sender, true));
            }
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        let wire = self.target.dial().await.map_err(|error| {
            // The breaker keeps this from being said too often.
            tracing::warn!(host = self.target.host(), %error, "no connection to the upstream");
            CallError::Unreachable
        })?;
        let sender = match wire {
            Wire::Plain(stream) => self.start(stream).await,
            Wire::Tls(stream) => self.start(stream).await,
        };
        Ok((sender?, false))
    }

    async fn start(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Body>, CallError> {
        let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|_| CallError::Unreachable)?;
        self.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the upstream ended");
            }
        });
        Ok(sender)
    }

    /// Runs a task that ends with its connection, at the latest when the pool is closed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        if self.closed.load(Ordering::Acquire) {
            tasks.abort_all();
        }
    }

    /// The connection that was used last, so that those beyond the need grow old and are given up.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        while let Some(Idle { sender, since }) = idle.pop_back() {
            if since.elapsed() > IDLE_MAX {
                idle.clear();
                return None;
            }
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: SendRequest<Body>) {
        if sender.is_closed() || self.closed.load(Ordering::Acquire) {
            return;
        }
        let since = Instant::now();
        let mut idle = self.idle.lock();
        idle.push_back(Idle { sender, since });
        let old = |front: &Idle| since.duration_since(front.since) > IDLE_MAX;
        while idle.len() > IDLE_CONNECTIONS_MAX || idle.front().is_some_and(old) {
            idle.pop_front();
        }
    }
}

impl Lease {
    /// The answer was read to its end: the connection may be used again.
    pub(crate) fn give_back(self) {
        self.pool.put(self.sender);
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }
}
