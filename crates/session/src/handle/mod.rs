//! One message of a client, from its method to the reply: what the gateway answers itself, and what goes upstream.

mod batch;
mod calls;
mod going;

use crate::ask::IMPLEMENTATION;
use crate::lists::ListKind;
use crate::live::Live;
use crate::node::Node;
use crate::owner::{Caller, HeaderLookup, Reply};
use crate::route;
use crate::stream::{EventId, Kind as StreamKind, Stream};
use crate::view::View;
use crate::viewer::{Scope, Viewer};
use bytes::Bytes;
use calls::Asker;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::envelope::{Notification, Request};
use enfilade_mcp::error::{modern_status, result_message};
use enfilade_mcp::method::Method;
use enfilade_mcp::{Envelope, Era, Id, Kind, RpcError, Version, json};
use enfilade_registry::{Command, EndReason, NewSession, NotServed, Outcome, Refusal, Slot, WriteError};
use std::sync::Arc;

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
        let slots = &self.node.slots;
        let (slot, fence) = match slots.mint().and_then(|slot| Ok((slot, slots.fence(slot)?))) {
            Ok(minted) => minted,
            Err(why) => return Reply::NotServed(why),
        };
        let command = Command::CreateSession(NewSession {
            id: match self.mint(slot) {
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
        let live = match self.node.registry.writer.submit(command).await {
            Ok(Outcome::Created(record)) => self.node.begin(&record, self.view, fence),
            Ok(_) | Err(WriteError::Unavailable) => return registry_unavailable(id),
            Err(WriteError::Refused(refusal)) => return refused(id, &refusal),
        };
        let capabilities = self.view.capabilities(Era::Legacy).await;
        let instructions = self.view.instructions().map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        let result = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{IMPLEMENTATION}{instructions}}}"#
        );
        let body = Bytes::from(result_message(&request.id, &result));
        let reply = Reply::Message { status: 200, body, session: Some(live.id), retry_after_s: None };
        let sealed = live.gate.seal(reply, false).await;
        if matches!(sealed, Reply::NotServed(_)) {
            // Its id has left nowhere, so nobody will use it. If it cannot be ended now, it ends unused.
            let command = Command::EndSession { id: live.id, reason: EndReason::Client };
            let _ = self.node.registry.writer.submit(command).await;
            self.node.forget(&live);
        }
        sealed
    }

    fn mint(self, slot: Slot) -> Result<enfilade_registry::SessionId, RpcError> {
        let mut random = [0u8; 16];
        let failed = |_| RpcError::gateway(true, "no randomness is available for a session id");
        getrandom::fill(&mut random).map_err(failed)?;
        Ok(self.node.registry.keys.mint(slot, random))
    }

    pub(crate) async fn legacy(self, live: &Arc<Live>, envelope: &Envelope<'_>) -> Reply {
        match &envelope.kind {
            Kind::Request(request) => self.legacy_request(live, envelope, request).await,
            Kind::Notification(notification) => {
                self.legacy_notification(live, envelope.text, notification).await;
                Reply::Accepted
            }
            Kind::Response(response) => {
                let told = live.answer(envelope.text, response).await;
                if told { Reply::Accepted } else { Reply::NotServed(NotServed::NotReady) }
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
            _ => live.tell_upstreams(text, notification).await,
        }
    }

    async fn legacy_request(self, live: &Arc<Live>, envelope: &Envelope<'_>, request: &Request<'_>) -> Reply {
        let method = Method::parse(&request.method);
        match self.answered_here(live, request, method).await {
            // What was set or subscribed may be set again: for that it counts as not sent.
            Some(reply) => live.gate.seal(reply, false).await,
            None => self.legacy_call(live, envelope, request, method).await,
        }
    }

    /// The reply to a request that the gateway answers itself; it has yet to pass the session's gate. Nothing for one that
    /// goes to an upstream.
    async fn answered_here(self, live: &Arc<Live>, request: &Request<'_>, method: Option<Method>) -> Option<Reply> {
        let done = |result: &str| Reply::message(result_message(&request.id, result));
        let fail = |error: &RpcError| Reply::error(200, Some(&request.id), error);
        Some(match method {
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
                let viewer = live.viewer();
                self.list(request, method, live.version, &viewer).await
            }
            _ => return None,
        })
    }

    async fn list(self, request: &Request<'_>, method: Method, version: Version, viewer: &Viewer) -> Reply {
        let kind = ListKind::of(method).unwrap_or(ListKind::Tools);
        let cursor = request.params.and_then(|params| json::get(params, "cursor"));
        match self.view.page(kind, cursor, version, viewer).await {
            Ok(result) => Reply::message(result_message(&request.id, &result)),
            Err(error) => {
                let status = if version.era() == Era::Modern { modern_status(error.code) } else { 200 };
                Reply::error(status, Some(&request.id), &error)
            }
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
}

/// GET: the general stream, or the rest of the stream that an event was part of.
pub(crate) fn open_stream(live: &Arc<Live>, last_event_id: Option<&str>) -> Reply {
    let Some(last) = last_event_id else {
        return stream_reply(live.general());
    };
    let gone = || {
        let error = RpcError::invalid_request("Last-Event-ID names an event that is no longer kept; ask again");
        Reply::error(400, None, &error)
    };
    let Some(id) = EventId::parse(last) else { return gone() };
    let reader = match live.streams().get(id) {
        Some(stream) => stream.attach(Some(id.seq)),
        // Events of an earlier owner are gone; what comes on the general stream from now on is not.
        None => (id.stream == 0).then(|| live.general().attach(None)).flatten(),
    };
    reader.map_or_else(gone, |stream| Reply::Events { stream, session: None })
}

fn stream_reply(stream: &Arc<Stream>) -> Reply {
    match stream.attach(None) {
        Some(stream) => Reply::Events { stream, session: None },
        None => Reply::Status(409),
    }
}

/// For a request that was cancelled: its stream ends without an answer (2025-11-25 cancellation).
fn nothing() -> Reply {
    let stream = Stream::new(0, 0, StreamKind::Ephemeral);
    stream.finish();
    stream_reply(&stream)
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
    if !full {
        return Reply::error(400, id, &RpcError::invalid_request(&refusal.to_string()));
    }
    let body = RpcError::gateway(true, refusal.to_string()).message(id).into();
    Reply::Message { status: 503, body, session: None, retry_after_s: Some(30) }
}
