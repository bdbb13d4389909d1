//! From what was seen to a report: phases, seconds, and the facts that a run is judged by.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::process::Command;

use super::verdict::{Facts, judge};
use super::{Connected, FORMAT, HostFacts, Phase, Report, Second, Summary, fanout, overload, trend};
use crate::conductor::Seen;
use crate::outcome::{Outcome, REFUSALS};
use crate::scenario::Scenario;
use crate::tally::{Cell, Operation};
use crate::timeline::{Death, Ended, Part, StageKind, Timeline};

/// The window after a fault.
const WINDOW_S: u32 = 15;
/// The first seconds of the hold: every connection for calls is new.
const SETTLING_S: u32 = 2;

/// What clients ask for; the rest is counted apart.
const ASKED: [Operation; 6] = [
    Operation::Call,
    Operation::List,
    Operation::Subscribe,
    Operation::Notify,
    // While streams are held sessions only open and end where others take their place.
    Operation::Open,
    Operation::Leave,
];

/// Makes the report. `shares_host`: gateway and generator run on this machine, so that its CPU limits both.
pub(crate) fn build(scenario: Scenario, seen: Seen, ended: Ended, shares_host: bool) -> Report {
    let Seen { timeline, workers, begun_unix_ms, hold } = seen;
    let spans = spans(hold, &timeline);
    let steady: Vec<u32> = (hold.0..hold.1).filter(|second| span_of(&spans, *second) == Some(STEADY)).collect();
    let fewest = steady.iter().filter_map(|second| timeline.states.get(second)).map(|state| state.streams.iter().sum());
    let streams_fewest = fewest.min().unwrap_or(0);
    let (warm, until) = (f64::from(hold.0) + scenario.limits.warm_up.as_secs_f64(), f64::from(hold.1));
    let is_asked_for = scenario.limits.memory_mib_per_minute.is_some() || scenario.limits.drift_max.is_some();
    let Ended { held, died } = ended;
    let connected = connected(&scenario, &timeline, hold.0);
    let facts = Facts {
        overload: overload::of(&timeline.stages, timeline.peak, &timeline.tally, &scenario.limits),
        trends: if is_asked_for { trend::of(&timeline.processes, warm, until) } else { Vec::new() },
        died: died.iter().map(|one| died_text(one, begun_unix_ms)).collect(),
        connected: connected.clone(),
        memory_max: scenario.local.memory_max,
        held,
        ..facts(&timeline, &steady, streams_fewest, shares_host)
    };
    let fanout = fanout::of(&timeline.tally, &timeline.processes, &steady);
    let (verdict, checks, reasons) = judge(&facts, &scenario.limits);
    let phases = phases(&timeline, &spans, hold);
    let most = timeline.states.values().map(|state| state.streams.iter().sum()).max();
    let bytes_per_stream = bytes_per_stream(&timeline, &steady);
    let seconds = seconds(&timeline);
    let Timeline { events, processes, examples, .. } = timeline;
    let Facts { overload, trends, held, .. } = facts;
    Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        begun_unix_ms,
        host: host(),
        workers,
        verdict,
        reasons,
        checks,
        connected: Some(connected),
        died,
        streams_most: most.unwrap_or(0),
        streams_fewest,
        bytes_per_stream,
        hold,
        overload,
        fanout,
        trends,
        held,
        phases,
        seconds,
        events,
        processes,
        examples,
        scenario,
    }
}

fn connected(scenario: &Scenario, timeline: &Timeline, hold_from: u32) -> Connected {
    let opened = timeline.tally.sum(Operation::Open, |second| second < hold_from).of(Outcome::Ok);
    Connected { asked: scenario.connections, opened, not_open: timeline.refusals.listed() }
}

fn died_text(death: &Death, begun_unix_ms: u64) -> String {
    let second = death.at_unix_ms.saturating_sub(begun_unix_ms) / 1_000;
    format!("{} died in second {second}: {}", death.node, death.how)
}

