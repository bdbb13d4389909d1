//! What clients do, as a TOML file says it. Unknown keys and impossible values are refused before anything starts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::cli::Common;

/// Shares are written by hand: they may miss 1 by this much.
const SHARES_OFF: f64 = 0.001;
const CONNECTIONS_MAX: u64 = 2_000_000;
const RATE_MAX: f64 = 1_000_000.0;
/// A slower ramp than one session in a hundred seconds is a mistake.
const OPENS_MIN: f64 = 0.01;
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it is called in the report.
    pub(crate) name: String,
    /// Sessions, each with one stream that stays open.
    pub(crate) connections: u64,
    /// How many are opened in a second, evenly.
    pub(crate) opens_per_second: f64,
    /// How long they are held, with calls.
    #[serde(with = "duration")]
    pub(crate) hold: Duration,
    /// Who connects.
    #[serde(default)]
    pub(crate) clients: Clients,
    #[serde(default)]
    pub(crate) calls: Calls,
    #[serde(default)]
    pub(crate) lists: Lists,
    #[serde(default)]
    pub(crate) subscribe: Subscribe,
    #[serde(default)]
    pub(crate) notify: Notify,
    /// What happens while streams are held.
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// Shares of the connections; together 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Clients {
    /// Sessions of 2025-11-25 with a GET stream.
    pub(crate) legacy_sse: f64,
    /// Clients of 2026-07-28 with `subscriptions/listen`.
    pub(crate) modern_listen: f64,
    /// Sessions over a WebSocket.
    pub(crate) websocket: f64,
}

/// Tool calls of all clients together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Calls {
    pub(crate) per_second: f64,
    pub(crate) tool: String,
    pub(crate) arguments: serde_json::Map<String, serde_json::Value>,
    /// The tool gives back its argument `text`: then each answer is compared.
    pub(crate) echo: bool,
    /// Length of that text.
    pub(crate) payload_bytes: usize,
    /// Silence after which a client gives up.
    #[serde(with = "duration")]
    pub(crate) patience: Duration,
    /// Most calls in flight of one worker. What is due beyond it is not sent, which makes the run worthless.
    pub(crate) in_flight_max: usize,
}

/// `tools/list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lists {
    pub(crate) per_second: f64,
}

/// Subscriptions to resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Subscribe {
    /// Of all streams, those that subscribe to `uri` when they open.
    pub(crate) share: f64,
    pub(crate) uri: String,
    /// Sessions that subscribe to `other_uri`, or leave off, while streams are held.
    pub(crate) per_second: f64,
    pub(crate) other_uri: String,
}

/// Calls that make the upstream announce `subscribe.uri`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notify {
    pub(crate) per_second: f64,
    /// A tool that takes the argument `uri`.
    pub(crate) tool: String,
}

/// Something that happens while streams are held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// When, as a share of the hold.
    pub(crate) at: f64,
    pub(crate) kind: FaultKind,
    /// For `command`: program and arguments.
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// kill -9 of a node that owns sessions (`local`).
    KillOwner,
    /// A node is asked to hand over and end (`local`).
    StopNode,
    /// One more node joins (`local`).
    AddNode,
    /// A program is run.
    Command,
}

/// When a run is good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Share of operations in the steady state that did not end well.
    pub(crate) errors_max: f64,
    /// 99th percentile of calls in the steady state, from when they were due.
    pub(crate) p99_ms: f64,
    /// After a fault every session and stream is served again within this time.
    #[serde(with = "duration")]
    pub(crate) served_again: Duration,
    /// Share of the offered rate that must be achieved in the steady state.
    pub(crate) achieved_min: f64,
    /// 99th percentile of how late the generator itself may be, in the steady state.
    pub(crate) late_p99_ms: f64,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients { legacy_sse: 0.0, modern_listen: 0.0, websocket: 0.0 }
    }
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            per_second: 0.0,
            tool: "echo".to_owned(),
            arguments: serde_json::Map::new(),
            echo: false,
            payload_bytes: 200,
            patience: Duration::from_secs(30),
            in_flight_max: 1_024,
        }
    }
}

impl Default for Subscribe {
    fn default() -> Subscribe {
        Subscribe { share: 0.0, uri: String::new(), per_second: 0.0, other_uri: String::new() }
    }
}

impl Default for Notify {
    fn default() -> Notify {
        Notify { per_second: 0.0, tool: "announce".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            errors_max: 0.001,
            p99_ms: 100.0,
            served_again: Duration::from_secs(10),
            achieved_min: 0.99,
            late_p99_ms: 20.0,
        }
    }
}

