//! Opens connections to one host and port: every address of the name is tried, the next one as soon as the one before
//! failed or is slow (RFC 8305 in small), and TLS is put on top for `https`.

use futures::stream::{FuturesUnordered, StreamExt};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long all attempts of one connection may take together; TLS has as long again.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// After this time the next address is tried beside the slow one.
const STAGGER: Duration = Duration::from_millis(250);

/// Where connections go.
pub(crate) struct Target {
    host: Box<str>,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An open connection.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The same for both: `$stream` is the pinned stream of either.
macro_rules! either {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire {
            Wire::Plain($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(context, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl Target {
    /// A host as URLs have it: IPv6 addresses in brackets.
    ///
    /// # Errors
    /// For `https`: why no certificate could be verified there.
    pub(crate) fn new(host: &str, port: u16, https: bool) -> Result<Self, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = https.then(|| tls(host)).transpose()?;
        Ok(Self { host: host.into(), port, tls })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Opens a connection.
    pub(crate) async fn dial(&self) -> io::Result<Wire> {
        let tcp = tokio::time::timeout(CONNECT_MAX, self.connect()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        tcp.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Wire::Plain(tcp)) };
        let handshake = connector.connect(name.clone(), tcp);
        let stream = tokio::time::timeout(CONNECT_MAX, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Wire::Tls(Box::new(stream)))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let found = tokio::net::lookup_host((self.host.as_ref(), self.port)).await?;
        let mut addresses = interleave(found.collect()).into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        loop {
            let next = addresses.next();
            let last = next.is_none();
            attempts.extend(next.map(TcpStream::connect));
            tokio::select! {
                attempt = attempts.next() => match attempt {
                    Some(Ok(stream)) => return Ok(stream),
                    Some(Err(error)) => failure = error,
                    None if last => return Err(failure),
                    None => {}
                },
                () = tokio::time::sleep(STAGGER), if !last => {}
            }
        }
    }
}

/// Both families in turn, each in the resolver's order.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    std::iter::from_fn(|| Some([one.next(), other.next()]).filter(|pair| pair.iter().any(Option::is_some)))
        .flatten()
        .flatten()
        .collect()
}

/// Verification against the certificates that this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` included).
fn tls(host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host:?} is no host name: {e}"))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("no trusted certificates were found: install ca-certificates or set SSL_CERT_FILE".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(parse);
        assert_eq!(interleave(all.to_vec()), ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"].map(parse));
        assert!(interleave(vec![]).is_empty());
    }

    #[tokio::test]
    async fn localhost_is_found_at_either_family() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::new("localhost", listener.local_addr().unwrap().port(), false).unwrap();
        assert!(matches!(target.dial().await, Ok(Wire::Plain(_))));
    }
}