const STEADY: &str = "steady";

/// A named part of the hold.
struct Span {
    name: String,
    seconds: Range<u32>,
}

/// The first seconds, the window after each fault, and all of an overload but its hold; all else of the hold is steady.
fn spans(hold: (u32, u32), timeline: &Timeline) -> Vec<Span> {
    let mut spans = vec![Span { name: "settling".to_owned(), seconds: hold.0..hold.0 + SETTLING_S }];
    if let Some(settling) = timeline.stages.iter().find(|stage| stage.kind == StageKind::Settling) {
        // With the pauses between its steps.
        spans.push(Span { name: "search".to_owned(), seconds: hold.0..settling.from });
    }
    let others = timeline.stages.iter().filter(|stage| stage.kind != StageKind::Step);
    spans.extend(others.map(|stage| Span { name: stage.name(), seconds: stage.seconds() }));
    for event in timeline.events.iter().filter(|event| event.fault.is_some()) {
        let until = event.until as u32 + WINDOW_S;
        spans.push(Span { name: format!("after: {}", event.text), seconds: event.second as u32..until });
    }
    spans
}

/// Later faults go before earlier ones.
fn span_of(spans: &[Span], second: u32) -> Option<&str> {
    let within = spans.iter().rev().find(|span| span.seconds.contains(&second));
    Some(within.map_or(STEADY, |span| &span.name))
}

fn phases(timeline: &Timeline, spans: &[Span], hold: (u32, u32)) -> Vec<Phase> {
    let phase = |name: &str, is_in: &dyn Fn(u32) -> bool, seconds: u32| Phase {
        name: name.to_owned(),
        seconds,
        operations: operations(timeline, is_in),
    };
    let in_hold = |second: u32| (hold.0..hold.1).contains(&second);
    let mut phases = vec![phase("ramp", &|second| second < hold.0, hold.0)];
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).chain([STEADY]).collect();
    let mut known = HashSet::new();
    names.retain(|name| known.insert(*name));
    for name in names {
        let is_in = |second: u32| in_hold(second) && span_of(spans, second) == Some(name);
        let seconds = (hold.0..hold.1).filter(|second| is_in(*second)).count();
        phases.push(phase(name, &is_in, u32::try_from(seconds).unwrap_or(u32::MAX)));
    }
    phases.push(phase("end", &|second| second >= hold.1, 0));
    phases
}

fn operations(timeline: &Timeline, is_in: &dyn Fn(u32) -> bool) -> BTreeMap<String, Summary> {
    let sums = Operation::ALL.into_iter().map(|operation| (operation, timeline.tally.sum(operation, is_in)));
    let some = sums.filter(|(_, sum)| sum.offered + sum.ended() + sum.of(Outcome::Unsent) > 0);
    some.map(|(operation, sum)| (operation.name().to_owned(), Summary::of(&sum))).collect()
}

fn facts(timeline: &Timeline, steady: &[u32], streams_fewest: u64, shares_host: bool) -> Facts {
    let is_steady = |second: u32| steady.binary_search(&second).is_ok();
    let of = |operation| timeline.tally.sum(operation, is_steady);
    let mut asked = Cell::default();
    ASKED.into_iter().for_each(|operation| asked.add(&of(operation)));
    let ever = |outcome| {
        let ended = |operation| timeline.tally.sum(operation, |_| true).of(outcome);
        Operation::ALL.into_iter().map(ended).sum::<u64>()
    };
    let again = [Operation::Reopen, Operation::Recover].map(|operation| timeline.tally.sum(operation, |_| true));
    let never = again.iter().map(|cell| cell.offered.saturating_sub(cell.of(Outcome::Ok))).sum();
    let busy: Vec<f64> = steady.iter().filter_map(|second| timeline.busy.get(second)).copied().collect();
    Facts {
        asked,
        calls: of(Operation::Call),
        late: of(Operation::Late),
        delivered: of(Operation::Deliver),
        lost: ever(Outcome::Lost),
        wrong: ever(Outcome::Wrong),
        swept: timeline.tally.sum(Operation::Sweep, |_| true),
        never,
        served_again_ms: again.iter().map(Cell::max_ms).fold(0.0, f64::max),
        has_faults: timeline.events.iter().any(|event| event.fault.is_some()),
        streams_fewest,
        worker_cores: worker_cores(timeline, &is_steady),
        host_busy: shares_host.then(|| mean(&busy)),
        steady_seconds: u32::try_from(steady.len()).unwrap_or(u32::MAX),
        ..Facts::default()
    }
}

