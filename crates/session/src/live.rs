//! A legacy session while it is used on this node: its upstream sessions, streams, calls in flight, and the questions
//! that upstreams asked its client.
//!
//! The registry holds what must survive; everything here can be built again from the record.

use crate::ask::{self, AskError};
use crate::call::Plan;
use crate::run::ask_client;
use crate::site::Site;
use crate::stream::{Kind as StreamKind, Stream};
use crate::topics::{Registration, Subscriber, notification};
use crate::view::{Target, View};
use crate::viewer::Scope;
use bytes::Bytes;
use enfilade_mcp::envelope::{Envelope, Kind, Response};
use enfilade_mcp::{Era, Id, Splice, Version, json};
use enfilade_registry::{Command, SessionId, SessionRecord, UpstreamBinding, Writer};
use enfilade_upstream::{CallError, Hello, Messages, Peer, Sharing};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Finished streams that are kept for a client that lost the end.
const FINISHED_KEPT: usize = 16;
/// Questions to the client that may be open at a time.
const QUESTIONS_MAX: usize = 1_024;

/// A session that is in use.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) version: Version,
    pub(crate) view: Arc<View>,
    record: Arc<SessionRecord>,
    writer: Arc<dyn Writer>,
    tasks: TaskTracker,
    bindings: Vec<Binding>,
    streams: Mutex<Streams>,
    calls: Mutex<HashMap<Id, Arc<Plan>>>,
    questions: Mutex<HashMap<u64, Question>>,
    next: AtomicU64,
    pub(crate) log_level: Mutex<Option<Arc<str>>>,
    /// What the client declared that it can do.
    pub(crate) scope: Scope,
    /// Resources that the client watches through its own upstream sessions, by the URIs that it knows.
    watched: Mutex<BTreeSet<Arc<str>>>,
    registration: Registration,
    used: Mutex<Instant>,
    ended: AtomicBool,
}

#[derive(Default)]
struct Binding {
    now: Mutex<Option<Bound>>,
    /// Held while a session is opened, so that it is opened once.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Bound {
    peer: Arc<dyn Peer>,
    listener: Option<Arc<AbortOnDropHandle<()>>>,
}

struct Streams {
    next: u64,
    /// The stream of messages that belong to no call.
    general: Arc<Stream>,
    calls: HashMap<u64, Arc<Stream>>,
    finished: std::collections::VecDeque<u64>,
}

/// A request of an upstream that the client has to answer.
struct Question {
    peer: Arc<dyn Peer>,
    id: Id,
}

/// Takes a call off its session when it ends, however it ends.
pub(crate) struct Entered {
    live: Arc<Live>,
    id: Id,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.live.calls.lock().remove(&self.id);
    }
}

impl Live {
    pub(crate) fn new(
        record: Arc<SessionRecord>,
        version: Version,
        view: Arc<View>,
        writer: Arc<dyn Writer>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let general = Stream::new(0, TERM, general_kind(version));
        let subscriber = Subscriber {
            stream: Arc::downgrade(&general),
            sites: view.indexes.clone(),
            lists: crate::lists::ListKind::ALL.to_vec(),
            listen_id: None,
        };
        let hub = view.sites[0].hub.clone();
        Arc::new(Self {
            id: record.id,
            version,
            bindings: view.sites.iter().map(|_| Binding::default()).collect(),
            streams: Mutex::new(Streams {
                next: 1,
                general,
                calls: HashMap::new(),
                finished: std::collections::VecDeque::new(),
            }),
            calls: Mutex::default(),
            questions: Mutex::default(),
            next: AtomicU64::new(1),
            log_level: Mutex::new(record.log_level.clone()),
            scope: Scope::of(&record.capabilities),
            watched: Mutex::new(record.subscriptions.iter().cloned().collect()),
            registration: hub.register(subscriber),
            used: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            view,
            record,
            writer,
            tasks,
        })
    }

    pub(crate) fn record(&self) -> &SessionRecord {
        &self.record
    }

