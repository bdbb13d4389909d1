//! One message of a client, from its method to the reply: what the gateway answers itself, and what goes upstream.

use crate::ask::IMPLEMENTATION;
use crate::call::{Counted, Outlet, Plan};
use crate::lists::ListKind;
use crate::live::{Entered, Live};
use crate::node::{Node, is_request};
use crate::owner::{Caller, HeaderLookup, Reply};
use crate::route::{self, Route};
use crate::run::{self, First};
use crate::site::Up;
use crate::stream::{EventId, Kind as StreamKind, Stream};
use crate::view::View;
use crate::viewer::{Scope, Viewer};
use bytes::Bytes;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::envelope::{Notification, Request};
use enfilade_mcp::error::{modern_status, result_message};
use enfilade_mcp::meta::Meta;
use enfilade_mcp::method::Method;
use enfilade_mcp::translate::{self, ClientMeta};
use enfilade_mcp::{Envelope, Era, Id, Kind, RpcError, Splice, Version, json};
use enfilade_registry::{Command, NewSession, Outcome, Refusal, Slot, WriteError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The levels of `logging/setLevel` (RFC 5424).
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Who asks whom.
#[derive(Clone, Copy)]
pub(crate) struct Handling<'a> {
    pub(crate) node: &'a Node,
    caller: Caller<'a>,
    pub(crate) view: &'a Arc<View>,
}

impl<'a> Handling<'a> {
    pub(crate) fn new(node: &'a Node, caller: Caller<'a>) -> Self {
        Self { node, caller, view: &node.views[caller.server.0] }
    }

    // ---- sessions ----

