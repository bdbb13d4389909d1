//! What clients do, as a TOML file says it. Unknown keys and impossible values are refused before anything starts.

mod check;
mod units;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cli::Common;

pub(crate) use units::{parse_bytes, parse_duration};

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
    #[serde(with = "units::duration")]
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
    #[serde(default)]
    pub(crate) churn: Churn,
    /// More calls than the gateway can take, after the hold.
    #[serde(default)]
    pub(crate) overload: Option<Overload>,
    /// What `local` starts, and holds it to; of no meaning elsewhere.
    #[serde(default)]
    pub(crate) local: Local,
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
    #[serde(with = "units::duration")]
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

/// Sessions that end while streams are held, each with another that opens in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Churn {
    pub(crate) per_second: f64,
}

/// First the peak is looked for: steps of calls at a rising rate, the first at `calls.per_second`, until no more of them
/// are answered. Then come the hold at `rest` of the peak, and each multiple of it with a rest behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Overload {
    /// The rate of a step is that of the one before, times this.
    pub(crate) grow: f64,
    #[serde(with = "units::duration")]
    pub(crate) step: Duration,
    /// What is offered, in peaks, one after the other.
    pub(crate) multiples: Vec<f64>,
    #[serde(with = "units::duration")]
    pub(crate) each: Duration,
    /// What is offered in the hold and between multiples, as a share of the peak.
    pub(crate) rest: f64,
    #[serde(with = "units::duration")]
    pub(crate) rest_for: Duration,
}

/// Nodes of a `local` run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Local {
    /// How many; otherwise as many as the descriptors of a process need, at least 3.
    pub(crate) nodes: Option<u8>,
    /// Cores that each node may use (a quota of its control group).
    pub(crate) cpu_max: Option<f64>,
    /// Memory that each node may take before it is killed.
    #[serde(with = "units::bytes", skip_serializing_if = "Option::is_none")]
    pub(crate) memory_max: Option<u64>,
    /// Keys of the nodes' configuration.
    pub(crate) gateway: serde_json::Map<String, serde_json::Value>,
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
    #[serde(with = "units::duration")]
    pub(crate) served_again: Duration,
    /// Share of the offered rate that must be achieved in the steady state.
    pub(crate) achieved_min: f64,
    /// 99th percentile of how late the generator itself may be, in the steady state.
    pub(crate) late_p99_ms: f64,
    /// Of the peak, what must still be answered well at each multiple of it.
    pub(crate) goodput_min: f64,
    /// 99th percentile of calls that were answered well, at each multiple of the peak.
    pub(crate) admitted_p99_ms: f64,
    /// Share of calls that may get no answer at all in `calls.patience`, at each multiple of the peak.
    pub(crate) silent_max: f64,
    /// After each multiple all is as before within this time.
    #[serde(with = "units::duration")]
    pub(crate) recovered: Duration,
    /// The first part of the hold, in which memory may grow as it likes. With a limit of a trend it is shorter than the hold.
    #[serde(with = "units::duration")]
    pub(crate) warm_up: Duration,
    /// After it: growth of the memory of all nodes together, in MiB per minute. Not looked at without a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_mib_per_minute: Option<f64>,
    /// And the change of the nodes' descriptors, of their threads and of their tasks, from the first to the last tenth of the
    /// rest of the hold, as a share of their median, on average over the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drift_max: Option<f64>,
}

/// Of the hold at least this must be left behind the warm-up: a trend of less says nothing.
pub(crate) const TREND_MIN: Duration = Duration::from_secs(30);

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

impl Default for Overload {
    fn default() -> Overload {
        Overload {
            grow: 1.3,
            step: Duration::from_secs(5),
            multiples: vec![2.0, 4.0, 20.0],
            each: Duration::from_secs(20),
            rest: 0.5,
            rest_for: Duration::from_secs(20),
        }
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
            goodput_min: 0.9,
            admitted_p99_ms: 500.0,
            silent_max: 0.001,
            recovered: Duration::from_secs(10),
            warm_up: Duration::ZERO,
            memory_mib_per_minute: None,
            drift_max: None,
        }
    }
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
}

#[cfg(test)]
mod tests;
