//! The matrix of a run, and the order in which its cells are measured.

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::load::{Load, OPENED_WITHIN_MS, Place};
use crate::process::Server;
use crate::wire::Era;

/// Every payload with every number of connections, and how long each of them is measured.
#[derive(Args, Serialize)]
pub(crate) struct Matrix {
    /// Longest measured interval of one cell.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// A cell also ends after this many measured calls.
    #[arg(long, default_value_t = 30_000)]
    pub(crate) calls_max: u64,
    /// Unmeasured load before each cell.
    #[arg(long, default_value_t = 300)]
    pub(crate) warmup_ms: u64,
    /// How often each cell is measured; the medians over rounds count.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Connection counts.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    pub(crate) connections: Vec<usize>,
    /// Payload sizes in bytes, of the argument and of the echoed text.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 10_240])]
    pub(crate) payloads: Vec<usize>,
}

impl Matrix {
    /// There is something to measure, and an end to it.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.rounds > 0 && self.calls_max > 0, "a run needs rounds and calls");
        ensure!(self.seconds.is_finite() && self.seconds > 0.0, "--seconds must be above 0");
        ensure!(!self.connections.contains(&0) && !self.payloads.contains(&0), "0 is no connection count or payload");
        Ok(())
    }

    /// Payloads and numbers of connections, in the order of the table.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.payloads
            .iter()
            .flat_map(|&payload| self.connections.iter().map(move |&connections| (payload, connections)))
    }

    /// One of them: a legacy client, each of whose answers is followed by the next call; no proxy's CPU is measured.
    pub(crate) fn load(
        &self,
        (payload, connections): (usize, usize),
        places: Vec<Place>,
        path: &str,
        upstream: &Server,
    ) -> Load {
        Load {
            places,
            path: path.to_owned(),
            era: Era::Legacy,
            connections,
            payload,
            seconds: self.seconds,
            calls_max: self.calls_max,
            opened_within_ms: OPENED_WITHIN_MS,
            warmup_ms: self.warmup_ms,
            calls_per_second: None,
            proxy_pids: Vec::new(),
            upstream_pids: vec![upstream.process.pid()],
        }
    }
}

/// What a call goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    Gateway,
    Nginx,
    /// Nothing: generator to upstream, for reference.
    Direct,
}

/// One point of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(crate) era: Era,
    pub(crate) payload: usize,
    pub(crate) connections: usize,
}

/// All cells of one era, in the order of the table.
pub(crate) fn cells(matrix: &Matrix, era: Era) -> Vec<Cell> {
    matrix.pairs().map(|(payload, connections)| Cell { era, payload, connections }).collect()
}

/// Who is measured in a round, in which order. Gateway and nginx stand side by side and change places every round, so
/// that neither a drift of the machine nor the order favours one; the reference needs only one round.
pub(crate) fn order(round: u32, with_gateway: bool) -> Vec<Via> {
    let mut order = match (with_gateway, round % 2) {
        (false, _) => vec![Via::Nginx],
        (true, 0) => vec![Via::Gateway, Via::Nginx],
        (true, _) => vec![Via::Nginx, Via::Gateway],
    };
    if round == 0 {
        order.push(Via::Direct);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_and_nginx_change_places() {
        assert_eq!(order(0, true), [Via::Gateway, Via::Nginx, Via::Direct]);
        assert_eq!(order(1, true), [Via::Nginx, Via::Gateway]);
        assert_eq!(order(2, true), [Via::Gateway, Via::Nginx]);
        assert_eq!(order(1, false), [Via::Nginx]);
    }
}