    pub(crate) async fn initialize(self, envelope: &Envelope<'_>) -> Reply {
        let Kind::Request(request) = &envelope.kind else { return Reply::Accepted };
        let id = Some(&request.id);
        let params = request.params.unwrap_or("{}");
        let Some(requested) = json::get(params, "protocolVersion").and_then(json::string) else {
            return Reply::error(200, id, &RpcError::invalid_params("\"protocolVersion\" must be a string"));
        };
        let version = Version::negotiate(&requested);
        let object = |name: &str| json::get(params, name).filter(|text| json::is_object(text)).unwrap_or("{}");
        let command = Command::CreateSession(NewSession {
            id: match self.mint() {
                Ok(id) => id,
                Err(error) => return Reply::error(500, id, &error),
            },
            principal: self.caller.principal.into(),
            server: self.view.config.name.as_str().into(),
            version: version.as_str().into(),
            client_info: object("clientInfo").into(),
            capabilities: object("capabilities").into(),
            log_level: None,
        });
        let session = match self.node.registry.writer.submit(command).await {
            Ok(Outcome::Created(record)) => record.id,
            Ok(_) | Err(WriteError::Unavailable) => return registry_unavailable(id),
            Err(WriteError::Refused(refusal)) => return refused(id, &refusal),
        };
        let capabilities = self.view.capabilities(Era::Legacy).await;
        let instructions = self.view.instructions().map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        let result = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{IMPLEMENTATION}{instructions}}}"#
        );
        let body = Bytes::from(result_message(&request.id, &result));
        Reply::Message { status: 200, body, session: Some(session), retry_after_s: None }
    }

    fn mint(self) -> Result<enfilade_registry::SessionId, RpcError> {
        let mut random = [0u8; 18];
        let failed = |_| RpcError::gateway(true, "no randomness is available for a session id");
        getrandom::fill(&mut random).map_err(failed)?;
        let [high, low, id @ ..] = random;
        let slot = Slot::new(u16::from_be_bytes([high, low]) % enfilade_registry::SLOTS);
        let slot = slot.ok_or_else(|| RpcError::gateway(true, "no slot for a session id"))?;
        Ok(self.node.registry.keys.mint(slot, id))
    }

    pub(crate) async fn legacy(self, live: &Arc<Live>, envelope: &Envelope<'_>) -> Reply {
        match &envelope.kind {
            Kind::Request(request) => self.legacy_request(live, envelope, request).await,
            Kind::Notification(notification) => {
                self.legacy_notification(live, envelope.text, notification).await;
                Reply::Accepted
            }
            Kind::Response(response) => {
                live.answer(envelope.text, response).await;
                Reply::Accepted
            }
        }
    }

    async fn legacy_notification(self, live: &Arc<Live>, text: &str, notification: &Notification<'_>) {
        match notification.method.as_ref() {
            // Service began when `initialize` was answered (BRIDGE.md 2).
            "notifications/initialized" => {}
            "notifications/cancelled" => {
                let id = notification.params.and_then(|params| json::get(params, "requestId")).and_then(Id::from_json);
                if let Some(id) = id {
                    live.cancel(&id);
                }
            }
            _ => live.tell_upstreams(Bytes::copy_from_slice(text.as_bytes())).await,
        }
    }

    async fn legacy_request(self, live: &Arc<Live>, envelope: &Envelope<'_>, request: &Request<'_>) -> Reply {
        let method = Method::parse(&request.method);
        let done = |result: &str| Reply::message(result_message(&request.id, result));
        let fail = |error: &RpcError| Reply::error(200, Some(&request.id), error);
        match method {
            Some(Method::Ping) => done("{}"),
            Some(Method::SetLevel) => match self.set_level(live, request).await {
                Ok(()) => done("{}"),
                Err(error) => fail(&error),
            },
            Some(Method::ResourcesSubscribe | Method::ResourcesUnsubscribe) => {
                match self.subscribe(live, request, method == Some(Method::ResourcesSubscribe)).await {
                    Ok(()) => done("{}"),
                    Err(error) => fail(&error),
                }
            }
            Some(Method::Initialize) => fail(&RpcError::invalid_request("this session is initialised already")),
            Some(method) if method.is_modern_only() => fail(&RpcError::method_not_found(&request.method)),
            Some(method) if ListKind::of(method).is_some() => {
                let viewer = Viewer { scope: live.scope.clone(), live: Some(live.clone()) };
                self.list(request, method, live.version, &viewer).await
            }
            method => self.legacy_call(live, envelope, request, method).await,
        }
    }

    async fn list(self, request: &Request<'_>, method: Method, version: Version, viewer: &Viewer) -> Reply {
        let kind = ListKind::of(method).unwrap_or(ListKind::Tools);
        let cursor = request.params.and_then(|params| json::get(params, "cursor"));
        match self.view.page(kind, cursor, version, viewer).await {
            Ok(result) => Reply::message(result_message(&request.id, &result)),
            Err(error) => Reply::error(200, Some(&request.id), &error),
        }
    }

    async fn set_level(self, live: &Arc<Live>, request: &Request<'_>) -> Result<(), RpcError> {
        let raw = route::string_param(request.params.unwrap_or("{}"), "level")?;
        let level = json::string(raw).unwrap_or_default();
        if !LEVELS.contains(&level.as_ref()) {
            return Err(RpcError::invalid_params("\"level\" must be one of debug … emergency (RFC 5424)"));
        }
        let command = Command::SetLogLevel { id: live.id, level: Some(level.as_ref().into()) };
        self.node.registry.writer.submit(command).await.map_err(|error| write_failed(&error))?;
        live.set_level(&level).await;
        Ok(())
    }

    async fn legacy_call(
        self,
        live: &Arc<Live>,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        method: Option<Method>,
    ) -> Reply {
        let plan = match self.plan(envelope, request, method, Asker::Session(live)).await {
            Ok(plan) => plan,
            Err(error) => return Reply::error(200, Some(&request.id), &legacy_error(error, method)),
        };
        let entered = match live.enter(&plan, self.node.limits.calls_per_session_max) {
            Ok(entered) => entered,
            Err(why) => return Reply::error(200, Some(&request.id), &RpcError::invalid_request(why)),
        };
        let mut call = Going::new(self.node, plan.clone(), entered);
        let head_wait = Duration::from_millis(self.node.limits.head_wait_ms);
        let first = tokio::select! {
            biased;
            first = tokio::time::timeout(head_wait, call.first()) => first.ok(),
            () = plan.outlet.commit.notified() => None,
        };
        match first {
            Some(First::Answered(answer)) => {
                call.done();
                Reply::with_status(answer.status, answer.text)
            }
            // Nobody waits for the answer; the stream ends without one (2025-11-25 cancellation).
            Some(First::Cancelled) => {
                call.done();
                let stream = Stream::new(0, 0, StreamKind::Ephemeral);
                stream.finish();
                stream_reply(&stream)
            }
            first => {
                let stream = live.open_stream();
                plan.outlet.open(&stream);
                call.go_on(first, stream.clone());
                stream_reply(&stream)
            }
        }
    }

    /// A batch (2025-03-26 only): one stream carries the answers of all its requests.
    pub(crate) async fn batch(self, live: &Arc<Live>, text: &str) -> Reply {
        if !live.version.has_batches() {
            let why = format!("batches are not part of {}; send one message at a time", live.version);
            return Reply::error(400, None, &RpcError::invalid_request(&why));
        }
        let elements: Vec<_> = json::elements(text).map(Envelope::of_text).collect();
        if elements.is_empty() {
            return Reply::error(400, None, &RpcError::invalid_request("an empty batch"));
        }
        let requests = elements.iter().any(|element| element.as_ref().map_or(true, is_request));
        let stream = live.open_stream();
        let replies = elements.into_iter().map(|element| async {
            match element {
                Ok(envelope) if is_initialize(&envelope) => {
                    let error = RpcError::invalid_request("initialize must not be part of a batch");
                    Some(Reply::error(200, None, &error))
                }
                Ok(envelope) => Some(self.legacy(live, &envelope).await).filter(|_| is_request(&envelope)),
                Err(refusal) => Some(Reply::error(200, refusal.id.as_ref(), &refusal.error)),
            }
        });
        let replies = futures::future::join_all(replies).await;
        if !requests {
            live.close_stream(&stream);
            return Reply::Accepted;
        }
        let (live, join) = (live.clone(), stream.clone());
        self.node.tasks.spawn(async move {
            let joined = replies.into_iter().flatten().map(|reply| drain(reply, &join));
            futures::future::join_all(joined).await;
            live.close_stream(&join);
        });
        stream_reply(&stream)
    }

    // ---- modern ----

    pub(crate) async fn modern(self, envelope: &Envelope<'_>, meta: &Modern<'_>, headers: &dyn HeaderLookup) -> Reply {
        let Kind::Request(request) = &envelope.kind else { return Reply::Accepted };
        let method = Method::parse(&request.method);
        match method {
            Some(Method::Discover) => Reply::message(result_message(&request.id, &self.view.discover().await)),
            Some(Method::Listen) => self.listen(request).await,
            Some(method) if ListKind::of(method).is_some() => {
                let viewer = Viewer { scope: Scope::of(meta.capabilities), live: None };
                self.list(request, method, Version::MODERN, &viewer).await
            }
            method => {
                let planned = match self.missing_extension(meta, method) {
                    Some(error) => Err(error),
                    None => self.plan(envelope, request, method, Asker::Modern(meta, headers)).await,
                };
                match planned {
                    Ok(plan) => self.modern_call(plan).await,
                    Err(error) => Reply::error(modern_status(error.code), Some(&request.id), &error),
                }
            }
        }
    }

    /// Methods of the tasks extension need its declaration, whatever task they name.
    fn missing_extension(self, meta: &Modern<'_>, method: Option<Method>) -> Option<RpcError> {
        let tasks = matches!(method, Some(Method::TasksGet | Method::TasksUpdate | Method::TasksCancel));
        let several = self.view.single().is_none();
        let declared = json::at(meta.capabilities, &["extensions", crate::view::TASKS]).is_some();
        (tasks && several && !declared)
            .then(|| RpcError::missing_capability(&format!(r#"{{"extensions":{{"{}":{{}}}}}}"#, crate::view::TASKS)))
    }

    async fn modern_call(self, plan: Arc<Plan>) -> Reply {
        let mut call = Going::modern(self.node, plan);
        match call.first().await {
            First::Answered(answer) => {
                call.done();
                Reply::with_status(answer.status, answer.text)
            }
            First::Cancelled => {
                call.done();
                Reply::Status(204)
            }
            first => {
                let stream = Stream::new(0, 0, StreamKind::Ephemeral);
                let reply = stream_reply(&stream);
                call.go_on(Some(first), stream);
                reply
            }
        }
    }

    // ---- both ----

    /// Prepares a call: finds its upstream and writes the request as that upstream must get it.
    async fn plan(
        self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        method: Option<Method>,
        asker: Asker<'_>,
    ) -> Result<Arc<Plan>, RpcError> {
        let meta = Meta::read(request.params).map_err(|e| RpcError::invalid_params(format!("params: {e}")))?;
        let mut splice = Splice::new(envelope.text);
        let viewer = asker.viewer();
        let route = route::route(self.view, request, method, &viewer, &mut splice).await?;
        let site = self.view.sites[route.site].clone();
        let up = site
            .wait_up(site.deadline())
            .await
            .map_err(|error| RpcError::upstream(true, format!("{}: {error}", site.name())))?;
        let arguments = request.params.and_then(|params| json::get(params, "arguments"));
        if let (Asker::Modern(_, headers), Some(Method::ToolsCall)) = (asker, method) {
            self.check_mirrored(&route, arguments, headers, &viewer).await?;
        }
        let upstream_id = up.peer.next_id();
        splice.replace(request.id_text, upstream_id.to_string());
        let token = meta.progress_token.map(|_| upstream_id.to_string());
        asker.edit(&up, &mut splice, envelope.text, request.params, token.as_deref());
        let mirrors = up.profile.era == Era::Modern && method == Some(Method::ToolsCall);
        Ok(Arc::new(Plan {
            view: self.view.clone(),
            at: route.site,
            method: request.method.clone().into_owned(),
            known: method,
            message: splice.finish().into(),
            upstream_id,
            upstream_era: up.profile.era,
            name: route.name,
            mirrored: arguments.filter(|_| mirrors).map(str::to_owned),
            id: request.id.clone(),
            token: meta.progress_token.map(str::to_owned),
            version: asker.version(),
            live: viewer.live.clone(),
            viewer,
            cancelled: CancellationToken::new(),
            outlet: Outlet::default(),
            _counted: Counted::new(&self.node.calls),
            site,
        }))
    }

    /// `Mcp-Param-*` of the client must say what its arguments say (BRIDGE.md 16).
    async fn check_mirrored(
        self,
        route: &Route,
        arguments: Option<&str>,
        headers: &dyn HeaderLookup,
        viewer: &Viewer,
    ) -> Result<(), RpcError> {
        let site = &self.view.sites[route.site];
        let tools = match site.last(ListKind::Tools, viewer) {
            Some(list) => Some(list),
            None => site.list(ListKind::Tools, viewer).await.ok().flatten(),
        };
        let item = tools.as_ref().zip(route.name.as_deref()).and_then(|(list, name)| list.item(name));
        let Some(item) = item.filter(|item| !item.headers.is_empty()) else { return Ok(()) };
        item.headers
            .validate(arguments, |name| headers.header(name))
            .map_err(|why| RpcError::header_mismatch(format!("Header mismatch: {why}")))
    }
}

/// Who a call is for.
#[derive(Clone, Copy)]
enum Asker<'a> {
    Session(&'a Arc<Live>),
    Modern(&'a Modern<'a>, &'a dyn HeaderLookup),
}

impl Asker<'_> {
    fn version(self) -> Version {
        match self {
            Self::Session(live) => live.version,
            Self::Modern(..) => Version::MODERN,
        }
    }

    fn viewer(self) -> Viewer {
        match self {
            Self::Session(live) => Viewer { scope: live.scope.clone(), live: Some(live.clone()) },
            Self::Modern(meta, _) => Viewer { scope: Scope::of(meta.capabilities), live: None },
        }
    }

    /// Writes progress token and metadata as the upstream's era has them.
    fn edit(self, up: &Up, splice: &mut Splice<'_>, text: &str, params: Option<&str>, token: Option<&str>) {
        match (self, up.profile.era) {
            (Self::Session(_), Era::Legacy) | (Self::Modern(..), Era::Modern) => {
                translate::edit_progress_token(splice, text, params, token);
            }
            (Self::Session(live), Era::Modern) => {
                let level = live.log_level.lock().clone();
                let client = ClientMeta {
                    info: Some(&live.record().client_info).map(|info| &**info).filter(|info| *info != "{}"),
                    // What a legacy client can be asked for is not translated yet, so nothing is declared.
                    capabilities: "{}",
                    log_level: level.as_deref(),
                };
                translate::edit_request_to_modern(splice, text, params, &client, token);
            }
            (Self::Modern(..), Era::Legacy) => translate::edit_request_to_legacy(splice, text, params, token),
        }
    }
}

/// A call that is under way. Dropping it before its end is what a broken connection does: a modern call is cancelled,
/// a legacy one runs on without a reader.
struct Going<'a> {
    node: &'a Node,
    plan: Arc<Plan>,
    entered: Option<Entered>,
    first: Option<futures::future::BoxFuture<'static, First>>,
}

impl<'a> Going<'a> {
    fn new(node: &'a Node, plan: Arc<Plan>, entered: Entered) -> Self {
        let mut going = Self::modern(node, plan);
        going.entered = Some(entered);
        going
    }

    fn modern(node: &'a Node, plan: Arc<Plan>) -> Self {
        let shared = plan.clone();
        let first: futures::future::BoxFuture<'static, First> = Box::pin(async move { run::first(&shared).await });
        Self { node, plan, entered: None, first: Some(first) }
    }

    async fn first(&mut self) -> First {
        match self.first.as_mut() {
            Some(first) => first.await,
            None => First::Cancelled,
        }
    }

    /// The call has ended.
    fn done(&mut self) {
        self.first = None;
        self.entered = None;
    }

    /// The rest of the call runs by itself and writes into `stream`.
    fn go_on(&mut self, first: Option<First>, stream: Arc<Stream>) {
        let pending = self.first.take();
        let entered = self.entered.take();
        let plan = self.plan.clone();
        self.node.tasks.spawn(async move {
            let run = async {
                let first = match (first, pending) {
                    (Some(first), _) => first,
                    (None, Some(pending)) => pending.await,
                    (None, None) => First::Cancelled,
                };
                match first {
                    First::Answered(answer) => {
                        stream.send(answer.text);
                    }
                    First::Cancelled => {}
                    First::Streaming(message, rest) => {
                        stream.send(message);
                        run::rest(&plan, rest, &stream).await;
                    }
                }
            };
            match &plan.live {
                Some(live) => {
                    run.await;
                    live.close_stream(&stream);
                }
                None => {
                    tokio::select! {
                        () = run => {}
                        // The client of a modern call went away: that cancels it.
                        () = stream.abandoned() => run::abandon(&plan).await,
                    }
                    stream.finish();
                }
            }
            drop(entered);
        });
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if self.first.is_none() {
            return;
        }
        if let Some(live) = self.plan.live.clone() {
            let stream = live.open_stream();
            self.plan.outlet.open(&stream);
            self.go_on(None, stream);
        } else if !self.plan.drop_cancels() {
            let plan = self.plan.clone();
            self.node.tasks.spawn(async move { run::abandon(&plan).await });
        }
    }
}

/// GET: the general stream, or the rest of the stream that an event was part of.
pub(crate) fn open_stream(live: &Arc<Live>, last_event_id: Option<&str>) -> Reply {
    let Some(last) = last_event_id.filter(|_| live.version.has_event_ids()) else {
        return stream_reply(&live.general());
    };
    let gone = || {
        let error = RpcError::invalid_request("Last-Event-ID names an event that is no longer kept; ask again");
        Reply::error(400, None, &error)
    };
    let Some(id) = EventId::parse(last) else { return gone() };
    let reader = live.stream(id.stream).and_then(|stream| stream.attach(Some(id.seq)));
    reader.map_or_else(gone, |stream| Reply::Events { stream, session: None })
}

fn stream_reply(stream: &Arc<Stream>) -> Reply {
    match stream.attach(None) {
        Some(stream) => Reply::Events { stream, session: None },
        None => Reply::Status(409),
    }
}

/// Writes what a reply holds into a stream.
async fn drain(reply: Reply, into: &Stream) {
    match reply {
        Reply::Message { body, .. } => {
            into.send(body);
        }
        Reply::Events { mut stream, .. } => {
            while let Some(event) = stream.next().await {
                if !event.data.is_empty() {
                    into.send(event.data);
                }
            }
        }
        Reply::Accepted | Reply::Status(_) => {}
    }
}

fn is_initialize(envelope: &Envelope<'_>) -> bool {
    matches!(&envelope.kind, Kind::Request(request) if request.method == Method::Initialize.as_str())
}

/// Until 2025-11-25 a missing resource has a code of its own.
fn legacy_error(mut error: RpcError, method: Option<Method>) -> RpcError {
    let missing = error.details.iter().any(|(name, _)| *name == "uri");
    if missing && method == Some(Method::ResourcesRead) {
        error.code = enfilade_mcp::error::code::RESOURCE_NOT_FOUND;
    }
    error
}

pub(crate) fn write_failed(error: &WriteError) -> RpcError {
    match error {
        WriteError::Unavailable => RpcError::gateway(true, "the session registry cannot be written now; try again"),
        WriteError::Refused(refusal) => RpcError::invalid_request(&refusal.to_string()),
    }
}

pub(crate) fn registry_unavailable(id: Option<&Id>) -> Reply {
    let body = write_failed(&WriteError::Unavailable).message(id).into();
    Reply::Message { status: 503, body, session: None, retry_after_s: Some(2) }
}

fn refused(id: Option<&Id>, refusal: &Refusal) -> Reply {
    let full = matches!(refusal, Refusal::PrincipalQuota { .. } | Refusal::RegistryFull { .. });
    let body = RpcError::invalid_request(&refusal.to_string()).message(id).into();
    let (status, retry_after_s) = if full { (503, Some(30)) } else { (400, None) };
    Reply::Message { status, body, session: None, retry_after_s }
}
