//! From samples to a verdict: medians per cell, ratios of neighbours, the table.

use std::fmt;

use serde::Serialize;

use super::{Cell, Measured};
use crate::cli::ForwardedOptions;
use crate::cluster::{Net, Way};
use crate::report::{median, number};
use crate::sample::Sample;

/// Goal 1.2 of the design: what a link may add to a call that waits for no other.
const ADDS_P50_US_MAX: f64 = 1_000.0;
const ADDS_P99_US_MAX: f64 = 5_000.0;

/// Medians of one cell. CPU is that of all nodes per call, less what they use while idle.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    cell: Cell,
    local_cpu_us: Option<f64>,
    forwarded_cpu_us: Option<f64>,
    /// What idle nodes would have used in the time of a call; not in the above.
    local_idle_us: Option<f64>,
    forwarded_idle_us: Option<f64>,
    /// Median over rounds of forwarded over local in the same round.
    ratio: Option<f64>,
    /// The same with what idle nodes use.
    ratio_with_idle: Option<f64>,
    /// What the link adds to the latency of the same quantile.
    adds_p50_us: Option<f64>,
    adds_p99_us: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Report {
    rows: Vec<Row>,
    /// Median over all idle intervals, of each node.
    idle_cores: Vec<Option<f64>>,
    /// Of the cells that are judged.
    ratio_worst: Option<f64>,
    ratio_max: Option<f64>,
    ratio_connections_min: usize,
    errors: u64,
    calls: u64,
}

impl Report {
    pub(super) fn new(measured: &[Measured], cells: &[Cell], options: &ForwardedOptions) -> Self {
        let of = |cell: &Cell| measured.iter().filter(|one| one.cell == *cell).collect::<Vec<_>>();
        let rows: Vec<Row> = cells.iter().map(|cell| Row::new(*cell, &of(cell))).collect();
        let nodes = measured.iter().map(|one| one.net.idle_cores.len()).min().unwrap_or(0);
        let idle = |node| median(measured.iter().map(|one: &Measured| one.net.idle_cores[node]).collect());
        let mut report = Self {
            rows,
            idle_cores: (0..nodes).map(idle).collect(),
            ratio_worst: None,
            ratio_max: options.ratio_max,
            ratio_connections_min: options.ratio_connections_min,
            errors: measured.iter().map(|one| one.net.sample.errors).sum(),
            calls: measured.iter().map(|one| one.net.sample.calls).sum(),
        };
        report.ratio_worst =
            report.rows.iter().filter(|row| report.is_judged(row)).filter_map(|row| row.ratio).reduce(f64::max);
        report
    }

    /// Whether the cell's CPU is held against the limit.
    fn is_judged(&self, row: &Row) -> bool {
        row.cell.calls_per_second.is_none() && row.cell.connections >= self.ratio_connections_min
    }

    fn is_above(&self, row: &Row) -> bool {
        self.is_judged(row) && self.ratio_max.zip(row.ratio).is_some_and(|(max, ratio)| ratio > max)
    }

    /// No error, no hole, nothing above its limit.
    pub(super) fn is_good(&self) -> bool {
        let whole = self.rows.iter().all(|row| row.ratio.is_some());
        let in_time = self.ratio_max.is_none() || self.rows.iter().all(Row::is_in_time);
        self.errors == 0 && whole && in_time && !self.rows.iter().any(|row| self.is_above(row))
    }
}

