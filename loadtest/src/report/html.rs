//! The page of a report: one file that loads nothing. Pure.

use std::fmt::Write as _;

use super::svg::{Ground, Line, Plot, escape, short};
use super::{Report, Second, Side, Verdict};
use crate::timeline::{Part, ProcessUsage, Sample};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = format!("Load test: {}", escape(&report.scenario.name));
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>\n<h1>{title}</h1>\n"
    );
    head(&mut out, report);
    checks(&mut out, report);
    super::sections::tables(&mut out, report);
    plots(&mut out, report);
    phases(&mut out, report);
    processes(&mut out, report);
    if !report.examples.is_empty() {
        out.push_str("<h2>Examples of what was not well</h2><ul>");
        for example in &report.examples {
            let _ = write!(out, "<li><code>{}</code></li>", escape(example));
        }
        out.push_str("</ul>");
    }
    let scenario = serde_json::to_string_pretty(&report.scenario).unwrap_or_default();
    let _ = write!(
        out,
        "<h2>Scenario</h2><details><summary>as the workers got it</summary><pre>{}</pre></details>",
        escape(&scenario)
    );
    out.push_str("</main></body></html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let class = match report.verdict {
        Verdict::Good => "good",
        Verdict::NotGood => "bad",
        Verdict::GeneratorLimited => "void",
    };
    let _ = write!(out, r#"<p class="verdict {class}">{}</p>"#, escape(&report.verdict_text()));
    let nodes = report.processes.iter().filter(|process| process.part == Part::Node).count();
    let fact = |name: &str, value: String| format!("<div><dt>{name}</dt><dd>{value}</dd></div>");
    let steady = report.phases.iter().find(|phase| phase.name == "steady");
    let calls = steady.and_then(|phase| Some((phase.seconds, phase.operations.get("call")?)));
    let mut facts: Vec<String> = Vec::new();
    if let Some(connected) = report.connected.as_ref() {
        facts.push(fact("connected, of those asked for", format!("{} / {}", connected.opened, connected.asked)));
    }
    facts.extend([
        fact("streams at most", report.streams_most.to_string()),
        fact("fewest while steady", report.streams_fewest.to_string()),
    ]);
    if let Some((seconds, calls)) = calls {
        let per_second = |count: u64| format!("{:.0}/s", count as f64 / f64::from(seconds.max(1)));
        let ok = calls.outcomes.get("ok").copied().unwrap_or(0);
        facts.push(fact("calls offered, steady", per_second(calls.offered)));
        facts.push(fact("calls achieved", per_second(ok)));
        facts.push(fact(
            "p50 / p99 / p99.9",
            format!("{:.1} / {:.1} / {:.1} ms", calls.p50_ms, calls.p99_ms, calls.p999_ms),
        ));
    }
    if let Some(bytes) = report.bytes_per_stream {
        facts.push(fact("gateway memory per stream", format!("{:.1} KB", bytes / 1e3)));
    }
    if nodes > 0 {
        facts.push(fact("node processes", nodes.to_string()));
    }
    facts.push(fact("workers", report.workers.len().to_string()));
    let host = &report.host;
    facts.push(fact("host", format!("{} cores, {:.0} GB", host.cores, host.memory_bytes as f64 / 1e9)));
    facts.push(fact("version", escape(&format!("{} {}", report.version, report.commit.as_deref().unwrap_or("")))));
    let _ = write!(out, "<dl>{}</dl>", facts.concat());
}

fn checks(out: &mut String, report: &Report) {
    out.push_str("<h2>Limits</h2><table><tr><th></th><th>what</th><th>limit</th><th>measured</th><th>of</th></tr>");
    for check in &report.checks {
        let (class, word) = if check.is_met { ("good", "met") } else { ("bad", "not met") };
        let side = match check.side {
            Side::Gateway => "the gateway",
            Side::Generator => "the generator",
        };
        let _ = write!(
            out,
            "<tr><td class=\"{class}\">{word}</td><td>{}</td><td>{}</td><td>{}</td><td>{side}</td></tr>",
            escape(&check.what),
            escape(&check.limit),
            escape(&check.measured)
        );
    }
    out.push_str("</table>\n");
}

