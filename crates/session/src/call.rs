//! One call, from the request that was routed to the answer in the client's words: ids, tokens, names and eras put
//! back. Pure but for what it is told; [`crate::run`] does the waiting.

use crate::ask::IMPLEMENTATION;
use crate::copy::OpenCall;
use crate::lists::ListKind;
use crate::live::Live;
use crate::outlet::Outlet;
use crate::route::issue_task;
use crate::site::Site;
use crate::view::View;
use crate::viewer::Viewer;
use bytes::Bytes;
use enfilade_mcp::envelope::{Notification, Outcome, Response};
use enfilade_mcp::error::{self, code, modern_status};
use enfilade_mcp::method::Method;
use enfilade_mcp::translate::{self, ErrorOutcome};
use enfilade_mcp::{Era, Id, RpcError, Splice, Version, json};
use enfilade_upstream::{CallError, Peer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Everything that one call needs until its end.
pub(crate) struct Plan {
    pub(crate) view: Arc<View>,
    pub(crate) site: Arc<Site>,
    /// Index of the upstream in its virtual server.
    pub(crate) at: usize,
    pub(crate) method: String,
    pub(crate) known: Option<Method>,
    /// The request as the upstream gets it; given up once the upstream has it.
    pub(crate) message: Mutex<Option<Bytes>>,
    pub(crate) upstream_id: u64,
    pub(crate) upstream_era: Era,
    /// The target as the upstream names it.
    pub(crate) name: Option<String>,
    /// The arguments of a tool call, where some of them are mirrored into headers.
    pub(crate) mirrored: Option<String>,
    /// The client's id.
    pub(crate) id: Id,
    /// The client's progress token, a JSON text.
    pub(crate) token: Option<String>,
    /// The client's revision.
    pub(crate) version: Version,
    /// Whose lists say what a tool's arguments are.
    pub(crate) viewer: Viewer,
    pub(crate) cancelled: CancellationToken,
    pub(crate) outlet: Outlet,
    pub(crate) began: Instant,
    /// When the upstream was last heard to work on it.
    pub(crate) heard: Mutex<Instant>,
    /// Where the call was sent to.
    pub(crate) sent: Mutex<Option<Arc<dyn Peer>>>,
    pub(crate) tasks: TaskTracker,
    /// Counts the call until it has ended.
    pub(crate) counted: Counted,
}

/// One more in a gauge until it ends, or is dropped.
pub(crate) struct Counted {
    gauge: Arc<AtomicUsize>,
    ended: AtomicBool,
}

impl Counted {
    pub(crate) fn new(gauge: &Arc<AtomicUsize>) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self { gauge: gauge.clone(), ended: AtomicBool::new(false) }
    }

    pub(crate) fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.gauge.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end();
    }
}

/// The answer to a call, in the client's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: Bytes,
    /// The HTTP status while the head is not sent yet.
    pub(crate) status: u16,
}

impl Plan {
    /// The legacy session; none for modern requests.
    pub(crate) fn live(&self) -> Option<&Arc<Live>> {
        self.viewer.live.as_ref()
    }

    /// Whether the call may be sent twice.
    pub(crate) fn is_safe(&self) -> bool {
        match (self.known, &self.name) {
            (Some(Method::ToolsCall), Some(tool)) => self.site.may_replay(tool, &self.viewer),
            (known, _) => known.is_some_and(Method::is_safe),
        }
    }

    /// The call as the second knows it.
    pub(crate) fn open_call(&self) -> OpenCall {
        OpenCall { id: self.id.as_json().into(), safe: self.is_safe() }
    }

    /// How long the upstream may be silent, and how long the call may take at most.
    pub(crate) fn deadlines(&self) -> (Duration, Duration) {
        let config = self.site.connector.config();
        match self.known {
            Some(Method::ToolsCall | Method::TasksResult) | None => (
                Duration::from_millis(config.call_deadline_ms),
                Duration::from_millis(config.call_deadline_max_ms.max(config.call_deadline_ms)),
            ),
            _ => (Duration::from_millis(config.deadline_ms), Duration::from_millis(config.deadline_ms)),
        }
    }

    /// An error of the gateway's own about this call.
    pub(crate) fn fail(&self, error: &RpcError) -> Answer {
        let status = if self.version.era() == Era::Modern { modern_status(error.code) } else { 200 };
        Answer { text: error.message(Some(&self.id)).into(), status }
    }

    /// The error for a call that the upstream did not answer.
    pub(crate) fn failed(&self, error: &CallError) -> Answer {
        let retry = error.not_executed() || self.is_safe() || self.sent.lock().is_none();
        self.fail(&RpcError::upstream(retry, format!("{}: {error}", self.site.name())))
    }

    /// The error for a call whose deadline has passed.
    pub(crate) fn late(&self) -> Answer {
        let text = format!("{}: the upstream did not answer in time; the outcome is unknown", self.site.name());
        self.fail(&RpcError::upstream(self.is_safe(), text))
    }

    /// The upstream's response in the client's words. `text` is the whole message that `response` is a part of.
    pub(crate) fn answer(&self, text: &str, response: &Response<'_>) -> Answer {
        match response.outcome {
            Outcome::Result(result) => self.result(text, response, result),
            Outcome::Error(error) => self.error(error),
        }
    }

