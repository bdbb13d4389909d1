//! Listening addresses: bound before anything is spawned, accepted from until the node stops, bounded always.

use crate::config::{Config, ConfigError, Protocol};
use crate::connection::{Connection, Edge, Speaker};
use crate::ending::Ending;
use crate::entrance::{Full, Pass};
use crate::guard::Place;
use crate::hand_over::HandOver;
use crate::linger::Lingering;
use crate::metrics::Figures;
use enfilade_registry::SessionKeys;
use enfilade_runtime::Limit;
use enfilade_session::owner::Owner;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Connections that the system holds for us between two accepts.
const BACKLOG: u32 = 4096;
/// Connections over the limit that are told so at a time; more are closed without a word, as are those for which the last
/// descriptors would be needed.
const REFUSALS_MAX: usize = 64;
/// Pause after the system could not give a connection, commonly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So many such pauses, and it is said once more.
const ACCEPT_TELL_EVERY: u32 = 1200;

/// Empty SETTINGS, then GOAWAY: no stream was processed, ENHANCE_YOUR_CALM (RFC 9113, sections 6.5 and 6.8).
const REFUSAL_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
}

impl Bound {
    /// The address, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What is spoken there.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// Why no socket is open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused an address.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens every listening address, or none.
///
/// # Errors
/// The configuration is refused, or the system refuses an address.
pub async fn bind(config: &Config) -> Result<Vec<Bound>, BindError> {
    config.check()?;
    let open = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let bind = |listen: &crate::config::Listen| match open(listen.address) {
        Ok((listener, address)) => Ok(Bound { listener, address, protocol: listen.protocol }),
        Err(source) => Err(BindError::Address { address: listen.address, source }),
    };
    config.listen.iter().map(bind).collect()
}

/// Serves clients until `ending` says stop; then takes no more, ends the streams that would stay open, and lets calls finish
/// for [`Config::drain_ms`]. Dropping the future ends every connection at once.
pub async fn serve(
    bound: Vec<Bound>,
    config: Arc<Config>,
    owner: Arc<dyn Owner>,
    keys: Arc<SessionKeys>,
    ending: Ending,
    figures: Figures,
) {
    if let Some(most) = figures.entrance.descriptors_for() {
        let max = config.connections_max;
        tracing::info!(most, max, "file descriptors suffice for fewer connections than connections_max (ulimit -n)");
    }
    // Apart from what it measures; ends with this.
    let _measuring = AbortOnDropHandle::new(tokio::spawn(figures.load.clone().measure()));
    let edge = Arc::new(Edge::new(config, owner, keys, ending, figures));
    let _abort = AbortOnDrop(edge.clone());
    futures::future::join_all(bound.into_iter().map(|bound| accept_all(bound, &edge))).await;
    edge.stopping.stop();
    edge.tasks.close();
    let drain = Duration::from_millis(edge.config.drain_ms);
    if tokio::time::timeout(drain, edge.tasks.wait()).await.is_err() {
        tracing::warn!(tasks = edge.tasks.len(), "requests did not finish in time; closing their connections");
        edge.abort.stop();
        edge.tasks.wait().await;
    }
}

struct AbortOnDrop(Arc<Edge>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.stopping.stop();
        self.0.abort.stop();
    }
}

async fn accept_all(bound: Bound, edge: &Arc<Edge>) {
    let speaker = Arc::new(match bound.protocol {
        Protocol::Http1 => Speaker::http1(&edge.config),
        Protocol::Http2 => Speaker::http2(edge),
    });
    let refusals = Limit::new(REFUSALS_MAX);
    let mut failures = 0;
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            () = edge.ending.stopped() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                failures = 0;
                admit(stream, from, &bound, edge, &speaker, &refusals);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if u32::is_multiple_of(failures, ACCEPT_TELL_EVERY) {
                    tracing::warn!(%error, address = %bound.address, "cannot accept connections; trying on");
                }
                failures += 1;
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = edge.ending.stopped() => return,
                }
            }
        }
    }
}

/// Gives an accepted connection its task. A panic in it ends that connection only.
fn admit(
    stream: TcpStream,
    from: SocketAddr,
    bound: &Bound,
    edge: &Arc<Edge>,
    speaker: &Arc<Speaker>,
    refusals: &Limit,
) {
    // Small events must not wait for an acknowledgement; and a client that is gone already needs neither.
    let Ok(()) = stream.set_nodelay(true) else { return };
    let ip = bound.address.ip();
    let ip = if ip.is_unspecified() { stream.local_addr().map_or(ip, |address| address.ip()) } else { ip };
    let place = Place { ip, loopback: bound.address.ip().to_canonical().is_loopback() };
    let connection = |pass: Pass, unread| {
        let (edge, unread, ends) = (edge.clone(), AtomicBool::new(unread), AtomicBool::new(false));
        let hand_over = HandOver::default();
        Arc::new(Connection { edge, place, unread, ends, hand_over, pass })
    };
    let entrance = &edge.figures.entrance;
    // It is never negative.
    let descriptor = stream.as_raw_fd().unsigned_abs().into();
    match entrance.enter(descriptor, from.ip()) {
        Ok(pass) => {
            let connection = connection(pass, false);
            let io = Box::new(Lingering::new(stream, connection.clone()));
            edge.tasks.spawn(speaker.clone().serve(io, connection));
        }
        Err(why) => {
            entrance.refused(why, &edge.config);
            if entrance.may_hear(descriptor)
                && let Some(permit) = refusals.enter()
            {
                edge.tasks.spawn(refuse(stream, connection(permit.into(), true), why, bound.protocol));
            }
        }
    }
}

/// Says why a connection does not come in. Whether the client hears it makes no difference here.
async fn refuse(stream: TcpStream, connection: Arc<Connection>, why: Full, protocol: Protocol) {
    let mut stream = Lingering::new(stream, connection);
    let text = if protocol == Protocol::Http1 { why.http1().into_bytes() } else { REFUSAL_HTTP2.to_vec() };
    if stream.write_all(&text).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let mut config = Config::default();
        config.listen[0].address.set_port(0);
        let bound = bind(&config).await.expect("a free port");
        config.listen[0].address = bound[0].local_addr();
        let error = bind(&config).await.expect_err("taken").to_string();
        assert!(error.contains(&bound[0].local_addr().to_string()), "{error}");
    }
}
