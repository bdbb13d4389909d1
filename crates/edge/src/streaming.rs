//! A stream of events that was taken over from hyper: a socket, and what is written to it in chunks (RFC 9112, section 7.1).
//!
//! Rule: the stream is asked for more only when the socket has taken all of the chunk before, so a slow client is bounded by
//! the stream, and nothing is kept while nothing is said. A client that closes its side is gone, and ends the stream; so does
//! one that takes nothing for long ([`Lingering`]).

use crate::connection::Edge;
use crate::linger::Lingering;
use crate::sse::Events;
use crate::stop::Watch;
use std::future::poll_fn;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Room in front of a chunk for its length: eight hexadecimal digits and a line end.
const LENGTH_BYTES: usize = 10;
/// What most events fit in.
const CHUNK_BYTES: usize = 512;
const LINE_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes events until they end. False when the client is gone, or the node ends at once.
pub(crate) async fn run(io: &mut Lingering, events: Box<Events>, edge: &Edge) -> bool {
    let mut stream = Streaming { events, io, edge, chunk: Vec::new(), written: 0, abort: None };
    poll_fn(|context| stream.poll(context)).await
}

struct Streaming<'a> {
    events: Box<Events>,
    io: &'a mut Lingering,
    edge: &'a Edge,
    /// What is being written, and how much of it was.
    chunk: Vec<u8>,
    written: usize,
    /// Whether the node ends at once; none while the client takes what there is.
    abort: Option<Box<Watch>>,
}

impl Streaming<'_> {
    /// Ready once all is written (true), or nobody is there to take it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.io.poll_gone(context).is_ready() {
                return Poll::Ready(false);
            }
            while self.written < self.chunk.len() {
                match Pin::new(&mut *self.io).poll_write(context, &self.chunk[self.written..]) {
                    Poll::Ready(Ok(bytes)) if bytes > 0 => (self.written, self.abort) = (self.written + bytes, None),
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending if self.is_aborted(context) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.chunk = Vec::new();
            if self.events.is_done() {
                return Poll::Ready(true);
            }
            ready!(self.poll_chunk(context));
        }
    }

    /// Of a stream that waits for its client.
    fn is_aborted(&mut self, context: &mut Context<'_>) -> bool {
        if self.abort.is_none() {
            // It may stay for long: without the room that a batch could have needed.
            self.chunk.shrink_to_fit();
        }
        self.abort.get_or_insert_with(|| Box::new(self.edge.abort.watch())).poll(context)
    }

    /// Takes what the stream has.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.chunk.reserve(CHUNK_BYTES);
        self.chunk.extend([0; LENGTH_BYTES]);
        if self.events.poll(context, &mut self.chunk).is_pending() {
            self.chunk = Vec::new();
            return Poll::Pending;
        }
        self.written = frame(&mut self.chunk);
        if self.events.is_done() {
            self.chunk.extend_from_slice(LAST_CHUNK);
        }
        Poll::Ready(())
    }
}

/// Makes a chunk of what follows the room for its length; tells where it begins. No chunk without content: that is the last.
fn frame(chunk: &mut Vec<u8>) -> usize {
    let length = chunk.len() - LENGTH_BYTES;
    if length == 0 {
        return LENGTH_BYTES;
    }
    let digits = length.ilog2() as usize / 4 + 1;
    let begin = LENGTH_BYTES - LINE_END.len() - digits;
    let _ = write!(&mut chunk[begin..LENGTH_BYTES], "{length:x}\r\n"); // There is room: a length has 32 bits.
    chunk.extend_from_slice(LINE_END);
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_begins_with_its_length() {
        for length in [1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65535, 65536, 1 << 20] {
            let mut chunk = vec![0; LENGTH_BYTES];
            chunk.resize(LENGTH_BYTES + length, b'x');
            let begin = frame(&mut chunk);
            let text = format!("{length:x}\r\n{}\r\n", "x".repeat(length));
            assert!(chunk[begin..] == *text.as_bytes(), "{length}");
        }
        let mut none = vec![0; LENGTH_BYTES];
        let begin = frame(&mut none);
        assert!(none[begin..].is_empty());
    }
}
