//! One connection: connect, send a request, read an answer or take the stream that it begins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Head;
use super::events::{Events, Line};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 4 << 10;
/// Longest body that is read whole.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// Nothing was sent.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// It may have been executed.
    #[error("broken: {0}")]
    Broken(io::Error),
    #[error("not an answer of HTTP/1.1")]
    NotHttp,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    /// The body, or of a stream of events the data of the last one, which is the answer.
    pub(crate) body: Vec<u8>,
}

/// A connection that nothing is under way on.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// From an address of this machine, or any. Many connections from one address to another take the kernel long: beyond
    /// half of the ephemeral ports it looks at thousands before it finds a free one.
    pub(crate) async fn open(address: SocketAddr, from: Option<IpAddr>) -> Result<Connection, Fault> {
        let connecting = timeout(CONNECT_WITHIN, connect(address, from)).await;
        let stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Fault::Connect)?;
        // Without it small requests may wait for an acknowledgement.
        stream.set_nodelay(true).map_err(Fault::Connect)?;
        Ok(Connection { stream })
    }

    /// The other side has not closed it, as far as that is known here.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer, Fault> {
        let (head, rest) = self.head(request).await?;
        self.answer(head, rest).await
    }

    /// Reads the rest of an answer, of which this came.
    pub(crate) async fn answer(&mut self, mut head: Head, mut rest: Vec<u8>) -> Result<Answer, Fault> {
        let (mut body, mut events) = (Vec::new(), Events::default());
        loop {
            let read = head.body.read(&rest, |bytes| {
                if head.is_events {
                    events.read(bytes, |line| {
                        if let Line::Data(data) = line {
                            body = data.to_vec();
                        }
                    });
                } else {
                    body.extend_from_slice(bytes);
                }
            });
            if read.is_err() || body.len() > BODY_BYTES_MAX {
                return Err(Fault::NotHttp);
            }
            if head.body.has_ended() {
                return Ok(Answer { head, body });
            }
            rest.clear();
            rest.reserve(READ_BYTES);
            match self.stream.read_buf(&mut rest).await.map_err(Fault::Broken)? {
                0 if head.body == super::Body::UntilEnd => return Ok(Answer { head, body }),
                0 => return Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
    }

    /// Sends a request and reads the head of its answer. Returns it with what came behind it.
    pub(crate) async fn head(&mut self, request: &[u8]) -> Result<(Head, Vec<u8>), Fault> {
        self.stream.write_all(request).await.map_err(Fault::Broken)?;
        let mut buffer = Vec::with_capacity(READ_BYTES / 4);
        loop {
            buffer.reserve(READ_BYTES / 4);
            if self.stream.read_buf(&mut buffer).await.map_err(Fault::Broken)? == 0 {
                return Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some((head, length)) = Head::parse(&buffer).map_err(|_| Fault::NotHttp)? {
                buffer.drain(..length);
                return Ok((head, buffer));
            }
        }
    }

    /// The socket, for a stream that stays open.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port is chosen with the address to connect to: all of them are free for each.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}
