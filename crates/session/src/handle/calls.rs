//! Requests that go to an upstream: prepared as that upstream must get them, run, and answered or streamed.

use super::going::Going;
use super::{Handling, legacy_error, nothing, stream_reply};
use crate::call::{Counted, Plan};
use crate::lists::ListKind;
use crate::live::Live;
use crate::outlet::Outlet;
use crate::owner::{HeaderLookup, Reply};
use crate::route::{self, Route};
use crate::run::First;
use crate::site::Up;
use crate::slots::Held;
use crate::stream::{Kind as StreamKind, Stream};
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::classify::Modern;
use enfilade_mcp::envelope::Request;
use enfilade_mcp::method::Method;
use enfilade_mcp::translate::{self, ClientMeta};
use enfilade_mcp::{Envelope, Era, RpcError, Splice, Version, json};
use enfilade_registry::NotServed;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

impl Handling<'_> {
    /// A request of a session that goes to an upstream.
    pub(super) async fn legacy_call(
        self,
        live: &Arc<Live>,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        method: Option<Method>,
    ) -> Reply {
        let beginning = match live.begin() {
            Ok(beginning) => beginning,
            Err(why) => return Reply::NotServed(why),
        };
        let entered = match live.enter(&request.id, self.node.limits.calls_per_session_max) {
            Ok(entered) => entered,
            Err(why) => return Reply::error(200, Some(&request.id), &RpcError::invalid_request(why)),
        };
        drop(beginning);
        let asker = Asker::Session(live, entered.cancelled());
        let planned = tokio::select! {
            biased;
            planned = self.plan(envelope, request, method, asker) => planned,
            () = entered.cancelled().cancelled() => return live.gate.seal(nothing(), false).await,
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => {
                let reply = Reply::error(200, Some(&request.id), &legacy_error(error, method));
                return live.gate.seal(reply, false).await;
            }
        };
        entered.planned(&plan);
        let mut call = Going::new(self.node, plan.clone(), entered);
        let head_wait = Duration::from_millis(self.node.limits.head_wait_ms);
        let first = loop {
            let first = tokio::select! {
                biased;
                first = tokio::time::timeout(head_wait, call.first()) => first.ok(),
                () = plan.outlet.commit.notified() => None,
            };
            // As long as it waits for a lease and was not sent, it may still go elsewhere.
            if first.is_some() || plan.was_sent() || live.gate.holds() != Held::Paused {
                break first;
            }
        };
        match first {
            Some(First::Answered(answer)) => {
                let _entered = call.done();
                live.gate.seal(Reply::with_status(answer.status, answer.text), plan.was_sent()).await
            }
            Some(First::Cancelled) => {
                call.done();
                nothing()
            }
            Some(First::Lost) => {
                call.done();
                if plan.was_sent() { Reply::Lost } else { Reply::NotServed(NotServed::NotOwner) }
            }
            first => {
                let stream = live.streams().open(vec![plan.open_call()]);
                plan.outlet.open(&stream);
                call.go_on(first, stream.clone());
                stream_reply(&stream)
            }
        }
    }

    /// Methods of the tasks extension need its declaration, whatever task they name.
    pub(super) fn missing_extension(self, meta: &Modern<'_>, method: Option<Method>) -> Option<RpcError> {
        let tasks = matches!(method, Some(Method::TasksGet | Method::TasksUpdate | Method::TasksCancel));
        let several = self.view.single().is_none();
        let declared = json::at(meta.capabilities, &["extensions", crate::view::TASKS]).is_some();
        (tasks && several && !declared)
            .then(|| RpcError::missing_capability(&format!(r#"{{"extensions":{{"{}":{{}}}}}}"#, crate::view::TASKS)))
    }

    pub(super) async fn modern_call(self, plan: Arc<Plan>) -> Reply {
        let mut call = Going::modern(self.node, plan);
        match call.first().await {
            First::Answered(answer) => {
                call.done();
                Reply::with_status(answer.status, answer.text)
            }
            First::Cancelled | First::Lost => {
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

    /// Prepares a call: finds its upstream and writes the request as that upstream must get it.
    pub(super) async fn plan(
        self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        method: Option<Method>,
        asker: Asker<'_>,
    ) -> Result<Arc<Plan>, RpcError> {
        let meta = request.meta().map_err(|e| RpcError::invalid_params(format!("params: {e}")))?;
        let mut splice = Splice::new(envelope.text);
        let viewer = asker.viewer();
        let route = route::route(self.view, request, method, &viewer, &mut splice).await?;
        let site = self.view.sites[route.site].clone();
        let up = site
            .wait_up(site.limits.upstream_wait())
            .await
            .map_err(|error| RpcError::upstream(true, format!("{}: {error}", site.name())))?;
        let mirrored = match method {
            Some(Method::ToolsCall) if up.profile.era == Era::Modern => {
                let arguments = request.params.and_then(|params| json::get(params, "arguments"));
                self.mirrored(&route, arguments, &viewer, asker).await?
            }
            _ => None,
        };
        let upstream_id = up.peer.next_id();
        splice.replace(request.id_text, upstream_id.to_string());
        let token = meta.progress_token.map(|_| upstream_id.to_string());
        asker.edit(&up, &mut splice, envelope.text, request.params, token.as_deref());
        let now = Instant::now();
        Ok(Arc::new(Plan {
            view: self.view.clone(),
            at: route.site,
            method: request.method.clone().into_owned(),
            known: method,
            message: Mutex::new(Some(splice.finish().into())),
            upstream_id,
            upstream_era: up.profile.era,
            name: route.name,
            mirrored,
            id: request.id.clone(),
            token: meta.progress_token.map(str::to_owned),
            version: asker.version(),
            cancelled: asker.cancelled(),
            viewer,
            outlet: Outlet::default(),
            began: now,
            heard: Mutex::new(now),
            sent: Mutex::default(),
            tasks: self.node.tasks.clone(),
            counted: Counted::new(&self.node.calls),
            site,
        }))
    }

    /// The arguments of a call of a tool that mirrors some of them into headers; a modern client's own headers must
    /// say the same (BRIDGE.md 16).
    async fn mirrored(
        self,
        route: &Route,
        arguments: Option<&str>,
        viewer: &Viewer,
        asker: Asker<'_>,
    ) -> Result<Option<String>, RpcError> {
        let site = &self.view.sites[route.site];
        let tools = match site.last(ListKind::Tools, viewer) {
            Some(list) => Some(list),
            None => site.list(ListKind::Tools, viewer).await.ok().flatten(),
        };
        let item = tools.as_ref().zip(route.name.as_deref()).and_then(|(list, name)| list.item(name));
        // A tool that is not known yet may turn out to mirror: then its arguments are needed for the second attempt.
        if item.is_some_and(|item| item.headers.is_empty()) {
            return Ok(None);
        }
        if let (Asker::Modern(_, headers), Some(item)) = (asker, item)
            && headers.are_sent()
        {
            let mismatch = |why| RpcError::header_mismatch(format!("Header mismatch: {why}"));
            item.headers.validate(arguments, |name| headers.header(name)).map_err(mismatch)?;
        }
        Ok(arguments.map(str::to_owned))
    }
}

/// Who a call is for.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    Session(&'a Arc<Live>, &'a CancellationToken),
    Modern(&'a Modern<'a>, &'a dyn HeaderLookup),
}

impl Asker<'_> {
    fn version(self) -> Version {
        match self {
            Self::Session(live, _) => live.version,
            Self::Modern(..) => Version::MODERN,
        }
    }

    fn cancelled(self) -> CancellationToken {
        match self {
            Self::Session(_, token) => token.clone(),
            Self::Modern(..) => CancellationToken::new(),
        }
    }

    fn viewer(self) -> Viewer {
        match self {
            Self::Session(live, _) => live.viewer(),
            Self::Modern(meta, _) => Viewer { scope: Scope::of(meta.capabilities), live: None },
        }
    }

    /// Writes progress token and metadata as the upstream's era has them.
    fn edit(self, up: &Up, splice: &mut Splice<'_>, text: &str, params: Option<&str>, token: Option<&str>) {
        match (self, up.profile.era) {
            (Self::Session(..), Era::Legacy) | (Self::Modern(..), Era::Modern) => {
                translate::edit_progress_token(splice, text, params, token);
            }
            (Self::Session(live, _), Era::Modern) => {
                let level = live.log_level();
                let client = ClientMeta {
                    info: Some(live.facts.client_info()).map(|info| &**info).filter(|info| *info != "{}"),
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