/// A value that cannot be.
#[derive(Debug, Error, PartialEq)]
pub(crate) enum Impossible {
    #[error("connections: {0} is not between 1 and {CONNECTIONS_MAX}")]
    Connections(u64),
    #[error("opens_per_second: {0} is not between {OPENS_MIN} and {RATE_MAX}")]
    Opens(f64),
    #[error("hold: it must be at least a second")]
    Hold,
    #[error("{0}: {1} is not a share between 0 and 1")]
    Share(&'static str, f64),
    #[error("clients: the shares add up to {0}, not to 1")]
    Shares(f64),
    #[error("{0}: {1} is not a rate between 0 and {RATE_MAX} per second")]
    Rate(&'static str, f64),
    #[error("calls.payload_bytes: {0} is more than {PAYLOAD_BYTES_MAX}")]
    Payload(usize),
    #[error("calls.in_flight_max: it must be at least 1")]
    InFlight,
    #[error("{0}: it is needed with {1}")]
    Needed(&'static str, &'static str),
    #[error("faults: `command` is for the kind `command`, which needs it")]
    Command,
    #[error("limits.{0}: {1} is not a positive number")]
    Limit(&'static str, f64),
}

impl Scenario {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Scenario> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Scenario::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads TOML; the error says where the fault is.
    pub(crate) fn parse(text: &str) -> Result<Scenario> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// What the command line says goes before the file.
    pub(crate) fn with(mut self, common: &Common) -> Result<Scenario> {
        self.connections = common.connections.unwrap_or(self.connections);
        self.hold = common.hold.unwrap_or(self.hold);
        self.opens_per_second = common.opens_per_second.unwrap_or(self.opens_per_second);
        self.calls.per_second = common.calls_per_second.unwrap_or(self.calls.per_second);
        self.check()?;
        Ok(self)
    }

    /// How long it takes to open all sessions.
    pub(crate) fn ramp(&self) -> Duration {
        Duration::from_secs_f64(self.connections as f64 / self.opens_per_second)
    }

    fn check(&self) -> Result<(), Impossible> {
        if !(OPENS_MIN..=RATE_MAX).contains(&self.opens_per_second) {
            return Err(Impossible::Opens(self.opens_per_second));
        }
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            return Err(Impossible::Connections(self.connections));
        }
        if self.hold < Duration::from_secs(1) {
            return Err(Impossible::Hold);
        }
        self.check_shares()?;
        self.check_rates()?;
        if self.calls.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Impossible::Payload(self.calls.payload_bytes));
        }
        if self.calls.in_flight_max == 0 {
            return Err(Impossible::InFlight);
        }
        for fault in &self.faults {
            share("faults.at", fault.at)?;
            if (fault.kind == FaultKind::Command) == fault.command.is_empty() {
                return Err(Impossible::Command);
            }
        }
        self.check_limits()
    }

    fn check_shares(&self) -> Result<(), Impossible> {
        let Clients { legacy_sse, modern_listen, websocket } = self.clients;
        share("clients.legacy_sse", legacy_sse)?;
        share("clients.modern_listen", modern_listen)?;
        share("clients.websocket", websocket)?;
        share("subscribe.share", self.subscribe.share)?;
        let sum = legacy_sse + modern_listen + websocket;
        if (sum - 1.0).abs() > SHARES_OFF { Err(Impossible::Shares(sum)) } else { Ok(()) }
    }

    fn check_rates(&self) -> Result<(), Impossible> {
        rate("calls.per_second", self.calls.per_second)?;
        rate("lists.per_second", self.lists.per_second)?;
        rate("subscribe.per_second", self.subscribe.per_second)?;
        rate("notify.per_second", self.notify.per_second)?;
        let needed = [
            (self.calls.per_second > 0.0 && self.calls.tool.is_empty(), "calls.tool", "calls.per_second"),
            (self.subscribe.share > 0.0 && self.subscribe.uri.is_empty(), "subscribe.uri", "subscribe.share"),
            (self.notify.per_second > 0.0 && self.subscribe.share == 0.0, "subscribe.share", "notify.per_second"),
            (
                self.subscribe.per_second > 0.0 && self.subscribe.other_uri.is_empty(),
                "subscribe.other_uri",
                "subscribe.per_second",
            ),
        ];
        match needed.into_iter().find(|(is_missing, ..)| *is_missing) {
            Some((_, what, with)) => Err(Impossible::Needed(what, with)),
            None => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), Impossible> {
        let limits = &self.limits;
        share("limits.errors_max", limits.errors_max)?;
        share("limits.achieved_min", limits.achieved_min)?;
        for (name, value) in [("p99_ms", limits.p99_ms), ("late_p99_ms", limits.late_p99_ms)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Impossible::Limit(name, value));
            }
        }
        Ok(())
    }
}

fn share(name: &'static str, value: f64) -> Result<(), Impossible> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Impossible::Share(name, value)) }
}

fn rate(name: &'static str, value: f64) -> Result<(), Impossible> {
    if (0.0..=RATE_MAX).contains(&value) { Ok(()) } else { Err(Impossible::Rate(name, value)) }
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text} is not a time such as 500ms, 30s, 5m or 1h"))?;
    let milliseconds = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text} has no unit: ms, s, m or h")),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| format!("{text} is too long"))
}

mod duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", time.as_millis()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod tests;
