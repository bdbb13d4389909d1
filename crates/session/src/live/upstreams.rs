//! A session's sessions with its upstreams: opened at first use, opened again when an upstream forgot them, with log
//! level and watched resources set again.

use super::Live;
use crate::ask::{self, AskError};
use crate::gate::HOLD_MAX;
use crate::site::{Site, Up};
use crate::view::Target;
use enfilade_mcp::{Era, Version, json};
use enfilade_registry::{Command, EndReason, UpstreamBinding};
use enfilade_upstream::{CallError, Hello, Peer, Sharing};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

#[derive(Default)]
pub(super) struct Binding {
    now: Mutex<Option<Bound>>,
    /// Held while a session is opened, so that it is opened once.
    opening: tokio::sync::Mutex<()>,
    /// Set once the session that the registry remembers was taken up.
    resumed: AtomicBool,
    /// Set once a session was opened here.
    opened: AtomicBool,
}

#[derive(Clone)]
struct Bound {
    peer: Arc<dyn Peer>,
    listener: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Live {
    /// The session with one upstream, opened now if need be. Opening goes on when the caller gives up: a session that
    /// was opened at the upstream is never lost track of.
    pub(crate) async fn peer(self: &Arc<Self>, at: usize) -> Result<Arc<dyn Peer>, CallError> {
        if let Some(peer) = self.bound(at) {
            return Ok(peer);
        }
        let live = self.clone();
        self.tasks.spawn(live.open(at)).await.unwrap_or(Err(CallError::Closed))
    }

    /// Boxed, because what is set again in a session that was opened may need lists, and lists may need the session.
    fn open(self: Arc<Self>, at: usize) -> BoxFuture<'static, Result<Arc<dyn Peer>, CallError>> {
        Box::pin(async move {
            let _opening = self.bindings()[at].opening.lock().await;
            if let Some(peer) = self.bound(at) {
                return Ok(peer);
            }
            let bound = self.bind(at).await?;
            let peer = bound.peer.clone();
            *self.bindings()[at].now.lock() = Some(bound);
            if self.gate.is_gone() {
                self.drop_upstreams();
                return Err(CallError::Closed);
            }
            if self.ended.load(Ordering::Acquire) {
                self.close_upstreams(|_| true).await;
                return Err(CallError::Closed);
            }
            Ok(peer)
        })
    }

    /// The session with an upstream of this session's server.
    pub(crate) async fn peer_of(self: &Arc<Self>, site: &Site) -> Result<Arc<dyn Peer>, CallError> {
        let at = self.view.sites.iter().position(|own| own.index == site.index).ok_or(CallError::Unreachable)?;
        self.peer(at).await
    }

    /// The session with one upstream, if it is open.
    fn bound(&self, at: usize) -> Option<Arc<dyn Peer>> {
        self.bindings()[at].now.lock().as_ref().map(|bound| bound.peer.clone()).filter(|peer| peer.is_alive())
    }

    /// Forgets an upstream session that the upstream forgot.
    pub(crate) fn unbind(&self, at: usize, gone: &Arc<dyn Peer>) {
        let mut now = self.bindings()[at].now.lock();
        if now.as_ref().is_some_and(|bound| Arc::ptr_eq(&bound.peer, gone)) {
            *now = None;
        }
    }

    async fn bind(self: &Arc<Self>, at: usize) -> Result<Bound, CallError> {
        let site = &self.view.sites[at];
        let up = site.wait_up(site.limits.upstream_wait()).await?;
        if !self.has_session_of_its_own(site, &up) {
            return Ok(Bound { peer: up.peer, listener: None });
        }
        if let Some(peer) = self.resume(at) {
            let listener = self.listen(at, &peer).await;
            return Ok(Bound { peer, listener });
        }
        let known = self.facts.upstreams().get(site.name()).is_some();
        if self.is_stateful(at) && (known || self.bindings()[at].opened.load(Ordering::Acquire)) {
            // There was one, and it cannot be taken up: its state is lost.
            return Err(CallError::Gone);
        }
        let shared = site.connector.config().sessions == Sharing::Shared;
        let hello = Hello {
            version: self.version,
            client_info: self.facts.client_info().clone(),
            capabilities: if shared { "{}".into() } else { self.facts.capabilities().clone() },
        };
        if !self.gate.pass().await {
            return Err(CallError::Closed);
        }
        let opened = site.connector.open(&hello).await?;
        self.bindings()[at].opened.store(true, Ordering::Release);
        if opened.session_id.is_some() || self.is_stateful(at) {
            self.record_binding(site, opened.session_id, opened.version).await;
        }
        let listener = if shared { None } else { self.listen(at, &opened.peer).await };
        if !shared {
            self.replay(at, &opened.peer).await;
        }
        Ok(Bound { peer: opened.peer, listener })
    }

