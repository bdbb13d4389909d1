//! The whole system, in the order in which a request goes through it: edge, registry, upstreams, owner.
//! Rule: sockets are bound before anything is spawned; what was started last for clients stops first.

use crate::config::Config;
use crate::data::{Data, open};
use anyhow::Context;
use enfilade_edge::Bound;
use enfilade_journal::LocalRegistry;
use enfilade_registry::{Command, Reader, SessionKeys, Writer};
use enfilade_runtime::{Shutdown, monotonic};
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_upstream::Connector;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often registry time moves on.
const TICK: Duration = Duration::from_secs(1);

/// Over the time that the edge gives to requests: what it needs to close connections.
const EDGE_GRACE: Duration = Duration::from_secs(5);

/// The most that one of the other parts may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A node that serves.
pub(crate) struct Gateway {
    /// The address of each virtual server.
    pub(crate) urls: Vec<String>,
    edge: JoinHandle<()>,
    ticks: JoinHandle<()>,
    stop_edge: CancellationToken,
    stop_ticks: CancellationToken,
    drain: Duration,
    node: Arc<Node>,
    connectors: Vec<Arc<Connector>>,
    registry: Arc<LocalRegistry>,
}

/// Builds a node from a configuration that was checked.
///
/// # Errors
/// An address cannot be bound, or the data directory cannot be used.
pub(crate) async fn compose(config: Config) -> anyhow::Result<Gateway> {
    let edge_config = Arc::new(config.edge());
    let bound = enfilade_edge::bind(&edge_config).await?;
    let urls = urls(&bound, &config);

    let Data { registry, session_secret, cursor_secret } = open(config.data_dir, Arc::new(monotonic())).await?;
    let limits = registry_limits(&config.limits);
    registry.submit(Command::Configure { limits }).await.context("the registry does not take the limits")?;
    let keys = Arc::new(SessionKeys::new(1, &session_secret)?);

    let connectors: Vec<Arc<Connector>> = config.upstreams.into_iter().map(Connector::new).collect::<Result<_, _>>()?;

    let term = started_at_ms()?;
    let node_config = NodeConfig { servers: config.servers, limits: config.limits, cursor_secret, term };
    let reader: Arc<dyn Reader> = registry.clone();
    let writer: Arc<dyn Writer> = registry.clone();
    let node = Node::start(node_config, connectors.clone(), Registry { reader, writer, keys: keys.clone() })?;
    tell_of_ends(&registry, &node);

    let (stop_edge, stop_ticks) = (CancellationToken::new(), CancellationToken::new());
    let drain = Duration::from_millis(edge_config.drain_ms);
    // Both are owned by the gateway, which ends when either ends or panics.
    let ticks = tokio::spawn(ticks(registry.clone(), stop_ticks.clone()));
    let edge = tokio::spawn(enfilade_edge::serve(bound, edge_config, node.clone(), keys, stop_edge.clone()));
    Ok(Gateway { urls, edge, ticks, stop_edge, stop_ticks, drain, node, connectors, registry })
}

/// The time of the start, in milliseconds since 1970: it differs from that of every earlier start.
fn started_at_ms() -> anyhow::Result<u64> {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::try_from(since.as_millis())?)
}

impl Gateway {
    /// Waits for a part to end, which none does by itself.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let (part, ended) = tokio::select! {
            ended = &mut self.edge => ("edge", ended),
            ended = &mut self.ticks => ("registry clock", ended),
        };
        match ended {
            Ok(()) => anyhow::anyhow!("the {part} ended by itself"),
            Err(error) => anyhow::anyhow!("the {part} failed: {error}"),
        }
    }

    /// Stops in order: no new requests, requests in flight, sessions, upstreams, registry.
    pub(crate) async fn stop(self) -> Shutdown {
        let mut shutdown = Shutdown::new();
        shutdown.step("listens", STOP_LIMIT, self.node.end_listens()).await;
        self.stop_edge.cancel();
        shutdown.step("edge", self.drain + EDGE_GRACE, ended(self.edge)).await;
        shutdown.step("owner", STOP_LIMIT, self.node.shutdown()).await;
        shutdown.step("upstreams", STOP_LIMIT, leave(self.connectors)).await;
        self.stop_ticks.cancel();
        shutdown.step("registry clock", STOP_LIMIT, ended(self.ticks)).await;
        let registry = self.registry;
        shutdown.step("registry", STOP_LIMIT, ended(tokio::task::spawn_blocking(move || registry.close()))).await;
        shutdown
    }
}

/// `http://ADDRESS:PORT/PATH` of every server at every listener.
fn urls(bound: &[Bound], config: &Config) -> Vec<String> {
    let at = |bound: &Bound| {
        let address = bound.local_addr();
        config.servers.iter().map(move |server| format!("http://{address}{}", server.path))
    };
    bound.iter().flat_map(at).collect()
}

/// The registry's share of the limits; what is not configurable keeps its default.
fn registry_limits(limits: &enfilade_session::config::Limits) -> enfilade_registry::Limits {
    enfilade_registry::Limits {
        sessions_max: limits.sessions_max,
        sessions_per_principal_max: limits.sessions_per_principal_max,
        idle_ms: limits.session_idle_ms,
        absolute_ms: limits.session_absolute_ms,
        ..enfilade_registry::Limits::default()
    }
}

/// Hands the end of sessions on to the node. The registry calls from its own thread, where no runtime is entered;
/// the reference is weak because the node holds the registry.
fn tell_of_ends(registry: &LocalRegistry, node: &Arc<Node>) {
    let (runtime, node) = (Handle::current(), Arc::downgrade(node));
    registry.on_ended(Arc::new(move |ended| {
        if let Some(node) = node.upgrade() {
            let _entered = runtime.enter();
            node.ended(ended);
        }
    }));
}

/// Moves registry time on until it is stopped. A tick that fails is logged: sessions then live longer, never shorter.
async fn ticks(registry: Arc<LocalRegistry>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        if let Err(error) = registry.tick().await {
            tracing::error!(%error, "registry time stands still");
        }
    }
}

/// Upstream sessions are left open: sessions in the registry go on using them after a restart.
async fn leave(connectors: Vec<Arc<Connector>>) {
    let mut leaving: JoinSet<()> =
        connectors.into_iter().map(|connector| async move { connector.leave().await }).collect();
    while leaving.join_next().await.is_some() {}
}

/// Waits for a task; that it panicked is logged. One that ended before was reported by [`Gateway::failed`].
async fn ended<T>(task: JoinHandle<T>) {
    if task.is_finished() {
        return;
    }
    if let Err(error) = task.await {
        tracing::error!(%error, "a task failed while it was stopped");
    }
}
