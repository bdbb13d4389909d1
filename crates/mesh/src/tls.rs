//! Mutual TLS between the nodes of a cluster: TLS 1.3 only, both sides show a certificate of the cluster's authority.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use tokio::io::BufReader;
use tokio::runtime::Handle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::keys::SERVER_NAME;
use crate::net::{BoxIo, move_to};
use crate::{StartError, Tls};

/// HTTP/2, for a link.
const LINK: &[u8] = b"h2";
/// HTTP/2, for calls. Told apart before the first byte of HTTP, because calls are served by other threads.
const CALLS: &[u8] = b"enfilade-calls";

/// What is taken from a socket at once. TLS by itself reads 4 KiB at a time.
const READ_BYTES: usize = 64 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Link,
    Calls,
}

/// Both directions of TLS with one set of keys.
pub(crate) struct Secured {
    links: TlsConnector,
    calls: TlsConnector,
    acceptor: TlsAcceptor,
    name: ServerName<'static>,
}

impl Secured {
    pub(crate) fn new(tls: &Tls) -> Result<Self, StartError> {
        let bad = |what: &str, error: &dyn std::fmt::Display| StartError::Tls(format!("{what}: {error}"));
        let mut roots = RootCertStore::empty();
        for cert in certificates(&tls.ca).map_err(|error| bad("ca", &error))? {
            roots.add(cert).map_err(|error| bad("ca", &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&tls.cert).map_err(|error| bad("cert", &error))?;
        let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).map_err(|error| bad("key", &error))?;
        let provider = Arc::new(provider());

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad("tls", &error))?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| bad("cert", &error))?;
        client.alpn_protocols = vec![LINK.to_vec()];
        let mut calls = client.clone();
        calls.alpn_protocols = vec![CALLS.to_vec()];

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| bad("ca", &error))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad("tls", &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| bad("cert", &error))?;
        server.alpn_protocols = vec![LINK.to_vec(), CALLS.to_vec()];
        // Links live long: tickets to resume a session would only cost memory.
        server.send_tls13_tickets = 0;

        let name = ServerName::try_from(SERVER_NAME).map_err(|error| bad("name", &error))?;
        Ok(Self {
            links: Arc::new(client).into(),
            calls: Arc::new(calls).into(),
            acceptor: Arc::new(server).into(),
            name,
        })
    }

    pub(crate) async fn connect(&self, io: BoxIo, purpose: Purpose) -> std::io::Result<BoxIo> {
        let connector = match purpose {
            Purpose::Link => &self.links,
            Purpose::Calls => &self.calls,
        };
        let io = BufReader::with_capacity(READ_BYTES, io);
        Ok(Box::new(connector.connect(self.name.clone(), io).await?))
    }

    /// Greets who dialled. A link goes to the runtime for links.
    pub(crate) async fn accept(&self, io: BoxIo, links: &Handle) -> std::io::Result<(BoxIo, Purpose)> {
        let mut stream = self.acceptor.accept(BufReader::with_capacity(READ_BYTES, io)).await?;
        if stream.get_ref().1.alpn_protocol() == Some(CALLS) {
            return Ok((Box::new(stream), Purpose::Calls));
        }
        move_to(stream.get_mut().0.get_mut(), links)?;
        Ok((Box::new(stream), Purpose::Link))
    }
}

/// Links carry much: the cheaper of the two AES suites comes first. Both sides are ours.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
}