    /// Modern endpoints and one shared HTTP session serve everybody; processes are lent, also where they are shared.
    fn has_session_of_its_own(&self, site: &Site, up: &Up) -> bool {
        let config = site.connector.config();
        up.profile.era == Era::Legacy && (config.sessions == Sharing::PerClient || config.url.is_none())
    }

    async fn record_binding(&self, site: &Site, session_id: Option<Arc<str>>, version: Version) {
        let binding = UpstreamBinding { session_id, version: version.as_str().into() };
        let command = Command::BindUpstream { id: self.id, upstream: site.name().into(), binding };
        if !self.gate.pass().await {
            return;
        }
        if let Err(error) = self.writer.submit(command).await {
            tracing::warn!(slot = %self.id.slot(), upstream = site.name(), %error, "upstream session not recorded");
        }
    }

    /// The upstream session that the registry remembers from before a restart; tried once.
    fn resume(&self, at: usize) -> Option<Arc<dyn Peer>> {
        let site = &self.view.sites[at];
        let binding = self.facts.upstreams().get(site.name())?;
        let version = Version::parse(&binding.version)?;
        if self.bindings()[at].resumed.swap(true, Ordering::AcqRel) {
            return None;
        }
        site.connector.resume(binding.session_id.as_deref()?, version)
    }

    /// What the client had set before is set again in a new upstream session.
    async fn replay(&self, at: usize, peer: &Arc<dyn Peer>) {
        let site = &self.view.sites[at];
        if let Some(level) = self.log_level().filter(|_| site.up().is_some_and(|up| up.profile.declares(&["logging"])))
        {
            self.set_level_at(site, &**peer, &level).await;
        }
        for uri in self.watched() {
            let Some(target) = self.view.resolve_uri(&uri).await.filter(|target| target.site == at) else { continue };
            let params = format!("{{\"uri\":{}}}", json::quote(&target.original));
            if !self.gate.pass().await {
                return;
            }
            match ask::ask(&**peer, "resources/subscribe", &params, None, site.deadline()).await {
                // Nobody knows what changed meanwhile.
                Ok(_) => self.updated(&uri),
                Err(error) => tracing::warn!(upstream = site.name(), %error, "not subscribed again"),
            }
        }
    }

    async fn set_level_at(&self, site: &Site, peer: &dyn Peer, level: &str) {
        let params = format!("{{\"level\":{}}}", json::quote(level));
        if self.gate.pass_within(HOLD_MAX).await.is_err() {
            return;
        }
        if let Err(error) = ask::ask(peer, "logging/setLevel", &params, None, site.deadline()).await {
            tracing::warn!(upstream = site.name(), %error, "log level not set");
        }
    }

    /// Sets the log level in every open upstream session of this client's own.
    pub(crate) async fn set_level(&self, level: &str) {
        *self.parts().log_level.lock() = Some(level.into());
        let declares = |at: &usize| self.view.sites[*at].up().is_some_and(|up| up.profile.declares(&["logging"]));
        let own = (0..self.bindings().len()).filter(|at| self.owns_session(*at)).filter(declares);
        let open: Vec<_> = own.filter_map(|at| Some((&self.view.sites[at], self.bound(at)?))).collect();
        join_all(open.iter().map(|(site, peer)| self.set_level_at(site, &**peer, level))).await;
    }

    /// True where the session with an upstream is this client's alone.
    pub(crate) fn owns_session(&self, at: usize) -> bool {
        let site = &self.view.sites[at];
        let legacy = site.up().is_some_and(|up| up.profile.era == Era::Legacy);
        legacy && site.connector.config().sessions == Sharing::PerClient
    }

    /// Watches a resource through the client's own session, or stops to.
    pub(crate) async fn watch(self: &Arc<Self>, target: &Target, uri: &Arc<str>, on: bool) -> Result<(), AskError> {
        let peer = self.peer(target.site).await?;
        if on {
            self.ensure_listening(target.site, &peer).await;
        }
        let method = if on { "resources/subscribe" } else { "resources/unsubscribe" };
        let params = format!("{{\"uri\":{}}}", json::quote(&target.original));
        if self.gate.pass_within(HOLD_MAX).await.is_err() {
            return Err(CallError::Closed.into());
        }
        ask::ask(&*peer, method, &params, None, self.view.sites[target.site].deadline()).await?;
        let mut watched = self.parts().watched.lock();
        if on {
            watched.insert(uri.clone());
        } else {
            watched.remove(uri);
        }
        Ok(())
    }

    fn watched(&self) -> Vec<Arc<str>> {
        self.parts().watched.lock().iter().cloned().collect()
    }

    /// The client reads its general stream: what upstreams say outside calls can reach it from now on.
    pub(crate) async fn listen_everywhere(self: &Arc<Self>) {
        for at in 0..self.bindings().len() {
            if let Some(peer) = self.bound(at).filter(|_| self.owns_session(at)) {
                self.ensure_listening(at, &peer).await;
            }
        }
        for uri in self.watched() {
            // Opening the session watches what was watched before; open ones do already.
            if let Some(target) = self.view.resolve_uri(&uri).await.filter(|target| self.owns_session(target.site)) {
                let _ = self.peer(target.site).await;
            }
        }
    }

