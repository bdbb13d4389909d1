//! The whole system, in the order in which a request goes through it: edge, registry, upstreams, owner.
//! Rule: sockets are bound before anything is spawned; a directory is taken before anything is read from it.

use crate::alone::Alone;
use crate::config::Config;
use crate::data::{Data, open};
use crate::gateway::{Backing, Edge, Gateway};
use crate::member;
use anyhow::Context;
use enfilade_edge::{Bound, Ending, Figures};
use enfilade_registry::{Command, OnEnded, Reader, SessionKeys, Term, Writer};
use enfilade_runtime::{Limit, Pressure, monotonic};
use enfilade_session::copy::NoCopies;
use enfilade_session::owner::Owner;
use enfilade_session::slots::AllSlots;
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_upstream::Connector;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Builds a node from a configuration that was checked.
///
/// # Errors
/// An address cannot be bound, or the data directory cannot be used.
pub(crate) async fn compose(config: Config, pressure: Pressure) -> anyhow::Result<Gateway> {
    match config.cluster.clone() {
        Some(cluster) => member::compose(config, cluster, pressure).await,
        None => alone(config, pressure).await,
    }
}

/// A node alone: its registry is a journal, and it owns all slots.
async fn alone(config: Config, pressure: Pressure) -> anyhow::Result<Gateway> {
    let front = Front::bind(&config, pressure).await?;

    let Data { identity, registry, session_secret, cursor_secret } =
        open(config.data_dir, Arc::new(monotonic())).await?;
    let limits = registry_limits(&config.limits);
    registry.submit(Command::Configure { limits }).await.context("the registry does not take the limits")?;
    let keys = Arc::new(SessionKeys::new(1, &session_secret)?);

    let connectors = connectors(config.upstreams, &front.answers())?;

    let paths: Vec<String> = config.servers.iter().map(|server| server.path.clone()).collect();
    let slots = Arc::new(AllSlots::new(Term(started_at_ms()?)));
    let node_config = NodeConfig { servers: config.servers, limits: config.limits, cursor_secret };
    let reader: Arc<dyn Reader> = registry.clone();
    let writer: Arc<dyn Writer> = registry.clone();
    let parts = Registry { reader, writer, keys: keys.clone() };
    let node = Node::start(node_config, connectors.clone(), parts, slots, Arc::new(NoCopies))?;

    let backing = Backing::Alone(Alone::start(identity, registry, &node));
    let (urls, edge) = front.serve(node.clone(), keys, &paths);
    Ok(Gateway { urls, edge: Some(edge), node, connectors, backing })
}

/// The edge before it serves.
pub(crate) struct Front {
    config: Arc<enfilade_edge::Config>,
    bound: Vec<Bound>,
    figures: Figures,
}

impl Front {
    /// Binds the addresses for clients.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub(crate) async fn bind(config: &Config, pressure: Pressure) -> anyhow::Result<Self> {
        let config = Arc::new(config.edge());
        let bound = enfilade_edge::bind(&config).await?;
        let figures = Figures::new(&config, pressure);
        Ok(Self { config, bound, figures })
    }

    /// Bytes of messages under way.
    pub(crate) fn messages(&self) -> Limit {
        self.figures.messages()
    }

    /// Bytes of large answers under way.
    pub(crate) fn answers(&self) -> Limit {
        self.figures.answers()
    }

    /// Gives clients to `owner`; returns the address of each virtual server, given its path.
    pub(crate) fn serve(self, owner: Arc<dyn Owner>, keys: Arc<SessionKeys>, paths: &[String]) -> (Vec<String>, Edge) {
        let urls = urls(&self.bound, paths);
        let (ending, drain) = (Ending::default(), Duration::from_millis(self.config.drain_ms));
        let figures = self.figures;
        // Owned by the gateway, which ends when it ends or panics.
        let served = enfilade_edge::serve(self.bound, self.config, owner, keys, ending.clone(), figures.clone());
        (urls, Edge { task: tokio::spawn(served), ending, figures, drain })
    }
}

/// One connector per upstream; `answers` bounds their large answers.
///
/// # Errors
/// A configuration that was not checked.
pub(crate) fn connectors(
    upstreams: Vec<enfilade_upstream::Config>,
    answers: &Limit,
) -> anyhow::Result<Vec<Arc<Connector>>> {
    let connector = |upstream| Connector::within(upstream, answers.clone());
    Ok(upstreams.into_iter().map(connector).collect::<Result<_, _>>()?)
}

/// The time of the start, in milliseconds since 1970: it differs from that of every earlier start.
pub(crate) fn started_at_ms() -> anyhow::Result<u64> {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::try_from(since.as_millis())?)
}

/// `http://ADDRESS:PORT/PATH` of every server at every listener.
fn urls(bound: &[Bound], paths: &[String]) -> Vec<String> {
    let at = |bound: &Bound| {
        let address = bound.local_addr();
        paths.iter().map(move |path| format!("http://{address}{path}"))
    };
    bound.iter().flat_map(at).collect()
}

/// The registry's share of the limits; what is not configurable keeps its default.
pub(crate) fn registry_limits(limits: &enfilade_session::config::Limits) -> enfilade_registry::Limits {
    enfilade_registry::Limits {
        sessions_max: limits.sessions_max,
        sessions_per_principal_max: limits.sessions_per_principal_max,
        idle_ms: limits.session_idle_ms,
        absolute_ms: limits.session_absolute_ms,
        ..enfilade_registry::Limits::default()
    }
}

/// Hands the end of sessions on to the node. The registry calls from where it applies commands, on whatever thread;
/// the reference is weak because the node holds the registry.
pub(crate) fn tell_of_ends(node: &Arc<Node>) -> OnEnded {
    let (runtime, node) = (Handle::current(), Arc::downgrade(node));
    Arc::new(move |ended| {
        if let Some(node) = node.upgrade() {
            let _entered = runtime.enter();
            node.ended(ended);
        }
    })
}
