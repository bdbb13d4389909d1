//! How one upstream is reached and what it may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One MCP server behind the gateway: a process (`command`) or an endpoint (`url`), with the same keys as the
/// `mcpServers` of hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name: a lower-case letter, then letters, digits and `-`; at most 32. It prefixes names and URIs.
    pub name: String,
    /// The program of a stdio upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The program's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment of the program, added to a minimal one (PATH, HOME, LANG, TMPDIR, USER).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// The MCP endpoint of a Streamable HTTP upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers that are sent with every request to `url`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Which era it speaks; `auto` probes it.
    #[serde(default)]
    pub era: EraChoice,
    /// One session (or process) per client session, or a few for all.
    #[serde(default)]
    pub sessions: Sharing,
    /// Most processes at a time (stdio): per client sessions beyond it are refused; with `shared` it is their number.
    /// The gateway keeps one for itself, so `per_client` needs at least 2 unless `era` is `modern`.
    #[serde(default = "processes_max")]
    pub processes_max: usize,
    /// Most calls in flight; further ones are refused at once with an error that may be retried.
    #[serde(default = "calls_max")]
    pub calls_max: usize,
    /// Time until an answer to a plain request must be there, in milliseconds.
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u64,
    /// Time until an answer to `tools/call` must be there, in milliseconds; progress starts it anew.
    #[serde(default = "call_deadline_ms")]
    pub call_deadline_ms: u64,
    /// The longest that progress may extend a call to, in milliseconds.
    #[serde(default = "call_deadline_max_ms")]
    pub call_deadline_max_ms: u64,
    /// How long lists are served from the cache when the upstream gives no `ttlMs`, in milliseconds.
    #[serde(default = "list_ttl_ms")]
    pub list_ttl_ms: u64,
    /// Tools that may be called a second time when a node was lost and nobody knows what became of the first call, by
    /// the upstream's own names. All others are answered with "outcome unknown" then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replay_safe: Vec<String>,
    /// Tools that the upstream itself calls read-only or idempotent are as if they were in `replay_safe`. MCP makes such
    /// annotations untrusted, so this is off.
    #[serde(default)]
    pub trust_annotations: bool,
    /// Calls of sessions carry `Enfilade-Fence: SLOT.TERM` (over HTTP). An upstream that refuses a call of a lower term than
    /// it has seen of the slot is safe even from a node that stood still for a while before it wrote.
    #[serde(default)]
    pub fence_header: bool,
    /// Its sessions hold state that cannot be set up again: when one is lost, the client's session ends with 404, instead
    /// of going on with a new one.
    #[serde(default)]
    pub stateful: bool,
    /// Idle client sessions' upstream sessions and processes are closed after this time, in milliseconds; they open
    /// again at the next use.
    #[serde(default = "idle_ms")]
    pub idle_ms: u64,
}

/// Which era an upstream speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EraChoice {
    /// Ask with `server/discover`, fall back to `initialize`.
    #[default]
    Auto,
    /// `initialize` and sessions.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// Who shares an upstream session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each client session has its own, with the client's capabilities.
    #[default]
    PerClient,
    /// All client sessions use the same; no client capabilities are declared there.
    Shared,
}

impl Config {
    /// A Streamable HTTP upstream with defaults for the rest.
    #[must_use]
    pub fn http(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::of(name.into()) }
    }

    /// A stdio upstream with defaults for the rest.
    #[must_use]
    pub fn stdio(name: impl Into<String>, command: impl Into<String>, args: impl IntoIterator<Item = String>) -> Self {
        Self { command: Some(command.into()), args: args.into_iter().collect(), ..Self::of(name.into()) }
    }

    fn of(name: String) -> Self {
        Self {
            name,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            url: None,
            headers: BTreeMap::new(),
            era: EraChoice::default(),
            sessions: Sharing::default(),
            processes_max: processes_max(),
            calls_max: calls_max(),
            deadline_ms: deadline_ms(),
            call_deadline_ms: call_deadline_ms(),
            call_deadline_max_ms: call_deadline_max_ms(),
            list_ttl_ms: list_ttl_ms(),
            replay_safe: Vec::new(),
            trust_annotations: false,
            fence_header: false,
            stateful: false,
            idle_ms: idle_ms(),
        }
    }
}