fn plots(out: &mut String, report: &Report) {
    out.push_str("<h2>Second by second</h2>");
    let marks: Vec<(f64, usize)> = report.events.iter().map(|event| event.second).zip(1..).collect();
    let mut shades: Vec<(f64, f64)> = report.events.iter().map(|event| (event.second, event.until + 15.0)).collect();
    let multiples = report.overload.iter().flat_map(|overload| &overload.multiples);
    shades.extend(multiples.map(|one| (f64::from(one.stage.from), f64::from(one.stage.until))));
    let end = report.seconds.last().map_or(1.0, |second| f64::from(second.second));
    let hold = (f64::from(report.hold.0), f64::from(report.hold.1));
    let _ = write!(out, "<p>Streams open until second {}, are held until second {}.", hold.0, hold.1);
    for (event, number) in report.events.iter().zip(1..) {
        let _ = write!(out, " <b>{number}</b> {} at {:.1} s.", escape(&event.text), event.second);
    }
    out.push_str(" Shaded: from each event to 15 s after it was done; calls beyond the peak.</p>");
    let ground = Ground { end, marks: &marks, shades: &shades };
    for plot in of_seconds(report).into_iter().chain(of_processes(report)) {
        out.push_str(&plot.draw(&ground));
    }
}

fn line(report: &Report, name: &str, value: impl Fn(&Second) -> f64) -> Line {
    let points = report.seconds.iter().map(|second| (f64::from(second.second), value(second))).collect();
    Line { name: name.to_owned(), points, is_broad: false }
}

/// Only while calls were due: elsewhere there is no latency.
fn latency(report: &Report, name: &str, value: impl Fn(&Second) -> f64) -> Line {
    let seconds = report.seconds.iter().filter(|second| second.ok > 0);
    let points = seconds.map(|second| (f64::from(second.second), value(second))).collect();
    Line { name: name.to_owned(), points, is_broad: false }
}

fn of_seconds(report: &Report) -> Vec<Plot<'static>> {
    let plot = |title, unit, lines| Plot { title, unit, lines, is_stacked: false, is_logarithmic: false, limit: None };
    let streams = ["legacy, SSE", "modern, subscriptions/listen", "WebSocket"].into_iter().enumerate();
    let streams = streams.map(|(kind, name)| line(report, name, move |second| second.streams[kind] as f64));
    let streams = streams.filter(|line| line.points.iter().any(|(_, y)| *y > 0.0)).collect();
    let rates = vec![
        Line { is_broad: true, ..line(report, "offered", |second| second.offered as f64) },
        line(report, "achieved (ok)", |second| second.ok as f64),
        line(report, "refused", |second| second.refused as f64),
    ];
    let errors = vec![
        line(report, "refused", |second| second.refused as f64),
        line(report, "outcome unknown", |second| second.unknown as f64),
        line(report, "error, lost, wrong, silent", |second| second.failed as f64),
        line(report, "not sent (generator)", |second| second.unsent as f64),
    ];
    let peak = report.overload.as_ref().map(|overload| overload.peak_per_second);
    let latencies = vec![
        latency(report, "p50", |second| second.p50_ms),
        latency(report, "p99", |second| second.p99_ms),
        latency(report, "max", |second| second.max_ms),
        latency(report, "generator late, p99", |second| second.late_p99_ms),
    ];
    let streams = Plot { is_stacked: true, ..plot("Open streams", "by kind", streams) };
    let others = [
        // Multiples of the peak are far apart.
        Plot {
            is_logarithmic: peak.is_some(),
            limit: peak.map(|peak| peak * report.scenario.limits.goodput_min),
            ..plot("Calls per second, by when they were due", "calls/s", rates)
        },
        Plot {
            is_logarithmic: true,
            limit: Some(report.scenario.limits.p99_ms),
            ..plot("Latency of calls, from when they were due", "ms", latencies)
        },
        Plot { is_stacked: true, ..plot("Calls that did not end well", "calls/s", errors) },
        plot(
            "Streams that broke, notices that arrived",
            "of each second",
            vec![
                line(report, "streams that broke", |second| second.broke as f64),
                line(report, "notices delivered", |second| second.delivered as f64),
            ],
        ),
    ];
    [streams].into_iter().chain(opens(report)).chain(others).collect()
}

/// What became of the sessions that were to open; files of earlier versions do not have it.
fn opens(report: &Report) -> Option<Plot<'static>> {
    let lines = vec![
        line(report, "opened", |second| second.opened as f64),
        line(report, "refused (503, 429)", |second| second.not_let_in as f64),
        line(report, "not opened otherwise", |second| second.not_opened as f64),
    ];
    let is_known = lines.iter().flat_map(|line| &line.points).any(|(_, y)| *y > 0.0);
    let (title, unit) = ("Sessions that were to open, by when they were due", "sessions/s");
    is_known.then_some(Plot { title, unit, lines, is_stacked: true, is_logarithmic: false, limit: None })
}

