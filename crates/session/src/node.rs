//! The owner's front: finds the session or the virtual server that a message is for, and hands it to the one function
//! that deals with it.

use crate::config::{Limits, ServerConfig};
use crate::copy::{Copies, SessionCopy};
use crate::finish::{Backs, Calls};
use crate::gate::Gate;
use crate::handle::Handling;
use crate::live::Live;
use crate::lives::Lives;
use crate::owner::{Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use crate::site::Site;
use crate::slots::Slots;
use crate::topics::{Announced, Hub};
use crate::view::View;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::cursor::CursorKey;
use enfilade_mcp::{Envelope, Kind, RpcError};
use enfilade_registry::{Command, Ended, Fence, NotServed, Reader, SessionId, SessionKeys, SessionRecord, Writer};
use enfilade_upstream::Connector;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
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
    /// For what goes on without the one who asked.
    pub(crate) me: Weak<Node>,
    pub(crate) limits: Limits,
    pub(crate) views: Vec<Arc<View>>,
    sites: Vec<Arc<Site>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Registry,
    pub(crate) slots: Arc<dyn Slots>,
    pub(crate) copies: Arc<dyn Copies>,
    pub(crate) lives: Lives,
    /// Calls that this node finishes for others, and the ways back to those who finish some for it.
    pub(crate) finishing: Mutex<Vec<Weak<Calls>>>,
    pub(crate) backs: Backs,
    pub(crate) tasks: TaskTracker,
    pub(crate) calls: Arc<AtomicUsize>,
    stop: CancellationToken,
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
        slots: Arc<dyn Slots>,
        copies: Arc<dyn Copies>,
    ) -> Result<Arc<Self>, ConfigError> {
        if let (true, Some(server)) = (connectors.is_empty(), config.servers.first()) {
            return Err(ConfigError::NoUpstream(server.name.clone()));
        }
        let node = Self::idle(config, connectors, registry, slots, copies)?;
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

    /// For a node that owns nothing: it knows the paths of the servers, and from the upstreams' configuration which tools
    /// may be called twice. No upstream is connected; none need be configured.
    ///
    /// # Errors
    /// [`ConfigError`] when servers and upstreams do not fit.
    pub fn idle(
        config: NodeConfig,
        connectors: Vec<Arc<Connector>>,
        registry: Registry,
        slots: Arc<dyn Slots>,
        copies: Arc<dyn Copies>,
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
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            limits: config.limits,
            views,
            sites,
            hub,
            registry,
            slots,
            copies,
            lives: Lives::default(),
            finishing: Mutex::default(),
            backs: Backs::default(),
            tasks: TaskTracker::new(),
            calls: Arc::default(),
            stop: CancellationToken::new(),
        }))
    }

    /// Sessions that the registry has ended: whatever they hold here is closed. Does not block.
    pub fn ended(self: &Arc<Self>, ended: &[Ended]) {
        let finishing: Vec<_> = self.finishing.lock().iter().filter_map(Weak::upgrade).collect();
        for ended in ended {
            finishing.iter().for_each(|calls| calls.end(&ended.id));
            if let Some(live) = self.lives.remove(&ended.id) {
                self.tasks.spawn(async move { live.end().await });
            }
        }
    }

    /// Ends every stream and upstream session here; sessions stay in the registry.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let all = self.lives.drain();
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

    /// Sessions in use on this node: those that were asked for since it owns them, and have not idled out.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.lives.count()
    }

    /// Streams that want notices, and resources that somebody subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> (usize, usize) {
        self.hub.counts()
    }

    /// What was announced to streams of this node: changed lists and updated resources.
    #[must_use]
    pub fn announced(&self) -> Announced {
        self.hub.announced()
    }

    /// Cancelled when the node stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Lets go of a session, unless it was taken up again meanwhile.
    pub(crate) fn forget(&self, live: &Arc<Live>) {
        let mut of_slot = self.lives.of(live.id.slot());
        if of_slot.get(&live.id).is_some_and(|now| Arc::ptr_eq(now, live)) {
            of_slot.remove(&live.id);
        }
    }

    /// The session, if this node may act for it and it exists and belongs to this caller.
    pub(crate) fn session(&self, caller: Caller<'_>, id: SessionId) -> Result<Arc<Live>, Reply> {
        let fence = self.slots.fence(id.slot()).map_err(Reply::NotServed)?;
        let view = &self.views[caller.server.0];
        let record = self.registry.reader.session(&id).ok_or_else(not_found)?;
        if *record.principal != *caller.principal || **record.server() != *view.config.name {
            tracing::warn!(slot = %id.slot(), principal = caller.principal, "session of another principal or server");
            return Err(not_found());
        }
        let mut of_slot = self.lives.of(id.slot());
        let (live, older) = match of_slot.get(&id) {
            Some(live) if live.gate.term() == fence.term => (live.clone(), None),
            // A fence that was taken before another message's: this one is to ask again.
            Some(live) if live.gate.term() > fence.term => return Err(Reply::NotServed(NotServed::NotReady)),
            _ => {
                // Read again under the lock: whoever ends the session removes it from here after the record is gone.
                let record = self.registry.reader.session(&id).ok_or_else(not_found)?;
                let copy = self.copies.restore(&id);
                let live = self.take_up(&record, view, fence, copy);
                let older = of_slot.insert(live.clone());
                (live, older)
            }
        };
        drop(of_slot);
        if let Some(older) = older {
            older.lose();
        }
        live.touch();
        Ok(live)
    }

    /// A session that was created just now.
    pub(crate) fn begin(&self, record: &SessionRecord, view: &Arc<View>, fence: Fence) -> Arc<Live> {
        let live = self.live(record, view, fence, None);
        self.lives.of(live.id.slot()).insert(live.clone());
        live
    }

    /// Builds what a session needs here from its record, and from what this node held of it as the slot's second.
    pub(crate) fn take_up(
        &self,
        record: &SessionRecord,
        view: &Arc<View>,
        fence: Fence,
        copy: Option<SessionCopy>,
    ) -> Arc<Live> {
        let watches = !record.subscriptions().is_empty();
        let live = self.live(record, view, fence, copy);
        // Notices are not copied.
        live.announce_gap();
        if watches {
            self.tasks.spawn(crate::subscribe::restore(live.clone()));
        }
        live
    }

    fn live(&self, record: &SessionRecord, view: &Arc<View>, fence: Fence, copy: Option<SessionCopy>) -> Arc<Live> {
        let gate = Gate::new(self.slots.clone(), self.copies.clone(), record.id, fence.term);
        let back = copy.as_ref().filter(|copy| copy.is_moved()).map(|_| self.backs.of(fence));
        let (view, writer, tasks) = (view.clone(), self.registry.writer.clone(), self.tasks.clone());
        let live = Live::new(record, view, writer, tasks, gate, (copy, back.clone()));
        if let Some(back) = back.filter(|_| live.has_foreign()) {
            let (live, stop) = (Arc::downgrade(&live), self.stop.clone());
            self.tasks.spawn(async move {
                if stop.run_until_cancelled(back.over()).await.is_some() {
                    live.upgrade().iter().for_each(|live| live.foreign_over());
                }
            });
        }
        live
    }
}

fn choose(server: &ServerConfig, sites: &[Arc<Site>]) -> Result<Vec<Arc<Site>>, ConfigError> {
    if server.upstreams.is_empty() || sites.is_empty() {
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
                Legacy::One { envelope, again, .. } => {
                    if let (true, Kind::Request(request)) = (again, &envelope.kind) {
                        live.supersede(&request.id);
                    }
                    handling.legacy(&live, envelope).await
                }
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
                    self.lives.remove(&session);
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
