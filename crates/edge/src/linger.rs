//! A client's socket: keeps what was read ahead, gives up a client that takes nothing, and closes so that the last answer
//! arrives. A socket that is closed with unread bytes is reset, and a reset overtakes the answer; so after a request that was
//! refused while it was still being sent, what comes is read away.

use crate::connection::Connection;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long bytes of a refused request are read away, at most.
const LINGER: Duration = Duration::from_secs(2);

/// A client that takes nothing of what waits for it during so many keep-alive times is gone, whatever its system says.
const STALL_KEEP_ALIVES: u32 = 4;

/// Bytes of later requests that are read while an answer without an end is under way. Beyond them the end of the client is
/// not seen before something is written.
const AHEAD_BYTES_MAX: usize = 8 * 1024;

/// The socket.
pub(crate) struct Lingering {
    stream: TcpStream,
    /// What was read already; it is read again first.
    ahead: Vec<u8>,
    connection: Arc<Connection>,
    /// When a client that takes nothing is given up; none while it takes what there is.
    stall: Option<Pin<Box<Sleep>>>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, ahead: Vec::new(), connection, stall: None, until: None }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Gives back what was read last, to be read again before all that is still to be read.
    pub(crate) fn put_back(&mut self, read: &[u8]) {
        self.ahead.splice(..0, read.iter().copied());
    }

    pub(crate) fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    /// What became of a write, which a client may put off for so long.
    fn patient<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let keep_alive = Duration::from_millis(self.connection.edge.config.keep_alive_ms);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_KEEP_ALIVES * keep_alive)));
        stall.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready once the client has closed its side, or is gone. What it sends meanwhile is kept.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [MaybeUninit::uninit(); 1024];
        while self.ahead.len() < AHEAD_BYTES_MAX {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.ahead.extend_from_slice(buf.filled()),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let bytes = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..bytes]);
            self.ahead.drain(..bytes);
            if self.ahead.is_empty() {
                self.ahead = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buf);
        self.patient(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.patient(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.connection.hand_over.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.until.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.connection.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let until = this.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 8 * 1024];
        while until.as_mut().poll(context).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