fn of_processes(report: &Report) -> Vec<Plot<'static>> {
    let of = |part: Part, value: fn(&Sample) -> Option<f64>| -> Vec<Line> {
        let those = report.processes.iter().filter(|process| process.part == part);
        let line = |process: &ProcessUsage| {
            let samples = process.samples.iter().skip(1);
            let points = samples.filter_map(|sample| Some((sample.second, value(sample)?))).collect();
            Line { name: process.name.clone(), points, is_broad: false }
        };
        those.map(line).collect()
    };
    let plot = |title, unit, lines| Plot { title, unit, lines, is_stacked: false, is_logarithmic: false, limit: None };
    let megabytes: fn(&Sample) -> Option<f64> = |sample| Some(sample.memory_bytes as f64 / 1e6);
    let cores: fn(&Sample) -> Option<f64> = |sample| Some(sample.cores);
    let tasks: fn(&Sample) -> Option<f64> = |sample| sample.tasks.map(|count| count as f64);
    let mut others = of(Part::Upstream, cores);
    others.extend(of(Part::Worker, cores));
    others.extend(of(Part::Coordinator, cores));
    let host = vec![line(report, "busy", |second| second.busy * 100.0)];
    let all = vec![
        plot("Memory of each node", "MB", of(Part::Node, megabytes)),
        plot("CPU of each node", "cores", of(Part::Node, cores)),
        plot("Tasks of each node", "tokio tasks", of(Part::Node, tasks)),
        plot("CPU of upstream, workers and coordinator", "cores", others),
        plot("The host that the coordinator runs on", "% of all cores", host),
    ];
    all.into_iter().filter(|plot| plot.lines.iter().any(|line| !line.points.is_empty())).collect()
}

fn phases(out: &mut String, report: &Report) {
    out.push_str("<h2>Phases</h2><p>Times from when something was due, of what ended well.</p><table><tr><th>phase</th><th>operation</th><th>due</th><th>ended</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max, ms</th></tr>");
    for phase in report.phases.iter().filter(|phase| !phase.operations.is_empty()) {
        for (row, (name, sum)) in phase.operations.iter().enumerate() {
            let first = if row == 0 {
                let seconds = if phase.seconds > 0 { format!(", {} s", phase.seconds) } else { String::new() };
                format!("<td rowspan=\"{}\">{}{seconds}</td>", phase.operations.len(), escape(&phase.name))
            } else {
                String::new()
            };
            let _ =
                write!(out, "<tr>{first}<td>{name}</td><td class=\"n\">{}</td><td>{}</td>", sum.offered, sum.ended());
            for ms in [sum.p50_ms, sum.p90_ms, sum.p99_ms, sum.p999_ms, sum.max_ms] {
                let _ = write!(out, "<td class=\"n\">{ms:.1}</td>");
            }
            out.push_str("</tr>");
        }
    }
    out.push_str("</table>\n");
}

fn processes(out: &mut String, report: &Report) {
    if report.processes.is_empty() {
        return;
    }
    out.push_str("<h2>Processes</h2><table><tr><th>process</th><th>memory at first, MB</th><th>most, MB</th><th>cores, mean</th><th>most</th><th>descriptors, most</th><th>tasks, most</th></tr>");
    for process in &report.processes {
        let memory = |sample: &Sample| sample.memory_bytes as f64 / 1e6;
        let most = |value: &dyn Fn(&Sample) -> f64| process.samples.iter().map(value).fold(0.0, f64::max);
        let mean = process.samples.iter().map(|sample| sample.cores).sum::<f64>() / process.samples.len().max(1) as f64;
        let first = process.samples.first().map_or(0.0, memory);
        let cells = [
            short(first),
            short(most(&memory)),
            format!("{mean:.2}"),
            format!("{:.2}", most(&|sample| sample.cores)),
            short(most(&|sample| sample.descriptors.unwrap_or(0) as f64)),
            short(most(&|sample| sample.tasks.unwrap_or(0) as f64)),
        ];
        let _ = write!(out, "<tr><td>{}</td>", escape(&process.name));
        cells.iter().for_each(|cell| {
            let _ = write!(out, "<td class=\"n\">{cell}</td>");
        });
        out.push_str("</tr>");
    }
    out.push_str("</table>\n");
}
