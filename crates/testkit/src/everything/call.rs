//! One request under way: who asks, with what, and how to talk back while it runs.

use std::sync::Arc;

use rmcp::model::{
    CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, InputResponses, JsonObject, LoggingLevel,
    ProgressNotificationParam, ProtocolVersion,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

use super::hub::log_line;
use super::shared::{Session, Shared};

/// A request that runs: a tool call, or a prompt or resource that may ask back.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    /// Tool name, prompt name or URI: what `requestState` is bound to.
    pub(super) name: String,
    pub(super) args: JsonObject,
    pub(super) responses: InputResponses,
    pub(super) state: Option<String>,
    pub(super) ctx: RequestContext<RoleServer>,
}

impl Call {
    /// Whether this request follows revision 2026-07-28 or later.
    pub(super) fn modern(&self) -> bool {
        is_modern(&self.ctx)
    }

    /// What the client declared, for this request or for its session.
    pub(super) fn capabilities(&self) -> ClientCapabilities {
        self.ctx.client_capabilities().unwrap_or_default()
    }

    /// Whether this call may be answered with a task.
    pub(super) fn tasks(&self) -> bool {
        self.modern() && self.capabilities().supports_tasks()
    }

    /// A string argument.
    pub(super) fn text(&self, name: &str) -> Result<&str, ErrorData> {
        self.args.get(name).and_then(Value::as_str).ok_or_else(|| missing(name, "string"))
    }

    /// A string argument that may be absent.
    pub(super) fn text_or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.args.get(name).and_then(Value::as_str).unwrap_or(default)
    }

    /// A number that is not negative.
    pub(super) fn count_or(&self, name: &str, default: u64) -> Result<u64, ErrorData> {
        match self.args.get(name) {
            None => Ok(default),
            Some(value) => value.as_u64().ok_or_else(|| missing(name, "natural number")),
        }
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<f64, ErrorData> {
        self.args.get(name).and_then(Value::as_f64).ok_or_else(|| missing(name, "number"))
    }

    /// Sends progress if the caller gave a token.
    pub(super) async fn progress(&self, done: f64, total: f64) {
        let Some(token) = self.ctx.meta.get_progress_token() else {
            return;
        };
        let params = ProgressNotificationParam::new(token, done)
            .with_total(total)
            .with_message(format!("step {done} of {total}"));
        if let Err(error) = self.ctx.peer.notify_progress(params).await {
            tracing::debug!(%error, "progress was not taken");
        }
    }

    /// Sends a log line if the client wants lines of this level.
    pub(super) async fn log(&self, level: LoggingLevel, text: &str) {
        let wanted = if self.modern() {
            self.ctx.meta.log_level()
        } else {
            // A legacy client that set no level leaves the choice to the server.
            Some(self.session.level.lock().unwrap_or(LoggingLevel::Debug))
        };
        if wanted.is_some_and(|wanted| rank(level) >= rank(wanted)) {
            let sent = self.ctx.peer.send_notification(log_line(level, text)).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "log line was not taken");
            }
        }
    }
}

/// Whether a request follows revision 2026-07-28 or later.
pub(super) fn is_modern(ctx: &RequestContext<RoleServer>) -> bool {
    ctx.protocol_version().is_some_and(|v| v.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

fn missing(name: &str, kind: &str) -> ErrorData {
    ErrorData::invalid_params(format!("argument \"{name}\" must be a {kind}"), None)
}

fn rank(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}

/// What a tool gives back.
pub(super) type ToolResult = Result<CallToolResponse, ErrorData>;

/// A result of one text block.
pub(super) fn text(text: impl Into<String>) -> ToolResult {
    blocks(vec![ContentBlock::text(text)])
}

/// A result of several blocks.
pub(super) fn blocks(content: Vec<ContentBlock>) -> ToolResult {
    Ok(CallToolResult::success(content).into())
}

/// A tool error (`isError`).
pub(super) fn failure(message: impl Into<String>) -> ToolResult {
    Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into())
}
