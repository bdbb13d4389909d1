//! What only some runs have: overload, announcements, trends, bounds of the nodes; as text and as tables of the page. Pure.

use std::fmt::Write as _;

use super::fanout::FanOut;
use super::overload::Overloaded;
use super::svg::escape;
use super::trend::Trend;
use super::{Connected, Report};
use crate::timeline::Held;

/// A table: what it is of, its columns, its rows.
struct Table {
    title: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// For the terminal.
pub(super) fn lines(report: &Report) -> Vec<String> {
    all(report).iter().flat_map(Table::text).collect()
}

/// For the page.
pub(super) fn tables(out: &mut String, report: &Report) {
    for table in all(report) {
        table.html(out);
    }
}

fn all(report: &Report) -> Vec<Table> {
    let mut tables = Vec::new();
    tables.extend(report.connected.as_ref().filter(|connected| !connected.not_open.is_empty()).map(not_open));
    if let Some(overload) = &report.overload {
        tables.extend([search(overload), multiples(overload)]);
    }
    tables.extend(report.fanout.as_ref().map(announcements));
    if !report.trends.is_empty() {
        tables.push(trends(&report.trends));
    }
    if !report.held.is_empty() {
        tables.push(held(&report.held));
    }
    tables
}

fn not_open(connected: &Connected) -> Table {
    let Connected { asked, opened, not_open } = connected;
    let row = |one: &crate::refusal::NotOpen| vec![one.why.clone(), one.given_up.to_string(), one.tries.to_string()];
    Table {
        title: format!("Connections: {opened} of {asked} connected in the ramp"),
        columns: &["why not", "sessions given up", "tries in the whole run"],
        rows: not_open.iter().map(row).collect(),
    }
}

fn search(overload: &Overloaded) -> Table {
    let row = |step: &super::overload::Step| {
        vec![
            format!("{:.0}", step.due_per_second),
            format!("{:.0}", step.sent_per_second),
            format!("{:.0}", step.ok_per_second),
            format!("{:.1}", step.p99_ms),
        ]
    };
    Table {
        title: format!("Overload: the peak is {:.0} calls/s", overload.peak_per_second),
        columns: &["calls/s due", "sent", "answered well", "p99, ms"],
        rows: overload.steps.iter().map(row).collect(),
    }
}

fn multiples(overload: &Overloaded) -> Table {
    let row = |one: &super::overload::Multiple| {
        vec![
            format!("{}x", one.wanted),
            format!("{:.2}x", one.achieved),
            format!("{:.0}", one.ok_per_second),
            format!("{:.1} %", one.of_peak * 100.0),
            format!("{:.1} / {:.1}", one.calls.p50_ms, one.calls.p99_ms),
            one.calls.ended(),
            one.recovered_s.map_or("never".to_owned(), |seconds| format!("{seconds} s")),
        ]
    };
    Table {
        title: "Overload: multiples of the peak".to_owned(),
        columns: &["wanted", "sent", "goodput/s", "of the peak", "p50 / p99 of ok, ms", "ended", "as before after"],
        rows: overload.multiples.iter().map(row).collect(),
    }
}

fn announcements(fanout: &FanOut) -> Table {
    let cell = |seconds: String, streams: u64, delivered: u64, [p50, p99, max]: [f64; 3]| {
        let per_second = if max > 0.0 { delivered as f64 / max * 1e3 } else { 0.0 };
        let mut row = vec![seconds, streams.to_string(), delivered.to_string(), format!("{per_second:.0}")];
        row.extend([p50, p99, max].map(|ms| format!("{ms:.1}")));
        row
    };
    let each = fanout
        .announcements
        .iter()
        .map(|one| cell(one.second.to_string(), one.streams, one.delivered, [one.p50_ms, one.p99_ms, one.max_ms]));
    let per_core = match fanout.per_core {
        Some(per_core) => {
            format!("{per_core:.0} deliveries/s per core of the gateway ({:.2} core-seconds)", fanout.cpu_seconds)
        }
        None => "CPU per delivery cannot be told from the rest".to_owned(),
    };
    Table {
        title: format!(
            "Announcements: {:.0} deliveries/s, {per_core}; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            fanout.deliveries_per_second, fanout.p50_ms, fanout.p99_ms, fanout.max_ms
        ),
        columns: &["second", "streams", "delivered", "per second", "p50, ms", "p99, ms", "max, ms"],
        rows: each.collect(),
    }
}

fn trends(trends: &[Trend]) -> Table {
    let row = |one: &Trend| {
        vec![
            one.node.clone(),
            format!("{:.1}", one.minutes),
            format!("{:+.3}", one.memory_mib_per_minute),
            format!("{:+.2} %", one.descriptors_drift * 100.0),
            format!("{:+.2} %", one.threads_drift * 100.0),
            one.tasks_drift.map_or("-".to_owned(), |drift| format!("{:+.2} %", drift * 100.0)),
        ]
    };
    Table {
        title: "Trends after the warm-up".to_owned(),
        columns: &["node", "minutes", "memory, MiB/min", "descriptors", "threads", "tasks"],
        rows: trends.iter().map(row).collect(),
    }
}

fn held(held: &[Held]) -> Table {
    let mib = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
    let row = |one: &Held| {
        vec![
            one.node.clone(),
            one.cpu_max.map_or("-".to_owned(), |cores| cores.to_string()),
            format!("{:.0} %", one.throttled * 100.0),
            mib(one.memory_max),
            mib(one.memory_peak_bytes),
            one.oom_kills.to_string(),
        ]
    };
    Table {
        title: "What nodes were held to".to_owned(),
        columns: &["node", "cores", "used up, of the time", "memory, MiB", "most, MiB", "killed for memory"],
        rows: held.iter().map(row).collect(),
    }
}

impl Table {
    fn text(&self) -> Vec<String> {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
                cells.chain([self.columns[index].len()]).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            format!("  {}", cells.join("  "))
        };
        let mut lines = vec![self.title.clone(), line(&mut self.columns.iter().copied())];
        lines.extend(self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
        lines
    }

    fn html(&self, out: &mut String) {
        let heads: String = self.columns.iter().map(|column| format!("<th class=\"n\">{column}</th>")).collect();
        // Writing to a string does not fail.
        let _ = write!(out, "<h2>{}</h2><table><tr>{heads}</tr>", escape(&self.title));
        for row in &self.rows {
            let cells: String = row.iter().map(|cell| format!("<td class=\"n\">{}</td>", escape(cell))).collect();
            let _ = write!(out, "<tr>{cells}</tr>");
        }
        out.push_str("</table>\n");
    }
}