    fn result(&self, text: &str, response: &Response<'_>, result: &str) -> Answer {
        let translated = match self.translate_result(result) {
            Ok(translated) => translated,
            Err(error) => return self.fail(&error),
        };
        let text = match (translated, response.id_text) {
            (None, Some(id)) => Splice::new(text).replace(id, self.id.as_json()).finish(),
            (translated, _) => error::result_message(&self.id, translated.as_deref().unwrap_or(result)),
        };
        Answer { text: text.into(), status: 200 }
    }

    /// The result as the client must see it; none when it may stay as it is.
    fn translate_result(&self, result: &str) -> Result<Option<String>, RpcError> {
        let mut now: Option<String> = None;
        if self.view.single().is_none() {
            now = self.map_names(result);
        }
        let eras = (self.upstream_era, self.version.era());
        if eras == (Era::Modern, Era::Legacy) {
            let text = now.as_deref().unwrap_or(result);
            check_complete(text)?;
            let mut splice = Splice::new(text);
            translate::result_to_legacy(&mut splice, text);
            now = Some(splice.finish());
        } else if eras == (Era::Legacy, Era::Modern) {
            let text = now.as_deref().unwrap_or(result);
            let mut splice = Splice::new(text);
            translate::result_to_modern(&mut splice, &self.method, text, IMPLEMENTATION);
            now = Some(splice.finish());
        }
        if self.version < Version::LEGACY_LATEST {
            let text = now.as_deref().unwrap_or(result);
            now = translate::contents_to_version(&self.method, text, self.version).or(now);
        }
        Ok(now)
    }

    /// URIs and task ids of one of several upstreams (BRIDGE.md 10).
    fn map_names(&self, result: &str) -> Option<String> {
        let mapped = translate::map_uris(&self.method, result, &|uri| self.view.issued_uri(self.at, uri));
        let text = mapped.as_deref().unwrap_or(result);
        self.map_task(text, &["taskId"]).or_else(|| self.map_task(text, &["task", "taskId"])).or(mapped)
    }

    fn map_task(&self, text: &str, path: &[&str]) -> Option<String> {
        let raw = json::at(text, path)?;
        let issued = issue_task(&self.view, self.at, &json::string(raw)?)?;
        Some(Splice::new(text).replace(raw, json::quote(&issued)).finish())
    }

    fn error(&self, error: &str) -> Answer {
        let mapped = match (self.upstream_era, self.version.era()) {
            (_, Era::Modern) => translate::error_to_modern(error, &self.method),
            (Era::Modern, Era::Legacy) => match translate::error_to_legacy(error, &self.method) {
                Some(ErrorOutcome::Error(error)) => Some(error),
                Some(ErrorOutcome::ToolResult(result)) => {
                    return Answer { text: error::result_message(&self.id, &result).into(), status: 200 };
                }
                None => None,
            },
            (Era::Legacy, Era::Legacy) => None,
        };
        let error = mapped.as_deref().unwrap_or(error);
        let uri = |uri: &str| self.view.issued_uri(self.at, uri);
        let renamed = if self.view.single().is_none() { translate::map_error_uri(error, &uri) } else { None };
        let error = renamed.as_deref().unwrap_or(error);
        let code = json::get(error, "code").and_then(|code| code.parse().ok()).unwrap_or(code::INTERNAL);
        let status = if self.version.era() == Era::Modern { modern_status(code) } else { 200 };
        Answer { text: error::error_message(Some(&self.id), error).into(), status }
    }

    /// A notification that came with the call, in the client's words; none when it is not for the client.
    pub(crate) fn notification(&self, text: &str, notification: &Notification<'_>) -> Option<Bytes> {
        let modern = self.version.era() == Era::Modern;
        match notification.method.as_ref() {
            "notifications/progress" => {
                let token = self.token.as_deref()?;
                let raw = json::get(notification.params?, "progressToken")?;
                // Progress of another call that an upstream mixed up is nobody's.
                let ours = raw.parse() == Ok(self.upstream_id);
                ours.then(|| Splice::new(text).replace(raw, token).finish().into())
            }
            // On a shared legacy session nobody can say whose log line it is (BRIDGE.md, logging).
            "notifications/message" if modern && self.upstream_era == Era::Legacy => None,
            "notifications/message" => Some(Bytes::copy_from_slice(text.as_bytes())),
            method if ListKind::changed_by(method).next().is_some() => {
                self.site.list_changed(&ListKind::changed_by(method).collect::<Vec<_>>());
                None
            }
            // Everything else is said on a subscription's stream (2026-07-28), if it is said at all.
            _ if modern => None,
            _ => Some(Bytes::copy_from_slice(text.as_bytes())),
        }
    }
}

/// What 2025-11-25 and older cannot say is refused until the bridge translates it.
fn check_complete(result: &str) -> Result<(), RpcError> {
    match json::get(result, "resultType").and_then(json::string).as_deref() {
        None | Some("complete") => Ok(()),
        Some(other) => Err(RpcError::gateway(
            false,
            format!(
                "the upstream answered {other:?} as 2026-07-28 defines it, which this gateway does not translate for \
                 older clients yet; use a 2026-07-28 client for this call"
            ),
        )),
    }
}
