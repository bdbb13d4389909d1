//! The life of one WebSocket: it begins when hyper gives a connection up, has its buffers renewed, and ends with a code.
//!
//! What is needed for a moment only is boxed, or the task of an idle connection would keep room for it.

use super::handshake::Opening;
use super::meter::Meter;
use super::socket::{End, Socket};
use crate::connection::{Connection, Edge};
use crate::linger::Lingering;
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
pub(crate) async fn serve(connection: Arc<Connection>, opening: Box<Opening>, io: Box<Lingering>) {
    let socket = Box::pin(begin(&connection, opening, io)).await;
    if let Some(mut io) = run(socket).await {
        // What the client still sends must not keep it from reading why.
        connection.unread.store(true, Ordering::Relaxed);
        let _ = io.shutdown().await; // It ends in any case.
    }
}

async fn begin(connection: &Connection, opening: Box<Opening>, mut io: Box<Lingering>) -> Box<Socket<Box<Lingering>>> {
    let edge = connection.edge.clone();
    let (read, mut bytes) = (io.take_ahead(), edge.figures.messages.empty());
    bytes.grow(read.len());
    let (meter, config) = (Meter::new(io, &read, bytes), Some(config(&edge)));
    let ws = WebSocketStream::from_partially_read(meter, read, Role::Server, config).await;
    Box::new(Socket::new(edge, opening.server, ws, opening.start))
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
        fn size<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let (task, socket) = (size(serve), size_of::<Socket<Box<Lingering>>>());
        assert!(task <= 320 && socket <= 1024, "{task} and {socket} bytes");
    }
}
