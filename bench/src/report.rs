//! From samples to a verdict: medians per cell, ratios of neighbours, the table.

use std::fmt;

use serde::Serialize;

use crate::plan::{Cell, Via};
use crate::run::Measured;
use crate::sample::Sample;

/// More than this beside the run, and the table says that it is doubtful.
pub(crate) const QUIET_CORES_MAX: f64 = 0.2;

/// Medians over the good samples of one cell and one way.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Microseconds per call; absent without a proxy.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) upstream_cpu_us: Option<f64>,
    pub(crate) generator_cpu_us: Option<f64>,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) gateway: Option<Figures>,
    pub(crate) nginx: Option<Figures>,
    pub(crate) direct: Option<Figures>,
    /// Median over rounds of the gateway's CPU per call over nginx's in the same round.
    pub(crate) ratio: Option<f64>,
}

/// The judged run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Median of the cells' ratios.
    pub(crate) ratio_median: Option<f64>,
    /// The worst cell's ratio: what is held against the limit.
    pub(crate) ratio_worst: Option<f64>,
    pub(crate) ratio_max: Option<f64>,
    pub(crate) errors: u64,
    pub(crate) calls: u64,
    /// Medians over all samples of what else the machine did: cores kept busy by others, cores stolen.
    pub(crate) others_cores: f64,
    pub(crate) stolen_cores: f64,
    /// Cells without a single usable sample of some way.
    pub(crate) holes: usize,
}

impl Report {
    /// Judges what was measured; `ratio_max` is the limit for every cell.
    pub(crate) fn new(measured: &[Measured], ratio_max: Option<f64>) -> Self {
        let mut cells: Vec<Cell> = Vec::new();
        for one in measured {
            if !cells.contains(&one.cell) {
                cells.push(one.cell);
            }
        }
        let rows: Vec<Row> = cells.iter().map(|&cell| row(cell, measured)).collect();
        let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio).collect();
        let used = |via: Via| measured.iter().any(|one| one.via == via);
        let holes = rows.iter().filter(|row| {
            let missing = |via, figures: &Option<Figures>| used(via) && figures.is_none();
            missing(Via::Gateway, &row.gateway)
                || missing(Via::Nginx, &row.nginx)
                || missing(Via::Direct, &row.direct)
                || (used(Via::Gateway) && row.ratio.is_none())
        });
        Self {
            others_cores: over_all(measured, |sample| sample.others_cores),
            stolen_cores: over_all(measured, |sample| sample.stolen_cores),
            holes: holes.count(),
            ratio_median: median(ratios.clone()),
            ratio_worst: ratios.into_iter().reduce(f64::max),
            ratio_max,
            errors: measured.iter().map(|one| one.sample.errors).sum(),
            calls: measured.iter().map(|one| one.sample.calls).sum(),
            rows,
        }
    }

    /// No error, no hole, no cell above the limit.
    pub(crate) fn is_good(&self) -> bool {
        let above = self.ratio_max.zip(self.ratio_worst).is_some_and(|(max, worst)| worst > max);
        self.errors == 0 && self.holes == 0 && !self.rows.is_empty() && !above
    }
}

fn over_all(measured: &[Measured], figure: fn(&Sample) -> f64) -> f64 {
    median(measured.iter().map(|one| figure(&one.sample)).collect()).unwrap_or_default()
}

fn row(cell: Cell, measured: &[Measured]) -> Row {
    let of = |via: Via| measured.iter().filter(move |one| one.cell == cell && one.via == via && one.sample.is_good());
    let figures = |via: Via| figures(&of(via).map(|one| &one.sample).collect::<Vec<_>>());
    let ratios = of(Via::Gateway).filter_map(|gateway| {
        let nginx = of(Via::Nginx).find(|nginx| nginx.round == gateway.round)?;
        let (gateway, nginx) = (gateway.sample.proxy_cpu?.clock_us, nginx.sample.proxy_cpu?.clock_us);
        (nginx > 0.0).then_some(gateway / nginx)
    });
    Row {
        cell,
        gateway: figures(Via::Gateway),
        nginx: figures(Via::Nginx),
        direct: figures(Via::Direct),
        ratio: median(ratios.collect()),
    }
}

fn figures(samples: &[&Sample]) -> Option<Figures> {
    let over =
        |figure: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(|sample| figure(sample)).collect());
    Some(Figures {
        cpu_us: over(|sample| Some(sample.proxy_cpu?.clock_us)),
        calls_per_second: over(|sample| Some(sample.calls_per_second))?,
        p50_us: over(|sample| Some(sample.p50_us))?,
        p99_us: over(|sample| Some(sample.p99_us))?,
        upstream_cpu_us: over(|sample| Some(sample.upstream_cpu?.clock_us)),
        generator_cpu_us: over(|sample| Some(sample.generator_cpu?.clock_us)),
    })
}

/// A figure of a table.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// The middle value; none of none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:22} | {:^25} | {:^26} | {:^26} | {:^29}", "", "CPU us/call", "calls/s", "p50 us", "p99 us")?;
        let names = format!("{:>8} {:>8} {:>8}", "gateway", "nginx", "direct");
        writeln!(
            f,
            "{:6} {:>8} {:>6} | {:>8} {:>8} {:>7} | {names} | {names} | {names}",
            "era", "payload", "conns", "gateway", "nginx", "ratio"
        )?;
        for row in &self.rows {
            write_row(f, row)?;
        }
        writeln!(
            f,
            "CPU ratio gateway/nginx: median of cells {}, worst cell {}, limit {}",
            number(self.ratio_median, 2),
            number(self.ratio_worst, 2),
            number(self.ratio_max, 2)
        )?;
        writeln!(f, "calls {}, errors {}, cells without figures {}", self.calls, self.errors, self.holes)?;
        writeln!(
            f,
            "beside the run the machine spent {:.2} cores on other work, {:.2} were stolen (medians)",
            self.others_cores, self.stolen_cores
        )?;
        if self.others_cores + self.stolen_cores > QUIET_CORES_MAX {
            writeln!(f, "DOUBTFUL: the machine was not quiet; run it again with nothing beside it")?;
        }
        writeln!(f, "{}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let Cell { era, payload, connections } = row.cell;
    let cpu = |figures: Option<Figures>| number(figures.and_then(|figures| figures.cpu_us), 1);
    write!(f, "{era:6} {payload:>8} {connections:>6} | ")?;
    write!(f, "{:>8} {:>8} {:>7}", cpu(row.gateway), cpu(row.nginx), number(row.ratio, 2))?;
    let columns: [fn(Figures) -> f64; 3] =
        [|figures| figures.calls_per_second, |figures| figures.p50_us, |figures| figures.p99_us];
    for column in columns {
        let text = |figures: Option<Figures>| number(figures.map(column), 0);
        write!(f, " | {:>8} {:>8} {:>8}", text(row.gateway), text(row.nginx), text(row.direct))?;
    }
    writeln!(f)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
