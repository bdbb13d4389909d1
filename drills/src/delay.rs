//! A wire that is longer than it is: bytes come out as they went in, some time later.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces that are under way in one direction at most.
const PIECES_MAX: usize = 1024;

/// A delayed way to one address, which may become known later.
pub(crate) struct Wire {
    address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
}

impl Wire {
    /// Listens; what arrives goes on after `delay`, and likewise back.
    pub(crate) async fn new(delay: Duration) -> Result<Wire> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (to, known) = watch::channel(None);
        let wire = Wire { address: listener.local_addr()?, to };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut known = known.clone();
                tokio::spawn(async move {
                    let to = known.wait_for(Option::is_some).await.ok().and_then(|to| *to);
                    if let Some(to) = to {
                        carry(stream, to, delay).await;
                    }
                });
            }
        });
        Ok(wire)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads.
    pub(crate) fn leads_to(&self, address: SocketAddr) {
        self.to.send_replace(Some(address));
    }
}

async fn carry(near: TcpStream, to: SocketAddr, delay: Duration) {
    // Refused: so is the one who wanted it.
    let Ok(far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = one_way(near_in, far_out, delay) => {}
        () = one_way(far_in, near_out, delay) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if pieces.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = under_way.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_but_later() -> Result<()> {
        let (wire, echo) = (Wire::new(Duration::from_millis(20)).await?, TcpListener::bind("127.0.0.1:0").await?);
        wire.leads_to(echo.local_addr()?);
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
        let (mut stream, begun) = (TcpStream::connect(wire.address()).await?, Instant::now());
        let mut answer = [0; 5];
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        assert!(begun.elapsed() >= Duration::from_millis(40), "{:?}", begun.elapsed());
        Ok(())
    }
}
