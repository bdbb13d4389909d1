//! One measured interval as a generator process is told it, and its start.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{Cores, command};
use crate::sample::Sample;
use crate::wire::Era;

/// What a cell may take beyond its own interval before it is given up.
const GRACE: Duration = Duration::from_secs(60);

/// Longest time for opening the sessions of a cell.
pub(crate) const OPENED_WITHIN_MS: u64 = 10_000;

/// What the generator does. It travels as JSON on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Connections are spread over these.
    pub(crate) places: Vec<Place>,
    /// Path of the MCP endpoint, the same at all of them.
    pub(crate) path: String,
    pub(crate) era: Era,
    pub(crate) connections: usize,
    /// Bytes of the argument's text.
    pub(crate) payload: usize,
    /// Longest measured interval.
    pub(crate) seconds: f64,
    /// It also ends after this many measured calls.
    pub(crate) calls_max: u64,
    /// Longest time for opening all sessions.
    pub(crate) opened_within_ms: u64,
    /// Unmeasured load before.
    pub(crate) warmup_ms: u64,
    /// So many calls, spread over the connections; without it each answer is followed by the next call.
    pub(crate) calls_per_second: Option<f64>,
    /// Processes whose CPU is charged to the proxy.
    pub(crate) proxy_pids: Vec<i32>,
    /// Processes whose CPU is charged to the upstream.
    pub(crate) upstream_pids: Vec<i32>,
}

/// Where calls are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// Whose sessions are used there, if that is to be looked at.
    pub(crate) owner: Option<Owner>,
}

/// A node that opens sessions and must have them, from the first call to the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) address: SocketAddr,
    /// What the upstream knows it by.
    pub(crate) name: String,
}

impl Place {
    /// A server that is alone.
    pub(crate) fn alone(address: SocketAddr) -> Self {
        Self { address, owner: None }
    }
}

impl Load {
    /// Runs it in a process of its own; what that reports.
    pub(crate) async fn sample(&self, cores: Cores) -> Result<Sample> {
        let mut generator = command(std::env::current_exe()?, cores);
        generator.arg("load").arg(serde_json::to_string(self)?).stdin(Stdio::null()).kill_on_drop(true);
        let limit = Duration::from_secs_f64(self.seconds) + GRACE;
        let Ok(output) = tokio::time::timeout(limit, generator.output()).await else {
            return Ok(Sample::failed(format!("the cell did not end within {limit:?}")));
        };
        let output = output.context("cannot start the generator")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Ok(Sample::failed(format!("generator: {text}")));
        }
        serde_json::from_slice(&output.stdout).context("the generator's report cannot be read")
    }
}
