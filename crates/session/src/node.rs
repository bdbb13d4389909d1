//! The owner's front: finds the session or the virtual server that a message is for, and hands it to the one function
//! that deals with it.

use crate::config::{Limits, ServerConfig};
use crate::handle::Handling;
use crate::live::Live;
use crate::owner::{Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use crate::site::Site;
use crate::topics::Hub;
use crate::view::View;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::cursor::CursorKey;
use enfilade_mcp::{Envelope, RpcError, Version};
use enfilade_registry::{Command, Ended, Reader, SessionId, SessionKeys, SessionRecord, Writer};
use enfilade_upstream::Connector;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a node needs besides its connections.
pub struct NodeConfig {
    /// The virtual servers.
    pub servers: Vec<ServerConfig>,
    /// Limits of sessions and calls.
    pub limits: Limits,
    /// Secret under which cursors are sealed; the same on every node.
    pub cursor_secret: Vec<u8>,
    /// Differs from that of every earlier run on the same data, such as the time of the start.
    pub term: u64,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A virtual server names an upstream that is not configured.
    #[error("server {server:?} names the upstream {upstream:?}, which is not configured")]
    UnknownUpstream {
        /// The server.
        server: String,
        /// The name.
        upstream: String,
    },
    /// A virtual server has no upstream.
    #[error("server {0:?} has no upstream: configure at least one")]
    NoUpstream(String),
}

/// The registry and the keys, as the owner uses them.
pub struct Registry {
    /// Reads records.
    pub reader: Arc<dyn Reader>,
    /// Commits commands.
    pub writer: Arc<dyn Writer>,
    /// Makes session ids.
    pub keys: Arc<SessionKeys>,
}

/// The owner of this node's sessions.
pub struct Node {
    pub(crate) limits: Limits,
    pub(crate) views: Vec<Arc<View>>,
    sites: Vec<Arc<Site>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Registry,
    live: Mutex<HashMap<SessionId, Arc<Live>>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) calls: Arc<AtomicUsize>,
    stop: CancellationToken,
    /// In the ids of events: tells this run of the node from earlier ones.
    term: u64,
}

impl Node {
    /// Starts to watch the upstreams.
    ///
    /// # Errors
    /// [`ConfigError`] when servers and upstreams do not fit.
    pub fn start(
        config: NodeConfig,
        connectors: Vec<Arc<Connector>>,
        registry: Registry,
    ) -> Result<Arc<Self>, ConfigError> {
        let hub = Arc::new(Hub::default());
        let sites: Vec<Arc<Site>> = connectors
            .into_iter()
            .enumerate()
            .map(|(index, connector)| Site::new(index, connector, hub.clone(), config.limits.clone()))
            .collect();
        let views = config
            .servers
            .into_iter()
            .map(|server| {
                let chosen = choose(&server, &sites)?;
                Ok(Arc::new(View::new(server, chosen, CursorKey::new(&config.cursor_secret), config.limits.clone())))
            })
            .collect::<Result<Vec<_>, ConfigError>>()?;
        let node = Arc::new(Self {
            limits: config.limits,
            views,
            sites,
            hub,
            registry,
            live: Mutex::default(),
            tasks: TaskTracker::new(),
            calls: Arc::default(),
            stop: CancellationToken::new(),
            term: config.term,
        });
        for site in &node.sites {
            let (watch, stop) = (site.clone().watch(), node.stop.clone());
            node.tasks.spawn(async move {
                stop.run_until_cancelled(watch).await;
            });
        }
        let (sweep, stop) = (Arc::downgrade(&node), node.stop.clone());
        node.tasks.spawn(async move {
            stop.run_until_cancelled(crate::sweep::run(sweep)).await;
        });
        Ok(node)
    }

    /// Sessions that the registry has ended: whatever they hold here is closed. Does not block.
    pub fn ended(self: &Arc<Self>, ended: &[Ended]) {
        for ended in ended {
            if let Some(live) = self.live.lock().remove(&ended.id) {
                self.tasks.spawn(async move { live.end().await });
            }
        }
    }