/// Why an upstream's configuration cannot be used, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The name does not follow the pattern.
    #[error("upstream name {0:?}: use a lower-case letter, then lower-case letters, digits and '-', at most 32 in all")]
    Name(String),
    /// Neither command nor URL.
    #[error("upstream {0:?} is neither a process nor an endpoint: give it a \"command\" or a \"url\"")]
    Nothing(String),
    /// Command and URL.
    #[error("upstream {0:?} is both a process and an endpoint: remove \"command\" or \"url\"")]
    Both(String),
    /// The URL cannot be used.
    #[error("url {url:?} cannot be used: {why}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A header cannot be sent.
    #[error("header {0:?} cannot be sent: use a token as its name and visible ASCII as its value")]
    Header(String),
    /// A number is zero.
    #[error("{0:?} of upstream {1:?} must be greater than 0")]
    Zero(&'static str, String),
    /// The gateway's own process would be the only one.
    #[error(
        "\"processes_max\" of upstream {0:?} must be at least 2, one for the gateway and one for a client: raise it, or \
         set \"sessions\" to \"shared\", or \"era\" to \"modern\" if it is"
    )]
    OneProcess(String),
}

/// How the upstream is reached.
pub(crate) enum Reach<'a> {
    Command(&'a str),
    Url(&'a str),
}

impl Config {
    /// Checks what a schema cannot, and says how the upstream is reached.
    pub(crate) fn check(&self) -> Result<Reach<'_>, ConfigError> {
        let name = self.name.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if !(1..=32).contains(&name.len()) || !name[0].is_ascii_lowercase() || !name.iter().all(plain) {
            return Err(ConfigError::Name(self.name.clone()));
        }
        let numbers = [
            ("processes_max", self.processes_max as u64),
            ("calls_max", self.calls_max as u64),
            ("deadline_ms", self.deadline_ms),
            ("call_deadline_ms", self.call_deadline_ms),
            ("call_deadline_max_ms", self.call_deadline_max_ms),
            ("idle_ms", self.idle_ms),
        ];
        if let Some((number, _)) = numbers.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(number, self.name.clone()));
        }
        let own_process = self.sessions == Sharing::PerClient && self.era != EraChoice::Modern;
        if self.command.is_some() && own_process && self.processes_max < 2 {
            return Err(ConfigError::OneProcess(self.name.clone()));
        }
        match (&self.command, &self.url) {
            (Some(command), None) if !command.is_empty() => Ok(Reach::Command(command)),
            (None, Some(url)) => Ok(Reach::Url(url)),
            (Some(_), Some(_)) => Err(ConfigError::Both(self.name.clone())),
            _ => Err(ConfigError::Nothing(self.name.clone())),
        }
    }
}

fn processes_max() -> usize {
    64
}
fn calls_max() -> usize {
    1024
}
fn deadline_ms() -> u64 {
    30_000
}
fn call_deadline_ms() -> u64 {
    60_000
}
fn call_deadline_max_ms() -> u64 {
    600_000
}
fn list_ttl_ms() -> u64 {
    60_000
}
fn idle_ms() -> u64 {
    600_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connector;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::http("main", "http://127.0.0.1:1/mcp");
        change(&mut config);
        config
    }

    #[test]
    fn says_what_to_change() {
        type Change = fn(&mut Config);
        let table: [(Change, &str); 11] = [
            (|c| c.name = "Main".into(), "lower-case letter"),
            (|c| c.name = "1a".into(), "lower-case letter"),
            (|c| c.name = "a".repeat(33), "at most 32"),
            (|c| c.name.clear(), "lower-case letter"),
            (|c| c.url = None, "give it a"),
            (|c| c.command = Some("x".into()), "remove"),
            (|c| c.url = Some("ftp://a/b".into()), "http:// or https://"),
            (|c| c.url = Some("http://u:p@a/b".into()), "put them into headers"),
            (|c| c.url = Some("not a url".into()), "no URL"),
            (|c| c.calls_max = 0, "calls_max"),
            (|c| c.headers = [("a b".to_owned(), "c".to_owned())].into(), "a b"),
        ];
        for (change, expected) in table {
            let error = Connector::new(config(change)).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Connector::new(config(|_| ())).is_ok());
    }

    #[test]
    fn one_process_is_enough_only_where_all_share_it() {
        for (era, sessions, good) in [
            (EraChoice::Auto, Sharing::PerClient, false),
            (EraChoice::Legacy, Sharing::PerClient, false),
            (EraChoice::Modern, Sharing::PerClient, true),
            (EraChoice::Auto, Sharing::Shared, true),
        ] {
            let config = Config { processes_max: 1, era, sessions, ..Config::stdio("main", "true", []) };
            assert_eq!(Connector::new(config).is_ok(), good, "{era:?} {sessions:?}");
        }
    }
}
