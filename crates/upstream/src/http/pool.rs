//! The connections to one endpoint. A call takes an idle one or dials, and gives it back when the answer has been read.

use super::dial::Target;
use super::link::{Body, Link};
use super::signal::Signal;
use crate::peer::CallError;
use bytes::Bytes;
use enfilade_runtime::{Limit, Permit};
use http::{Request, Response};
use hyper::body::{Frame, Incoming};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections that nobody uses are given up after this time: less than the 5 s after which common servers close
/// theirs, or a request could be lost on a connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Most idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The connections to one endpoint.
pub(crate) struct Pool {
    target: Target,
    idle: Mutex<Idle>,
    /// Of every connection, in use or not.
    signals: Mutex<Vec<Weak<Signal>>>,
    /// Those that read the ends of streams, and the one that gives up idle connections.
    tasks: Mutex<JoinSet<()>>,
    closed: AtomicBool,
    /// Bytes of large answers under way.
    answers: Limit,
}

#[derive(Default)]
struct Idle {
    /// Oldest in front.
    links: VecDeque<(Link, Instant)>,
    /// A task is there to give them up.
    reaped: bool,
}

/// A connection in use. Dropping it before the answer was read closes the connection.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    link: Link,
}

impl Pool {
    pub(crate) fn new(target: Target, answers: Limit) -> Arc<Self> {
        let (idle, signals, tasks) = Default::default();
        Arc::new(Self { target, idle, signals, tasks, closed: AtomicBool::new(false), answers })
    }

    /// Sends a request and waits for the head of its answer. A request that a closing connection certainly did not
    /// write is sent again on another one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), CallError> {
        loop {
            let (mut link, reused) = self.checkout().await?;
            let answer = pin!(link.begin(request));
            match link.head(answer).await {
                Ok(response) => return Ok((response, Lease { pool: self.clone(), link })),
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
        self.idle.lock().links.clear();
        self.signals.lock().drain(..).filter_map(|signal| signal.upgrade()).for_each(|signal| signal.end());
        self.tasks.lock().abort_all();
    }

    async fn checkout(&self) -> Result<(Link, bool), CallError> {
        if let Some(link) = self.take_idle() {
            return Ok((link, true));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        // Boxed: it is large and seldom needed, and every call has room for what is not.
        let wire = Box::pin(self.target.dial()).await.map_err(|error| {
            // The breaker keeps this from being said too often.
            tracing::warn!(host = self.target.host(), %error, "no connection to the upstream");
            CallError::Unreachable
        })?;
        let link = Link::new(wire).await.map_err(|_| CallError::Unreachable)?;
        self.watch(&link);
        Ok((link, false))
    }

    /// Makes [`Pool::close`] end a connection.
    fn watch(&self, link: &Link) {
        let mut signals = self.signals.lock();
        if signals.len() == signals.capacity() {
            signals.retain(|signal| signal.strong_count() > 0);
        }
        signals.push(Arc::downgrade(link.signal()));
        if self.closed.load(Ordering::Acquire) {
            link.signal().end();
        }
    }

    /// Runs a task that ends on its own, at the latest when the pool is closed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        if self.closed.load(Ordering::Acquire) {
            tasks.abort_all();
        }
    }

    /// The connection that was used last, so that those beyond the need grow old and are given up.
    fn take_idle(&self) -> Option<Link> {
        let (link, since) = self.idle.lock().links.pop_back()?;
        (since.elapsed() < IDLE_MAX).then_some(link)
    }

    fn put(self: &Arc<Self>, link: Link) {
        let mut idle = self.idle.lock();
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        idle.links.push_back((link, Instant::now()));
        let surplus = if idle.links.len() > IDLE_CONNECTIONS_MAX { idle.links.pop_front() } else { None };
        let reaped = std::mem::replace(&mut idle.reaped, true);
        drop(idle);
        drop(surplus);
        if !reaped {
            self.spawn(reap(Arc::downgrade(self)));
        }
    }

    /// Gives up what was idle for too long; tells since when the oldest of the others is.
    fn give_up(&self) -> Option<Instant> {
        let mut idle = self.idle.lock();
        while idle.links.front().is_some_and(|(_, since)| since.elapsed() >= IDLE_MAX) {
            idle.links.pop_front();
        }
        let oldest = idle.links.front().map(|(_, since)| *since);
        idle.reaped = oldest.is_some();
        oldest
    }
}

/// Gives up idle connections until there are none. Nobody drives them, so an upstream that closed one waits for this.
async fn reap(pool: Weak<Pool>) {
    while let Some(oldest) = pool.upgrade().and_then(|pool| pool.give_up()) {
        tokio::time::sleep_until(oldest + IDLE_MAX).await;
    }
}

impl Lease {
    /// The next piece of the answer's body. Cancel safe.
    pub(crate) async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        self.link.frame(body).await
    }

    /// Counts so many bytes of the answer; false where there is no room for them.
    pub(crate) fn covers(&self, share: &mut Option<Permit>, bytes: usize) -> bool {
        self.pool.answers.covers(share, bytes)
    }

    /// The answer was read to its end: the connection may be used again.
    pub(crate) fn give_back(mut self) {
        if self.link.rest() {
            self.pool.put(self.link);
        }
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Endpoint;
    use super::*;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Answers one request; gives the connection back.
    async fn answer_one(listener: &TcpListener) -> TcpStream {
        let mut stream = listener.accept().await.unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"ping") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong").await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let endpoint = Endpoint::new(&url, &BTreeMap::new(), Limit::new(1)).unwrap();
        let started = Instant::now();
        let request = endpoint.post(Bytes::from_static(b"ping"));
        let (reply, mut stream) = futures::join!(endpoint.send(request), answer_one(&listener));
        assert_eq!(reply.unwrap().collect().await.unwrap(), "pong");
        // From here on time passes as soon as nothing else can happen.
        tokio::time::pause();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        assert!(started.elapsed() >= IDLE_MAX, "{:?}", started.elapsed());
    }
}
