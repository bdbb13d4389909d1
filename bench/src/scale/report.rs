//! From samples to a verdict: medians per size and class, each beside the smallest cluster that has it; the table.

use std::fmt;

use serde::Serialize;

use super::{Class, KINDS, Kind, Measured};
use crate::cli::ScaleOptions;
use crate::report::{QUIET_CORES_MAX, median, number};

/// Medians over rounds of one class in clusters of one size.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    /// CPU of all nodes per call, less what they use while idle.
    cpu_us: f64,
    lowest_us: f64,
    highest_us: f64,
    /// What idle nodes would have used in the time of a call; not in the above.
    idle_us: f64,
    calls_per_second: f64,
    p99_us: f64,
    /// Of the smallest cluster that has this class, under the same load.
    to_smallest: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    nodes: usize,
    kind: Kind,
    local: Option<Figures>,
    forwarded: Option<Figures>,
    nginx: Option<Figures>,
    /// Medians over rounds of ratios within a round.
    local_to_nginx: Option<f64>,
    forwarded_to_local: Option<f64>,
}

/// How far one class of the gateway is from flat in a larger cluster, and nginx from the one size to the other beside it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Flat {
    kind: Kind,
    class: Class,
    /// The smallest cluster that has the class.
    smallest: usize,
    nodes: usize,
    /// What it costs in the larger one over what it costs in the smallest; 1 is flat.
    to_smallest: f64,
    /// The same of nginx: as many as nodes.
    nginx: Option<f64>,
    /// The former over the latter: what more processes on the same machine do not explain.
    to_nginx: Option<f64>,
}

type Get = fn(&Row) -> Option<Figures>;

/// Those of the gateway.
const CLASSES: [(Class, Get); 2] = [(Class::Local, |row| row.local), (Class::Forwarded, |row| row.forwarded)];

#[derive(Debug, Serialize)]
pub(super) struct Report {
    rows: Vec<Row>,
    connections: usize,
    payload: usize,
    calls_per_second: f64,
    flat: Vec<Flat>,
    local_to_nginx_worst: Option<f64>,
    forwarded_to_local_worst: Option<f64>,
    flat_max: Option<f64>,
    nginx_ratio_max: Option<f64>,
    ratio_max: Option<f64>,
    errors: u64,
    calls: u64,
    /// Median of what else the machine did: cores kept busy by others or stolen.
    others_cores: f64,
}

impl Report {
    pub(super) fn new(measured: &[Measured], options: &ScaleOptions) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for kind in KINDS {
            for &nodes in &options.nodes {
                rows.push(row(measured, nodes, kind, &rows));
            }
        }
        let worst = |figure: fn(&Row) -> Option<f64>| rows.iter().filter_map(figure).reduce(f64::max);
        let others = measured.iter().map(|one| one.net.sample.others_cores + one.net.sample.stolen_cores);
        Self {
            flat: flat(&rows),
            local_to_nginx_worst: worst(|row| row.local_to_nginx),
            forwarded_to_local_worst: worst(|row| row.forwarded_to_local),
            connections: options.connections,
            payload: options.payload,
            calls_per_second: options.calls_per_second,
            flat_max: options.flat_max,
            nginx_ratio_max: options.nginx_ratio_max,
            ratio_max: options.ratio_max,
            errors: measured.iter().map(|one| one.net.sample.errors).sum(),
            calls: measured.iter().map(|one| one.net.sample.calls).sum(),
            others_cores: median(others.collect()).unwrap_or_default(),
            rows,
        }
    }

    /// No error, no hole, nothing above its limit.
    pub(super) fn is_good(&self) -> bool {
        let whole = self
            .rows
            .iter()
            .all(|row| row.local_to_nginx.is_some() && (row.nodes == 1 || row.forwarded_to_local.is_some()));
        self.errors == 0 && whole && !self.rows.iter().any(|row| self.is_above(row))
    }

    fn is_above(&self, row: &Row) -> bool {
        let above = |limit: Option<f64>, figure: Option<f64>| limit.zip(figure).is_some_and(|(max, is)| is > max);
        above(self.flat_max, row.apart())
            || above(self.nginx_ratio_max, row.local_to_nginx)
            || above(self.ratio_max, row.forwarded_to_local)
    }
}

