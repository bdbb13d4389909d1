//! Keeps the link to one other node: dials, greets, reads, and after a loss tries again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use enfilade_proto::mesh::Frame;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tracing::{debug, info};

use crate::backoff::Backoff;
use crate::hello::{self, Stranger};
use crate::link::{Link, Violation};
use crate::net::BoxIo;
use crate::outbox::{Drain, Outbox};
use crate::peers::{Known, Linked};
use crate::reader::{self, Ended};
use crate::shared::Shared;
use crate::tls::Purpose;
use crate::wire::{self, Connection};
use crate::{Config, Peer};

/// What frames need besides their payload, generously.
pub(crate) const FRAME_OVERHEAD: usize = 64 * 1024;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum NoLink {
    #[error("no connection in {0:?}")]
    Late(Duration),
    #[error("no connection: {0}")]
    Dial(#[from] std::io::Error),
    #[error("no HTTP/2: {0}")]
    Http(#[from] hyper::Error),
    #[error("refused: {0}")]
    Refused(Box<tonic::Status>),
    #[error("it does not belong here: {0}")]
    Stranger(#[from] Stranger),
}

struct Up {
    linked: Linked,
    frames: Streaming<Frame>,
    connection: Connection,
}

/// Keeps the link to `known` until it is no peer any more.
pub(crate) async fn keep(shared: Arc<Shared>, known: Arc<Known>) {
    let stop = known.stop.clone();
    let _ = stop.run_until_cancelled(keep_trying(&shared, &known)).await;
    shared.peers.linked(&known, None);
}

async fn keep_trying(shared: &Arc<Shared>, known: &Known) {
    let mut target = known.target.subscribe();
    let node = target.borrow().run.node;
    let mut backoff = Backoff::new(&shared.config.timing, shared.config.seed ^ node.0);
    let mut told = String::new();
    loop {
        let peer = target.borrow_and_update().clone();
        let Some(dialled) = shared.closing.run_until_cancelled(dial(shared, &peer)).await else { return };
        match dialled {
            Ok(up) => {
                told.clear();
                let since = Instant::now();
                hold(shared, known, &mut target, up).await;
                if since.elapsed() > shared.config.timing.backoff_max {
                    backoff.reset();
                }
            }
            Err(error) => tell(&peer, &error, &mut told),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            changed = target.changed() => if changed.is_err() { return },
            () = known.heard.notified() => {}
            () = shared.closing.cancelled() => return,
        }
    }
}

/// Logs why there is no link: once per reason, not per attempt.
fn tell(peer: &Peer, error: &NoLink, told: &mut String) {
    let reason = error.to_string();
    if *told == reason {
        debug!(run = %peer.run, address = %peer.address, %reason, "no link");
    } else {
        info!(run = %peer.run, address = %peer.address, %reason, "no link");
        *told = reason;
    }
}

/// Uses a link until it ends or a later run of the node is known.
async fn hold(shared: &Arc<Shared>, known: &Known, target: &mut tokio::sync::watch::Receiver<Peer>, up: Up) {
    let Up { linked, frames, connection } = up;
    let link = Arc::clone(&linked.link);
    let run = link.peer;
    shared.peers.linked(known, Some(linked));
    announce(shared);
    info!(%run, "link up");
    let reading = Arc::clone(&link);
    let refuse = |_| Err(Violation("an exchange from the dialled side"));
    let read = connection.tasks.run(async move { reader::read(&reading, frames, refuse).await });
    let superseded = target.wait_for(|peer| peer.run.generation > run.generation);
    let ended = tokio::select! {
        ended = read => ended.unwrap_or(Ended::Closed),
        _ = superseded => Ended::Closed,
    };
    link.close();
    shared.peers.linked(known, None);
    announce(shared);
    info!(%run, reason = %ended, "link down");
}

/// Tells the nodes that dialled this one which links it has, so that they know what it can relay.
fn announce(shared: &Shared) {
    let linked = shared.peers.connected();
    shared.accepted.links().iter().for_each(|link| link.announce(&linked));
}

async fn dial(shared: &Arc<Shared>, peer: &Peer) -> Result<Up, NoLink> {
    let config = &shared.config;
    let connection = connect(shared, &peer.address, Purpose::Link).await?;
    let outbox = Arc::new(Outbox::new(config.limits.queue_bytes_max));
    // A new queue takes the greeting.
    let _ = outbox.push(hello::hello(config.me, shared.cluster(), &[], &config.limits));
    let greeting = greet(connection.client.clone(), Arc::clone(&outbox));
    let (hello, frames) = within(config.timing.connect, greeting).await?;
    let mine = shared.cluster();
    let (run, cluster) = hello::check(config.me, mine, hello.protocol, &hello.cluster, hello.run.as_ref())?;
    if run.node != peer.run.node {
        return Err(Stranger::Other.into());
    }
    if run.generation < peer.run.generation {
        return Err(Stranger::Stale.into());
    }
    let link = Link::new(run, outbox, &config.limits, &hello);
    Ok(Up { linked: Linked { link, cluster }, frames, connection })
}

async fn greet(
    mut client: wire::Client,
    outbox: Arc<Outbox>,
) -> Result<(enfilade_proto::mesh::Hello, Streaming<Frame>), NoLink> {
    let refused = |status| NoLink::Refused(Box::new(status));
    let mut frames = client.link(Drain(outbox)).await.map_err(refused)?.into_inner();
    let first = frames.message().await.map_err(refused)?;
    Ok((hello::greeting(first).ok_or(Stranger::NoName)?, frames))
}

/// Dials, with TLS when the cluster has keys.
async fn connect(shared: &Shared, address: &str, purpose: Purpose) -> Result<Connection, NoLink> {
    let Config { net, timing, limits, .. } = &shared.config;
    let bytes_max = FRAME_OVERHEAD
        + match purpose {
            Purpose::Link => limits.message_bytes_max,
            Purpose::Calls => limits.call_bytes_max,
        };
    within(timing.connect, async {
        let io: BoxIo = net.dial(address).await?;
        let io = match &shared.tls {
            Some(tls) => tls.connect(io, purpose).await?,
            None => io,
        };
        Ok(wire::connect(io, purpose, timing, bytes_max).await?)
    })
    .await
}

/// A connection for calls; it lives where calls do, whoever needs it first.
pub(crate) async fn connect_for_calls(shared: &Arc<Shared>, address: &str) -> Option<Connection> {
    let (dialler, to) = (Arc::clone(shared), address.to_owned());
    let dialled = shared.control.spawn(async move { connect(&dialler, &to, Purpose::Calls).await });
    // It does not panic; a runtime that ends needs no connection.
    match dialled.await.ok()? {
        Ok(connection) => Some(connection),
        Err(error) => {
            debug!(%address, %error, "no connection for calls");
            None
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, NoLink>>) -> Result<T, NoLink> {
    timeout(limit, work).await.unwrap_or(Err(NoLink::Late(limit)))
}
