//! The bytes of one WebSocket: counts what was read of a message that is not complete towards the bytes of all messages,
//! notes when the client was heard, and where its frames end.

use super::boundary::Boundary;
use enfilade_runtime::Permit;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What the frame of a client's control message takes beside its content (RFC 6455, section 5.2).
const CONTROL_HEAD_BYTES: usize = 6;

/// A socket, and what came of it.
pub(crate) struct Meter<S> {
    io: S,
    boundary: Boundary,
    unread: Permit,
    since: Option<Instant>,
    heard: bool,
    taken: bool,
    overloaded: bool,
}

impl<S> Meter<S> {
    /// Begins with what was read already; `unread` holds its share.
    pub(crate) fn new(io: S, read: &[u8], unread: Permit) -> Self {
        let mut boundary = Boundary::default();
        boundary.follow(read);
        Self { io, boundary, unread, since: None, heard: false, taken: false, overloaded: false }
    }

    /// The share of the message that has just become complete.
    pub(crate) fn take(&mut self) -> Permit {
        self.since = None;
        self.unread.take()
    }

    /// A control message of so many bytes came, perhaps amid the parts of another one.
    pub(crate) fn control(&mut self, bytes: usize) {
        self.unread.shrink(bytes + CONTROL_HEAD_BYTES);
        if self.unread.is_empty() {
            self.since = None;
        }
    }

    /// Whether anything was heard since this was asked last.
    pub(crate) fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Whether the client took anything since this was asked last.
    pub(crate) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.taken)
    }

    /// For how long a message has been on its way.
    pub(crate) fn pending(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// There was no room for what came.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// What was read last was large, and all of it was taken out of the buffer in front of this.
    pub(crate) fn has_read_large(&self) -> bool {
        self.boundary.is_reached()
    }

    /// The same with a new buffer in front of it.
    pub(crate) fn renewed(self) -> Self {
        Self { boundary: Boundary::default(), ..self }
    }

    pub(crate) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Meter<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = self.boundary.limit().unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.io).poll_read(context, &mut part))?;
        let bytes = part.filled().len();
        if bytes == 0 {
            return Poll::Ready(Ok(()));
        }
        self.boundary.follow(part.filled());
        buf.advance(bytes);
        self.heard = true;
        if !self.unread.grow(bytes) {
            self.overloaded = true;
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.since.get_or_insert_with(Instant::now);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Meter<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, buf));
        self.taken = true;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