    /// Ends every stream and upstream session here; sessions stay in the registry.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let all: Vec<Arc<Live>> = self.live.lock().drain().map(|(_, live)| live).collect();
        all.iter().for_each(|live| live.suspend());
        // What listens on behalf of a session ends with it.
        drop(all);
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
    }

    /// Calls of clients that have not ended yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Streams that want notices, and resources that somebody subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> (usize, usize) {
        self.hub.counts()
    }

    /// Cancelled when the node stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(crate) fn all_live(&self) -> Vec<Arc<Live>> {
        self.live.lock().values().cloned().collect()
    }

    pub(crate) fn forget(&self, id: &SessionId) -> Option<Arc<Live>> {
        self.live.lock().remove(id)
    }

    /// The session, if it exists and belongs to this caller.
    pub(crate) fn session(&self, caller: Caller<'_>, id: SessionId) -> Result<Arc<Live>, Reply> {
        let view = &self.views[caller.server.0];
        let record = self.registry.reader.session(&id).ok_or_else(not_found)?;
        if *record.principal != *caller.principal || *record.server != *view.config.name {
            tracing::warn!(slot = %id.slot(), principal = caller.principal, "session of another principal or server");
            return Err(not_found());
        }
        let mut all = self.live.lock();
        let live = match all.get(&id) {
            Some(live) => live.clone(),
            None => {
                // Read again under the lock: whoever ends the session removes it from here after the record is gone.
                self.registry.reader.session(&id).ok_or_else(not_found)?;
                let live = self.take_up(record, view);
                all.insert(id, live.clone());
                live
            }
        };
        drop(all);
        live.touch();
        Ok(live)
    }

    /// Builds what a session needs here from its record.
    fn take_up(&self, record: Arc<SessionRecord>, view: &Arc<View>) -> Arc<Live> {
        let version = Version::parse(&record.version).unwrap_or(Version::LEGACY_LATEST);
        let watches = !record.subscriptions.is_empty();
        let live =
            Live::new(record, version, view.clone(), self.registry.writer.clone(), self.tasks.clone(), self.term);
        if watches {
            self.tasks.spawn(crate::subscribe::restore(live.clone()));
        }
        live
    }
}

fn choose(server: &ServerConfig, sites: &[Arc<Site>]) -> Result<Vec<Arc<Site>>, ConfigError> {
    if sites.is_empty() {
        return Err(ConfigError::NoUpstream(server.name.clone()));
    }
    if server.upstreams.is_empty() {
        return Ok(sites.to_vec());
    }
    let find = |upstream: &String| {
        let unknown = || ConfigError::UnknownUpstream { server: server.name.clone(), upstream: upstream.clone() };
        sites.iter().find(|site| site.name() == upstream).cloned().ok_or_else(unknown)
    };
    server.upstreams.iter().map(find).collect()
}

/// 404 for a session that is unknown, ended or somebody else's: nobody learns which.
pub(crate) fn not_found() -> Reply {
    Reply::error(404, None, &RpcError::invalid_request("Session not found; send initialize to begin a new one"))
}

impl Owner for Node {
    fn server_at(&self, path: &str) -> Option<ServerId> {
        self.views.iter().position(|view| view.config.path == path).map(ServerId)
    }

    fn modern<'a>(
        &'a self,
        caller: Caller<'a>,
        request: &'a Envelope<'a>,
        meta: &'a Modern<'a>,
        headers: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply> {
        Handling::new(self, caller).modern(request, meta, headers).boxed()
    }

    fn initialize<'a>(&'a self, caller: Caller<'a>, request: &'a Envelope<'a>) -> BoxFuture<'a, Reply> {
        Handling::new(self, caller).initialize(request).boxed()
    }

    fn legacy<'a>(&'a self, caller: Caller<'a>, session: SessionId, message: Legacy<'a>) -> BoxFuture<'a, Reply> {
        async move {
            let live = match self.session(caller, session) {
                Ok(live) => live,
                Err(reply) => return reply,
            };
            let handling = Handling::new(self, caller);
            match message {
                Legacy::One { envelope, .. } => handling.legacy(&live, envelope).await,
                Legacy::Batch(text) => handling.batch(&live, text).await,
            }
        }
        .boxed()
    }

    fn open_stream<'a>(
        &'a self,
        caller: Caller<'a>,
        session: SessionId,
        last_event_id: Option<&'a str>,
    ) -> BoxFuture<'a, Reply> {
        let opened = self.session(caller, session).map(|live| {
            let reply = crate::handle::open_stream(&live, last_event_id);
            self.tasks.spawn(async move { live.listen_everywhere().await });
            reply
        });
        futures::future::ready(opened.unwrap_or_else(|reply| reply)).boxed()
    }

    fn end<'a>(&'a self, caller: Caller<'a>, session: SessionId) -> BoxFuture<'a, Reply> {
        async move {
            let live = match self.session(caller, session) {
                Ok(live) => live,
                Err(reply) => return reply,
            };
            let command = Command::EndSession { id: session, reason: enfilade_registry::EndReason::Client };
            match self.registry.writer.submit(command).await {
                Ok(_) => {
                    self.forget(&session);
                    live.end().await;
                    Reply::Status(200)
                }
                Err(enfilade_registry::WriteError::Refused(_)) => not_found(),
                Err(enfilade_registry::WriteError::Unavailable) => crate::handle::registry_unavailable(None),
            }
        }
        .boxed()
    }
}
