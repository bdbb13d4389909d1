//! The life of one WebSocket: it begins when hyper gives a connection up, has its buffers renewed, and ends with a code.
//!
//! What is needed for a moment only is boxed, or the task of an idle connection would keep room for it.

use super::meter::Meter;
use super::socket::{End, Socket, Start};
use crate::connection::{Connection, Edge};
use crate::linger::Lingering;
use enfilade_session::owner::ServerId;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// What is read at a time. An idle connection keeps a buffer of this size.
const READ_BYTES: usize = 1024;
/// How long the end of a connection may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs a connection that hyper gave up, until it ends.
pub(super) async fn serve(connection: Arc<Connection>, server: ServerId, upgraded: Upgraded, start: Start) {
    let Some(socket) = Box::pin(begin(&connection, server, upgraded, start)).await else { return };
    if let Some(mut io) = run(socket).await {
        // What the client still sends must not keep it from reading why.
        connection.unread.store(true, Ordering::Relaxed);
        let _ = io.shutdown().await; // It ends in any case.
    }
}

async fn begin(
    connection: &Connection,
    server: ServerId,
    upgraded: Upgraded,
    start: Start,
) -> Option<Box<Socket<Lingering>>> {
    let parts = upgraded.downcast::<TokioIo<Lingering>>().ok()?;
    let edge = connection.edge.clone();
    let mut bytes = edge.messages.empty();
    bytes.grow(parts.read_buf.len());
    let meter = Meter::new(parts.io.into_inner(), &parts.read_buf, bytes);
    // Copied, or hyper's buffer would become the library's.
    let (read, config) = (parts.read_buf.to_vec(), Some(config(&edge)));
    let ws = WebSocketStream::from_partially_read(meter, read, Role::Server, config).await;
    Some(Box::new(Socket::new(edge, server, ws, start)))
}

/// Every frame is written at once; nothing waits in a buffer of the library.
pub(super) fn config(edge: &Edge) -> WebSocketConfig {
    let bytes_max = Some(edge.config.message_bytes_max);
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(0);
    config.max_message_size(bytes_max).max_frame_size(bytes_max)
}

/// Runs to the end; gives the socket back where the client may still read from it.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Box<Socket<S>>) -> Option<S> {
    loop {
        match poll_fn(|context| socket.poll(context)).await {
            End::Renew => socket = Box::pin(renewed(*socket)).await,
            end => return Box::pin(ended(socket.into_inner(), end)).await,
        }
    }
}

/// The buffers of the library keep the size of the largest frame: they are given up after a large one.
async fn renewed<S: AsyncRead + AsyncWrite + Unpin>(socket: Socket<S>) -> Box<Socket<S>> {
    Box::new(socket.renewed(config).await)
}

async fn ended<S: AsyncRead + AsyncWrite + Unpin>(mut ws: WebSocketStream<Meter<S>>, end: End) -> Option<S> {
    match end {
        End::Gone | End::Renew => return None,
        End::Closed => {}
        End::Close(code, why) => {
            // A node that must end now has written what the socket takes at once.
            let wait = if code == CloseCode::Away { Duration::ZERO } else { FAREWELL };
            let farewell = ws.close(Some(CloseFrame { code, reason: why.into() }));
            if !matches!(tokio::time::timeout(wait, farewell).await, Ok(Ok(()))) || wait.is_zero() {
                return None;
            }
        }
    }
    Some(ws.into_inner().into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_keeps_little_room() {
        fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let (task, socket) = (size(serve), size_of::<Socket<Lingering>>());
        assert!(task <= 512 && socket <= 1024, "{task} and {socket} bytes");
    }
}