    async fn ensure_listening(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) {
        let _opening = self.bindings()[at].opening.lock().await;
        let deaf = |bound: &Bound| {
            let hears = bound.listener.as_ref().is_some_and(|listener| !listener.is_finished());
            Arc::ptr_eq(&bound.peer, peer) && !hears
        };
        if !self.bindings()[at].now.lock().as_ref().is_some_and(deaf) {
            return;
        }
        let listener = self.start_listening(at, peer).await;
        if let Some(bound) = self.bindings()[at].now.lock().as_mut().filter(|bound| deaf(bound)) {
            bound.listener = listener;
        }
    }

    /// Listens to what the upstream says outside calls, where the client could hear or answer it.
    async fn listen(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) -> Option<Arc<AbortOnDropHandle<()>>> {
        let asks = ["sampling", "elicitation", "roots"];
        let can_answer = asks.iter().any(|name| json::get(self.facts.capabilities(), name).is_some());
        if !can_answer && self.parts().watched.lock().is_empty() && !self.is_heard() {
            return None;
        }
        self.start_listening(at, peer).await
    }

    async fn start_listening(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) -> Option<Arc<AbortOnDropHandle<()>>> {
        if !self.gate.pass().await {
            return None;
        }
        let messages = peer.listen().await.ok().flatten()?;
        let task = self.tasks.spawn(super::hear::run(Arc::downgrade(self), at, peer.clone(), messages));
        Some(Arc::new(AbortOnDropHandle::new(task)))
    }

    /// What upstreams say outside calls is heard elsewhere.
    pub(super) fn stop_listening(&self) {
        for binding in self.made().iter().flat_map(|parts| &parts.bindings) {
            drop(binding.now.lock().as_mut().and_then(|bound| bound.listener.take()));
        }
    }

    /// Every open session with an upstream that is this client's alone.
    pub(super) fn own_peers(&self) -> Vec<Arc<dyn Peer>> {
        let made = self.made().map_or(0, |parts| parts.bindings.len());
        (0..made).filter(|at| self.owns_session(*at)).filter_map(|at| self.bound(at)).collect()
    }

    /// True where the session with an upstream holds what cannot be set up again.
    pub(crate) fn is_stateful(&self, at: usize) -> bool {
        let config = self.view.sites[at].connector.config();
        config.stateful && config.sessions == Sharing::PerClient
    }

    /// Ends the session, because an upstream has lost its side of it.
    pub(crate) async fn over(&self) {
        if self.gate.pass_within(HOLD_MAX).await.is_err() {
            return;
        }
        let command = Command::EndSession { id: self.id, reason: EndReason::Upstream };
        if let Err(error) = self.writer.submit(command).await {
            tracing::warn!(slot = %self.id.slot(), %error, "session not ended");
        }
    }

    /// Closes sessions of a client that has been idle for longer than their upstreams allow.
    pub(crate) async fn close_idle_upstreams(&self) {
        let idle = self.idle();
        let late = |site: &Site| {
            let config = site.connector.config();
            idle > Duration::from_millis(config.idle_ms) && !config.stateful
        };
        self.close_upstreams(late).await;
    }

    /// Closes upstream sessions, also those that are only remembered; they open again at the next use.
    pub(super) async fn close_upstreams(&self, which: impl Fn(&Site) -> bool) {
        let ended = self.ended.load(Ordering::Acquire);
        // What is idle is not waited for: the next sweep finds it again.
        let within = if ended { HOLD_MAX } else { Duration::ZERO };
        if self.gate.pass_within(within).await.is_err() {
            return;
        }
        let mut closing = Vec::new();
        for (at, site) in self.view.sites.iter().enumerate().filter(|(_, site)| which(site)) {
            let bound = self.made().and_then(|parts| parts.bindings[at].now.lock().take()).map(|bound| bound.peer);
            let control = |peer: &Arc<dyn Peer>| site.up().is_some_and(|up| Arc::ptr_eq(&up.peer, peer));
            closing.extend(bound.filter(|peer| !control(peer)));
            closing.extend(ended.then(|| self.resume(at)).flatten());
        }
        join_all(closing.iter().map(|peer| peer.close())).await;
    }

    /// Lets go of upstream sessions without a word: the new owner goes on with them. Processes end, which nobody else
    /// can use.
    pub(super) fn drop_upstreams(&self) {
        let Some(parts) = self.made() else { return };
        for (binding, site) in parts.bindings.iter().zip(&self.view.sites) {
            let Some(Bound { peer, listener }) = binding.now.lock().take() else { continue };
            drop(listener);
            let control = site.up().is_some_and(|up| Arc::ptr_eq(&up.peer, &peer));
            if site.connector.config().url.is_none() && !control {
                self.tasks.spawn(async move { peer.close().await });
            }
        }
    }
}