    pub(crate) fn subscriber_id(&self) -> u64 {
        self.registration.id
    }

    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(crate) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }

    /// True while calls are in flight or the client reads a stream.
    pub(crate) fn is_busy(&self) -> bool {
        !self.calls.lock().is_empty() || self.streams.lock().general.is_attached()
    }

    // ---- upstream sessions ----

    /// The session with one upstream, opened now if need be.
    pub(crate) async fn peer(self: &Arc<Self>, at: usize) -> Result<Arc<dyn Peer>, CallError> {
        if let Some(peer) = self.bound(at) {
            return Ok(peer);
        }
        let _opening = self.bindings[at].opening.lock().await;
        if let Some(peer) = self.bound(at) {
            return Ok(peer);
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        let bound = self.bind(at).await?;
        let peer = bound.peer.clone();
        *self.bindings[at].now.lock() = Some(bound);
        Ok(peer)
    }

    /// The session with an upstream of this session's server.
    pub(crate) async fn peer_of(self: &Arc<Self>, site: &Site) -> Result<Arc<dyn Peer>, CallError> {
        let at = self.view.sites.iter().position(|own| own.index == site.index).ok_or(CallError::Unreachable)?;
        self.peer(at).await
    }

    /// The session with one upstream, if it is open.
    pub(crate) fn bound(&self, at: usize) -> Option<Arc<dyn Peer>> {
        self.bindings[at].now.lock().as_ref().map(|bound| bound.peer.clone()).filter(|peer| peer.is_alive())
    }

    /// Forgets an upstream session that the upstream forgot.
    pub(crate) async fn unbind(&self, at: usize, gone: &Arc<dyn Peer>) {
        let mut now = self.bindings[at].now.lock();
        if now.as_ref().is_some_and(|bound| Arc::ptr_eq(&bound.peer, gone)) {
            *now = None;
        }
    }

    async fn bind(self: &Arc<Self>, at: usize) -> Result<Bound, CallError> {
        let site = &self.view.sites[at];
        let up = site.wait_up(site.deadline()).await?;
        let config = site.connector.config();
        let one_for_all = config.sessions == Sharing::Shared && config.url.is_some();
        if up.profile.era == Era::Modern || one_for_all {
            return Ok(Bound { peer: up.peer, listener: None });
        }
        if let Some(peer) = self.resume(site) {
            let listener = self.listen(at, &peer).await;
            return Ok(Bound { peer, listener: listener });
        }
        let shared = config.sessions == Sharing::Shared;
        let hello = Hello {
            version: self.version,
            client_info: self.record.client_info.clone(),
            capabilities: if shared { "{}".into() } else { self.record.capabilities.clone() },
        };
        let opened = site.connector.open(&hello).await?;
        let binding =
            UpstreamBinding { session_id: opened.session_id.clone(), version: opened.version.as_str().into() };
        if binding.session_id.is_some() {
            let command = Command::BindUpstream { id: self.id, upstream: site.name().into(), binding };
            if let Err(error) = self.writer.submit(command).await {
                tracing::warn!(session = %self.id.slot(), upstream = site.name(), %error, "binding not recorded");
            }
        }
        let listener = if shared { None } else { self.listen(at, &opened.peer).await };
        let bound = Bound { peer: opened.peer, listener: listener };
        self.replay(at, &bound.peer).await;
        Ok(bound)
    }

    /// The upstream session that the registry remembers from before a restart; tried once.
    fn resume(&self, site: &Site) -> Option<Arc<dyn Peer>> {
        let binding = self.record.upstreams.get(site.name())?;
        let version = Version::parse(&binding.version)?;
        if self.next.fetch_or(RESUMED, Ordering::AcqRel) & RESUMED != 0 {
            return None;
        }
        site.connector.resume(binding.session_id.as_deref()?, version)
    }

    /// What the client had set before is set again in a new upstream session.
    async fn replay(&self, at: usize, peer: &Arc<dyn Peer>) {
        let site = &self.view.sites[at];
        let level = self.log_level.lock().clone();
        if let Some(level) = level.filter(|_| site.up().is_some_and(|up| up.profile.declares(&["logging"]))) {
            let params = format!("{{\"level\":{}}}", json::quote(&level));
            let set = ask::ask(&**peer, "logging/setLevel", &params, None, site.deadline()).await;
            if let Err(error) = set {
                tracing::warn!(upstream = site.name(), %error, "log level could not be set again");
            }
        }
        let watched: Vec<Arc<str>> = self.watched.lock().iter().cloned().collect();
        for uri in watched {
            let Some(target) = self.view.resolve_uri(&uri).await.filter(|target| target.site == at) else { continue };
            let params = format!("{{\"uri\":{}}}", json::quote(&target.original));
            match ask::ask(&**peer, "resources/subscribe", &params, None, site.deadline()).await {
                // Nobody knows what changed meanwhile.
                Ok(_) => self.updated(&uri),
                Err(error) => tracing::warn!(upstream = site.name(), %error, "not subscribed again"),
            }
        }
    }

    /// Watches a resource through the client's own session, or stops to.
    pub(crate) async fn watch(self: &Arc<Self>, target: &Target, uri: &Arc<str>, on: bool) -> Result<(), AskError> {
        let peer = self.peer(target.site).await?;
        if on {
            self.ensure_listening(target.site, &peer).await;
        }
        let method = if on { "resources/subscribe" } else { "resources/unsubscribe" };
        let params = format!("{{\"uri\":{}}}", json::quote(&target.original));
        ask::ask(&*peer, method, &params, None, self.view.sites[target.site].deadline()).await?;
        let mut watched = self.watched.lock();
        if on {
            watched.insert(uri.clone());
        } else {
            watched.remove(uri);
        }
        Ok(())
    }

    /// The client reads its general stream: what upstreams say outside calls can reach it from now on.
    pub(crate) async fn listen_everywhere(self: &Arc<Self>) {
        for at in 0..self.bindings.len() {
            if let Some(peer) = self.bound(at).filter(|_| self.owns_session(at)) {
                self.ensure_listening(at, &peer).await;
            }
        }
        let watched: Vec<Arc<str>> = self.watched.lock().iter().cloned().collect();
        for uri in watched {
            // Opening the session watches what was watched before; open ones do already.
            if let Some(target) = self.view.resolve_uri(&uri).await.filter(|target| self.owns_session(target.site)) {
                let _ = self.peer(target.site).await;
            }
        }
    }

    /// True where the session with an upstream is this client's alone.
    pub(crate) fn owns_session(&self, at: usize) -> bool {
        let site = &self.view.sites[at];
        let legacy = site.up().is_some_and(|up| up.profile.era == Era::Legacy);
        legacy && site.connector.config().sessions == Sharing::PerClient
    }

    async fn ensure_listening(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) {
        let _opening = self.bindings[at].opening.lock().await;
        let here = |bound: &Bound| Arc::ptr_eq(&bound.peer, peer) && bound.listener.is_none();
        if !self.bindings[at].now.lock().as_ref().is_some_and(here) {
            return;
        }
        let listener = self.start_listening(at, peer).await;
        if let Some(bound) = self.bindings[at].now.lock().as_mut().filter(|bound| here(bound)) {
            bound.listener = listener;
        }
    }

    fn updated(&self, uri: &str) {
        let method = "notifications/resources/updated";
        let members = format!("\"uri\":{}", json::quote(uri));
        self.general().notice(uri, notification(method, &members, None));
    }

    /// Listens to what the upstream says outside calls, where the client could hear or answer it.
    async fn listen(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) -> Option<Arc<AbortOnDropHandle<()>>> {
        let asks = ["sampling", "elicitation", "roots"];
        let can_answer = asks.iter().any(|name| json::get(&self.record.capabilities, name).is_some());
        let watches = !self.watched.lock().is_empty();
        if !can_answer && !watches && !self.general().is_attached() {
            return None;
        }
        self.start_listening(at, peer).await
    }

    async fn start_listening(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>) -> Option<Arc<AbortOnDropHandle<()>>> {
        let messages = peer.listen().await.ok().flatten()?;
        let task = self.tasks.spawn(hear(Arc::downgrade(self), at, peer.clone(), messages));
        Some(Arc::new(AbortOnDropHandle::new(task)))
    }

    // ---- calls ----

    /// Notes a call; none when its id is in use or there are too many.
    pub(crate) fn enter(self: &Arc<Self>, plan: &Arc<Plan>, most: usize) -> Result<Entered, &'static str> {
        let mut calls = self.calls.lock();
        if calls.len() >= most {
            return Err("too many calls of this session are in flight; wait for answers");
        }
        if calls.contains_key(&plan.id) {
            return Err("a request with this id is in flight already; use another id");
        }
        calls.insert(plan.id.clone(), plan.clone());
        Ok(Entered { live: self.clone(), id: plan.id.clone() })
    }

    /// The client does not want the answer to `id` any more.
    pub(crate) fn cancel(&self, id: &Id) {
        if let Some(plan) = self.calls.lock().get(id) {
            plan.cancelled.cancel();
        }
    }

    /// The call that is in flight at an upstream, when it is the only one.
    fn only_call(&self, at: usize) -> Option<Arc<Plan>> {
        let calls = self.calls.lock();
        let mut there = calls.values().filter(|plan| plan.at == at);
        let only = there.next()?;
        there.next().is_none().then(|| only.clone())
    }

    // ---- questions to the client ----

    /// Notes a request of an upstream and gives the id under which the client gets it.
    pub(crate) fn expect_answer(&self, peer: &Arc<dyn Peer>, id: &Id) -> u64 {
        let ours = self.next.fetch_add(1, Ordering::Relaxed) & !RESUMED;
        let mut questions = self.questions.lock();
        if questions.len() >= QUESTIONS_MAX
            && let Some(oldest) = questions.keys().min().copied()
        {
            questions.remove(&oldest);
        }
        questions.insert(ours, Question { peer: peer.clone(), id: id.clone() });
        ours
    }

    /// Takes the client's answer to the upstream that asked. Answers to nothing are dropped (JSON-RPC).
    pub(crate) async fn answer(&self, text: &str, response: &Response<'_>) {
        let (Some(id), Some(id_text)) = (&response.id, response.id_text) else { return };
        let question = id.as_number().and_then(|id| self.questions.lock().remove(&id));
        let Some(question) = question else { return };
        let mut splice = Splice::new(text);
        splice.replace(id_text, question.id.as_json().to_owned());
        if let Err(error) = question.peer.send(splice.finish().into()).await {
            tracing::warn!(%error, "the client's answer did not reach the upstream");
        }
    }

    /// The upstream withdraws a question.
    fn withdraw(&self, peer: &Arc<dyn Peer>, id: &Id) -> Option<u64> {
        let mut questions = self.questions.lock();
        let ours = questions.iter().find(|(_, q)| Arc::ptr_eq(&q.peer, peer) && q.id == *id).map(|(ours, _)| *ours)?;
        questions.remove(&ours);
        Some(ours)
    }

    /// A notification of the client, for every upstream that it has a session with.
    pub(crate) async fn tell_upstreams(&self, message: Bytes) {
        for binding in &self.bindings {
            let peer = binding.now.lock().as_ref().map(|bound| bound.peer.clone());
            if let Some(peer) = peer {
                let _ = peer.send(message.clone()).await;
            }
        }
    }

    /// Sets the log level in every open upstream session.
    pub(crate) async fn set_level(&self, level: &str) {
        *self.log_level.lock() = Some(level.into());
        let params = format!("{{\"level\":{}}}", json::quote(level));
        for (binding, site) in self.bindings.iter().zip(&self.view.sites) {
            let legacy = site.up().is_some_and(|up| up.profile.era == Era::Legacy);
            let peer = binding.now.lock().as_ref().map(|bound| bound.peer.clone()).filter(|_| legacy);
            if let Some(peer) = peer {
                let _ = ask::ask(&*peer, "logging/setLevel", &params, None, site.deadline()).await;
            }
        }
    }

    // ---- streams ----

    /// The stream of messages that belong to no call.
    pub(crate) fn general(&self) -> Arc<Stream> {
        self.streams.lock().general.clone()
    }

    /// A stream for one call.
    pub(crate) fn open_stream(&self) -> Arc<Stream> {
        let mut streams = self.streams.lock();
        let id = streams.next;
        streams.next += 1;
        let stream = Stream::new(id, TERM, call_kind(self.version));
        streams.calls.insert(id, stream.clone());
        stream
    }

    /// The stream with this number.
    pub(crate) fn stream(&self, id: u64) -> Option<Arc<Stream>> {
        let streams = self.streams.lock();
        if id == 0 { Some(streams.general.clone()) } else { streams.calls.get(&id).cloned() }
    }

    /// A call's stream is complete; it is kept for a while for a client that lost its end.
    pub(crate) fn close_stream(&self, stream: &Stream) {
        stream.finish();
        let mut streams = self.streams.lock();
        streams.finished.push_back(stream.id());
        while streams.finished.len() > FINISHED_KEPT {
            if let Some(old) = streams.finished.pop_front() {
                streams.calls.remove(&old);
            }
        }
    }

    // ---- end ----

    /// Ends everything that belongs to the session here.
    pub(crate) async fn end(&self) {
        self.suspend().await;
        self.close_upstreams().await;
    }

    /// Ends what is here but leaves the session's record, and its sessions at HTTP upstreams, to be taken up again.
    pub(crate) async fn suspend(&self) {
        self.ended.store(true, Ordering::Release);
        self.calls.lock().values().for_each(|plan| plan.cancelled.cancel());
        let streams: Vec<Arc<Stream>> = {
            let streams = self.streams.lock();
            streams.calls.values().chain([&streams.general]).cloned().collect()
        };
        streams.iter().for_each(|stream| stream.finish());
    }

    /// Closes upstream sessions of a client that has been idle for longer than their upstreams allow.
    pub(crate) async fn close_idle_upstreams(&self) {
        let idle = self.idle();
        let over = |site: &Arc<Site>| idle > Duration::from_millis(site.connector.config().idle_ms);
        if self.view.sites.iter().any(over) {
            self.close_upstreams().await;
        }
    }

    /// Closes the upstream sessions; they open again at the next use.
    pub(crate) async fn close_upstreams(&self) {
        for (binding, site) in self.bindings.iter().zip(&self.view.sites) {
            let Some(bound) = binding.now.lock().take() else { continue };
            let control = site.up().is_some_and(|up| Arc::ptr_eq(&up.peer, &bound.peer));
            if !control {
                bound.peer.close().await;
            }
        }
    }
}

