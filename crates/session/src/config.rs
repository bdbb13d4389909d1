//! What the owner needs to know: the virtual servers, and the limits of sessions and calls.

use enfilade_mcp::names::Prefix;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A virtual MCP server: a named set of upstreams, offered to clients at a path.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its name, shown to clients as `serverInfo.title`.
    pub name: String,
    /// The path at which clients reach it.
    #[serde(default = "path")]
    pub path: String,
    /// How names of several upstreams are kept apart; one upstream alone keeps its names.
    #[serde(default)]
    pub prefix: PrefixChoice,
    /// The upstreams, in the order in which their tools, resources and prompts are listed; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<String>,
}

/// When a name gets its upstream's name in front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrefixChoice {
    /// Every name: `upstream__name`.
    #[default]
    Always,
    /// Only a name that another upstream has taken already.
    OnConflict,
    /// Never; a name that is taken is left out and reported.
    Never,
}

impl From<PrefixChoice> for Prefix {
    fn from(choice: PrefixChoice) -> Self {
        match choice {
            PrefixChoice::Always => Self::Always,
            PrefixChoice::OnConflict => Self::OnConflict,
            PrefixChoice::Never => Self::Never,
        }
    }
}

/// Limits of sessions and calls, the same at every virtual server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A session that is not used for this long ends, in milliseconds.
    pub session_idle_ms: u64,
    /// A session ends after this time however much it is used, in milliseconds.
    pub session_absolute_ms: u64,
    /// Most sessions of one principal.
    pub sessions_per_principal_max: u64,
    /// Most sessions in all.
    pub sessions_max: u64,
    /// Most calls in flight of one session.
    pub calls_per_session_max: usize,
    /// Most items on one page of a list.
    pub page_items_max: usize,
    /// A call that has said nothing for this long commits to a stream, so that a client may resume it; milliseconds.
    pub head_wait_ms: u64,
    /// How long a list waits for upstreams that are late before it is answered without them, in milliseconds.
    pub list_wait_ms: u64,
    /// How long a call waits for an upstream that is down before it is answered with an error, in milliseconds.
    pub upstream_wait_ms: u64,
    /// How often an upstream that is not heard of is asked whether it lives, in milliseconds.
    pub health_interval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_idle_ms: 30 * 60_000,
            session_absolute_ms: 24 * 3_600_000,
            sessions_per_principal_max: 1_000_000,
            sessions_max: 1_000_000,
            calls_per_session_max: 256,
            page_items_max: 500,
            head_wait_ms: 2_000,
            list_wait_ms: 3_000,
            upstream_wait_ms: 3_000,
            health_interval_ms: 5_000,
        }
    }
}

impl Limits {
    /// How long a call waits for an upstream that is down.
    pub(crate) fn upstream_wait(&self) -> Duration {
        Duration::from_millis(self.upstream_wait_ms)
    }
}

fn path() -> String {
    "/mcp".to_owned()
}