fn flat(rows: &[Row]) -> Vec<Flat> {
    let mut all = Vec::new();
    for kind in KINDS {
        for (class, figures) in CLASSES {
            let mut having = rows.iter().filter(|row| row.kind == kind && figures(row).is_some());
            let Some(smallest) = having.next() else { continue };
            // To the same smallest size, which may not be nginx's own.
            let nginx = |row: &Row| Some(row.nginx?.cpu_us / smallest.nginx?.cpu_us);
            all.extend(having.filter_map(|row| {
                let (to_smallest, nginx) = (figures(row)?.to_smallest, nginx(row));
                let to_nginx = nginx.map(|nginx| to_smallest / nginx);
                Some(Flat { kind, class, smallest: smallest.nodes, nodes: row.nodes, to_smallest, nginx, to_nginx })
            }));
        }
    }
    all
}

fn row(measured: &[Measured], nodes: usize, kind: Kind, above: &[Row]) -> Row {
    let of = |class: Class| {
        let is = move |one: &&Measured| one.nodes == nodes && one.kind == kind && one.class == class;
        measured.iter().filter(is).filter(|one| one.net.sample.is_good())
    };
    let figures = |class: Class, get: Get| {
        let smallest = above.iter().filter(|row| row.kind == kind).find_map(get);
        figures(&of(class).collect::<Vec<_>>(), smallest)
    };
    let ratio = |class: Class, to: Class| {
        let pairs = of(class).filter_map(|one| Some((one, of(to).find(|other| other.round == one.round)?)));
        let ratios =
            pairs.filter_map(|(one, other)| Some(one.net.cpu_us()? / other.net.cpu_us().filter(|us| *us > 0.0)?));
        median(ratios.collect())
    };
    Row {
        nodes,
        kind,
        local: figures(Class::Local, |row| row.local),
        forwarded: figures(Class::Forwarded, |row| row.forwarded),
        nginx: figures(Class::Nginx, |row| row.nginx),
        local_to_nginx: ratio(Class::Local, Class::Nginx),
        forwarded_to_local: ratio(Class::Forwarded, Class::Local),
    }
}

/// Without a smaller cluster it is the smallest itself.
fn figures(measured: &[&Measured], smallest: Option<Figures>) -> Option<Figures> {
    let over =
        |figure: fn(&Measured) -> Option<f64>| -> Vec<f64> { measured.iter().filter_map(|one| figure(one)).collect() };
    let cpu = || over(|one| one.net.cpu_us());
    let cpu_us = median(cpu())?;
    Some(Figures {
        cpu_us,
        lowest_us: cpu().into_iter().reduce(f64::min)?,
        highest_us: cpu().into_iter().reduce(f64::max)?,
        idle_us: median(over(|one| one.net.idle_us()))?,
        calls_per_second: median(over(|one| Some(one.net.sample.calls_per_second)))?,
        p99_us: median(over(|one| Some(one.net.sample.p99_us)))?,
        to_smallest: smallest.map_or(1.0, |smallest| cpu_us / smallest.cpu_us),
    })
}

impl Row {
    /// The larger share of the two classes.
    fn apart(&self) -> Option<f64> {
        self.to_smallest().map(|ratio| (ratio - 1.0).abs()).reduce(f64::max)
    }