/// The term of every slot on a node that is alone.
const TERM: u64 = 1;
/// Marks, in the counter of question ids, that the remembered upstream sessions were tried.
const RESUMED: u64 = 1 << 62;

fn general_kind(version: Version) -> StreamKind {
    if version.has_event_ids() { StreamKind::Resumable { priming: false } } else { StreamKind::Ephemeral }
}

fn call_kind(version: Version) -> StreamKind {
    if version.has_event_ids() {
        StreamKind::Resumable { priming: version.has_priming() }
    } else {
        StreamKind::Ephemeral
    }
}

/// Passes on what an upstream says outside calls, until its stream or the session ends.
async fn hear(live: Weak<Live>, at: usize, peer: Arc<dyn Peer>, mut messages: Messages) {
    while let Some(Ok(message)) = messages.next().await {
        let Some(live) = live.upgrade() else { return };
        live.hear_one(at, &peer, &message).await;
    }
}

impl Live {
    async fn hear_one(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>, message: &[u8]) {
        let Ok(envelope) = Envelope::parse(message) else { return };
        match &envelope.kind {
            Kind::Request(request) => match ask_client(Some(self), peer, envelope.text, request) {
                Ok(question) => self.deliver(at, question),
                Err(answer) => {
                    let _ = peer.send(answer).await;
                }
            },
            Kind::Notification(notification) => {
                let text = match notification.method.as_ref() {
                    "notifications/cancelled" => self.map_cancelled(peer, envelope.text, notification.params),
                    // The control session of the upstream announces these, once for all.
                    "notifications/tools/list_changed"
                    | "notifications/prompts/list_changed"
                    | "notifications/resources/list_changed" => None,
                    "notifications/resources/updated" => {
                        let uri = notification.params.and_then(|params| json::get(params, "uri"));
                        if let Some(uri) = uri.and_then(json::string) {
                            self.updated(&self.view.issued_uri(at, &uri).unwrap_or_else(|| uri.into_owned()));
                        }
                        None
                    }
                    _ => Some(Bytes::copy_from_slice(envelope.text.as_bytes())),
                };
                if let Some(text) = text {
                    let subject = format!("{}#{}", notification.method, self.next.fetch_add(1, Ordering::Relaxed));
                    self.general().notice(&subject, text);
                }
            }
            Kind::Response(_) => {}
        }
    }

    /// A question goes to the general stream if somebody reads it, else to the only call in flight there.
    fn deliver(&self, at: usize, question: Bytes) {
        let general = self.general();
        if general.is_attached() {
            general.send(question);
        } else if let Some(plan) = self.only_call(at) {
            plan.outlet.send(question);
        } else {
            general.send(question);
        }
    }

    fn map_cancelled(&self, peer: &Arc<dyn Peer>, text: &str, params: Option<&str>) -> Option<Bytes> {
        let raw = json::get(params?, "requestId")?;
        let ours = self.withdraw(peer, &Id::from_json(raw)?)?;
        Some(Splice::new(text).replace(raw, ours.to_string()).finish().into())
    }
}