impl Row {
    fn new(cell: Cell, measured: &[&Measured]) -> Self {
        let good = |way: Way| measured.iter().copied().filter(move |one| one.way == way && one.net.sample.is_good());
        let over =
            |way: Way, figure: fn(&Net) -> Option<f64>| median(good(way).filter_map(|one| figure(&one.net)).collect());
        // Neighbours of one round, so that the machine's mood is the same for both.
        let pairs: Vec<_> = good(Way::Forwarded)
            .filter_map(|one| Some((one, good(Way::Local).find(|local| local.round == one.round)?)))
            .collect();
        let ratio = |figure: fn(&Net) -> Option<f64>| {
            let ratio = |(one, local): &(&Measured, &Measured)| {
                Some(figure(&one.net)? / figure(&local.net).filter(|cpu| *cpu > 0.0)?)
            };
            median(pairs.iter().filter_map(ratio).collect())
        };
        let adds = |figure: fn(&Sample) -> f64| {
            median(pairs.iter().map(|(one, local)| figure(&one.net.sample) - figure(&local.net.sample)).collect())
        };
        Self {
            cell,
            local_cpu_us: over(Way::Local, Net::cpu_us),
            forwarded_cpu_us: over(Way::Forwarded, Net::cpu_us),
            local_idle_us: over(Way::Local, Net::idle_us),
            forwarded_idle_us: over(Way::Forwarded, Net::idle_us),
            ratio: ratio(Net::cpu_us),
            ratio_with_idle: ratio(Net::all_cpu_us),
            adds_p50_us: adds(|sample| sample.p50_us),
            adds_p99_us: adds(|sample| sample.p99_us),
        }
    }

    /// Where calls wait for no other, the link adds no more than it may.
    fn is_in_time(&self) -> bool {
        let below = |figure: Option<f64>, max| figure.is_some_and(|figure| figure < max);
        self.cell.calls_per_second.is_none()
            || (below(self.adds_p50_us, ADDS_P50_US_MAX) && below(self.adds_p99_us, ADDS_P99_US_MAX))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle: Vec<String> =
            self.idle_cores.iter().map(|cores| number(cores.map(|cores| cores * 100.0), 1)).collect();
        writeln!(
            f,
            "idle nodes use {} % of a core; `idle` is that per call, and is not in the CPU beside it",
            idle.join(", ")
        )?;
        writeln!(f, "{:>8} {:>6} | {:^51} | {:^15} |", "", "", "CPU us/call, all nodes", "link adds us")?;
        let head = ["local", "idle", "forwarded", "idle", "ratio", "with idle"];
        let [local, local_idle, forwarded, forwarded_idle, ratio, with] = head;
        writeln!(
            f,
            "{:>8} {:>6} | {local:>7} {local_idle:>6} {forwarded:>9} {forwarded_idle:>6} {ratio:>8} {with:>10} | {:>7} {:>7} |",
            "payload", "conns", "p50", "p99"
        )?;
        for row in &self.rows {
            writeln!(f, "{row} {}", if self.is_above(row) || !row.is_in_time() { "above the limit" } else { "" })?;
        }
        let (worst, max, least) = (number(self.ratio_worst, 2), number(self.ratio_max, 2), self.ratio_connections_min);
        writeln!(f, "CPU ratio forwarded/local: worst cell from {least} connections on {worst}, limit {max}")?;
        if let Some(row) = self.rows.iter().find(|row| row.cell.calls_per_second.is_some()) {
            let (p50, p99) = (number(row.adds_p50_us, 0), number(row.adds_p99_us, 0));
            let rate = number(row.cell.calls_per_second, 0);
            writeln!(
                f,
                "at {rate} calls/s a link adds p50 {p50} us, limit {ADDS_P50_US_MAX}; p99 {p99} us, limit {ADDS_P99_US_MAX}"
            )?;
        }
        writeln!(f, "calls {}, errors {}", self.calls, self.errors)?;
        writeln!(f, "{}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conns = match self.cell.calls_per_second {
            Some(_) => format!("{} *", self.cell.connections),
            None => self.cell.connections.to_string(),
        };
        write!(
            f,
            "{:>8} {conns:>6} | {:>7} {:>6} {:>9} {:>6} {:>8} {:>10} | {:>7} {:>7} |",
            self.cell.payload,
            number(self.local_cpu_us, 1),
            number(self.local_idle_us, 1),
            number(self.forwarded_cpu_us, 1),
            number(self.forwarded_idle_us, 1),
            number(self.ratio, 2),
            number(self.ratio_with_idle, 2),
            number(self.adds_p50_us, 0),
            number(self.adds_p99_us, 0)
        )
    }
}