    fn to_smallest(&self) -> impl Iterator<Item = f64> {
        [self.local, self.forwarded].into_iter().flatten().map(|figures| figures.to_smallest)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, payload, calls_per_second, .. } = self;
        writeln!(f, "CPU us/call of all nodes; `idle` is what idle nodes use, and not in the CPU beside it")?;
        writeln!(
            f,
            "{payload} B; one: a closed loop on {connections} connections at one node or over one link, closed: over all \
             nodes, closed *: for each node; rate: {calls_per_second} calls/s"
        )?;
        let column =
            |ratio: &str| format!("{:>7} {:>15} {:>5} {ratio:>8} {:>10}", "CPU", "lowest-highest", "idle", "/smallest");
        writeln!(
            f,
            "{:>8} {:>5} | {} | {} | {:>7} {:>15} {:>10} |",
            "load",
            "nodes",
            column("/nginx"),
            column("/local"),
            "nginx",
            "lowest-highest",
            "/smallest"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}{}", if self.is_above(row) { " above a limit" } else { "" })?;
        }
        self.fmt_flat(f)?;
        let limits = [
            ("local over nginx", self.local_to_nginx_worst, self.nginx_ratio_max),
            ("forwarded over local", self.forwarded_to_local_worst, self.ratio_max),
        ];
        for (what, worst, max) in limits {
            writeln!(f, "{what}: worst {}, limit {}", number(worst, 2), number(max, 2))?;
        }
        writeln!(f, "calls {}, errors {}", self.calls, self.errors)?;
        writeln!(f, "beside the run {:.2} cores were busy or stolen (median)", self.others_cores)?;
        if self.others_cores > QUIET_CORES_MAX {
            writeln!(f, "DOUBTFUL: the machine was not quiet; run it again with nothing beside it")?;
        }
        writeln!(f, "{}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}

impl Report {
    /// The size that is furthest from flat, of each class under each load.
    fn fmt_flat(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.flat_max.map_or("no limit".to_owned(), |max| format!("limit 1.00 +- {max:.2}"));
        writeln!(f, "flat: CPU of a call in the cluster furthest from the smallest, over that in the smallest; {max}")?;
        writeln!(
            f,
            "{:>8} {:>9} {:>10} {:>8} {:>8} {:>12}",
            "load", "class", "nodes", "gateway", "nginx", "ratio of both"
        )?;
        let far = |one: &&Flat| (one.to_smallest - 1.0).abs();
        for kind in KINDS {
            for (class, _) in CLASSES {
                let sizes = self.flat.iter().filter(|one| one.kind == kind && one.class == class);
                let Some(one) = sizes.max_by(|one, other| far(one).total_cmp(&far(other))) else { continue };
                let nodes = format!("{} -> {}", one.smallest, one.nodes);
                let [gateway, nginx, both] =
                    [Some(one.to_smallest), one.nginx, one.to_nginx].map(|figure| number(figure, 2));
                let above = if self.flat_max.is_some_and(|max| far(&one) > max) { " above the limit" } else { "" };
                let (kind, class) = (kind.name(), class.name());
                writeln!(f, "{kind:>8} {class:>9} {nodes:>10} {gateway:>8} {nginx:>8} {both:>12}{above}")?;
            }
        }
        Ok(())
    }
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Class::Local => "local",
            Class::Forwarded => "forwarded",
            Class::Nginx => "nginx",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::One => "one",
            Kind::Closed => "closed",
            Kind::ClosedEach => "closed *",
            Kind::Rate => "rate",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        write!(f, "{kind:>8} {:>5} |", self.nodes)?;
        for (figures, ratio) in [(self.local, self.local_to_nginx), (self.forwarded, self.forwarded_to_local)] {
            let get = |figure: fn(Figures) -> f64| figures.map(figure);
            let (cpu, idle) = (number(get(|figures| figures.cpu_us), 1), number(get(|figures| figures.idle_us), 1));
            let (ratio, smallest) = (number(ratio, 2), number(get(|figures| figures.to_smallest), 2));
            write!(f, " {cpu:>7} {:>15} {idle:>5} {ratio:>8} {smallest:>10} |", spread(figures))?;
        }
        let (cpu, smallest) = (self.nginx.map(|nginx| nginx.cpu_us), self.nginx.map(|nginx| nginx.to_smallest));
        write!(f, " {:>7} {:>15} {:>10} |", number(cpu, 1), spread(self.nginx), number(smallest, 2))
    }
}

fn spread(figures: Option<Figures>) -> String {
    figures.map_or("-".into(), |figures| format!("{:.1}-{:.1}", figures.lowest_us, figures.highest_us))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