/// The mean of the busiest worker.
fn worker_cores(timeline: &Timeline, is_steady: &impl Fn(u32) -> bool) -> f64 {
    let workers = timeline.processes.iter().filter(|process| process.part == Part::Worker);
    let each = workers.map(|process| {
        let samples = process.samples.iter().filter(|sample| is_steady(sample.second as u32));
        mean(&samples.map(|sample| sample.cores).collect::<Vec<f64>>())
    });
    each.fold(0.0, f64::max)
}

/// Over all nodes that ran before the first session and in the steady state.
fn bytes_per_stream(timeline: &Timeline, steady: &[u32]) -> Option<f64> {
    let at = *steady.iter().find(|second| timeline.states.contains_key(second))?;
    let streams: u64 = timeline.states.get(&at)?.streams.iter().sum();
    let nodes: Vec<_> = timeline.processes.iter().filter(|process| process.part == Part::Node).collect();
    let grown = nodes.iter().filter_map(|node| {
        let before = node.samples.first().filter(|sample| sample.second < 1.0)?;
        let then = node.samples.iter().find(|sample| sample.second as u32 >= at)?;
        Some(then.memory_bytes as f64 - before.memory_bytes as f64)
    });
    (streams > 0 && !nodes.is_empty()).then(|| grown.sum::<f64>() / streams as f64)
}

fn seconds(timeline: &Timeline) -> Vec<Second> {
    let last = timeline.states.keys().next_back().copied().unwrap_or(0);
    let none = Cell::default();
    let cell = |second, operation| timeline.tally.get(second, operation).unwrap_or(&none);
    let one = |second| {
        let calls = cell(second, Operation::Call);
        let opens = cell(second, Operation::Open);
        let not_let_in = opens.of(Outcome::Refused) + opens.of(Outcome::Limited);
        let failed = [Outcome::Error, Outcome::Lost, Outcome::Wrong, Outcome::Silent];
        Second {
            second,
            streams: timeline.states.get(&second).map_or([0; 3], |state| state.streams),
            offered: calls.offered,
            ok: calls.of(Outcome::Ok),
            refused: REFUSALS.into_iter().map(|outcome| calls.of(outcome)).sum(),
            unknown: calls.of(Outcome::Unknown),
            failed: failed.into_iter().map(|outcome| calls.of(outcome)).sum(),
            unsent: calls.of(Outcome::Unsent),
            p50_ms: calls.ms(0.5),
            p99_ms: calls.ms(0.99),
            max_ms: calls.max_ms(),
            late_p99_ms: cell(second, Operation::Late).ms(0.99),
            broke: cell(second, Operation::Reopen).offered,
            delivered: cell(second, Operation::Deliver).of(Outcome::Ok),
            opened: opens.of(Outcome::Ok),
            not_let_in,
            not_opened: opens.ended() + opens.of(Outcome::Unsent) - opens.of(Outcome::Ok) - not_let_in,
            busy: timeline.busy.get(&second).copied().unwrap_or(0.0),
        }
    };
    (0..=last).filter(|second| timeline.states.contains_key(second)).map(one).collect()
}

fn mean(all: &[f64]) -> f64 {
    if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
}

fn host() -> HostFacts {
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    HostFacts {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: memory.unwrap_or(0) << 10,
        kernel: kernel.trim().to_owned(),
    }
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
}
