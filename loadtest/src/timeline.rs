//! Everything that was seen in a run, second by second: what workers counted, what happened, what processes used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use enfilade_process::{CpuTime, MachineTime, descriptors, resident_bytes, threads};
use serde::{Deserialize, Serialize};

use crate::proto::Gauges;
use crate::refusal::Refusals;
use crate::scenario::FaultKind;
use crate::tally::Tally;
use crate::tasks::Tasks;

/// Descriptors and tasks are counted only so often, in samples: it takes time.
const COUNTED_EVERY: u32 = 10;

/// What a process is in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Node,
    Upstream,
    Worker,
    Coordinator,
}

/// A process that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) pid: i32,
    /// Where it tells what it counts, if it does.
    pub(crate) health: Option<SocketAddr>,
}

/// What it used, from second to second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) samples: Vec<Sample>,
    #[serde(skip)]
    last: Option<(f64, f64)>,
}

/// One look at a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) second: f64,
    pub(crate) memory_bytes: u64,
    /// Cores since the last look.
    pub(crate) cores: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) descriptors: Option<u64>,
    #[serde(default)]
    pub(crate) threads: u64,
    /// Tasks of all its runtimes, by its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tasks: Option<u64>,
}

/// A part of a run with overload, at a rate of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) kind: StageKind,
    pub(crate) from: u32,
    pub(crate) until: u32,
    /// Calls that were to be due.
    pub(crate) per_second: f64,
}

/// What a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageKind {
    /// Of the search for the peak.
    Step,
    /// From the search to the hold.
    Settling,
    /// So many times the peak.
    Excess { multiple: f64 },
    /// Behind that.
    Rest { multiple: f64 },
}

impl Stage {
    pub(crate) fn seconds(&self) -> Range<u32> {
        self.from..self.until
    }

    /// As phases of reports are called.
    pub(crate) fn name(&self) -> String {
        match self.kind {
            StageKind::Step => "search".to_owned(),
            StageKind::Settling => "settling".to_owned(),
            StageKind::Excess { multiple } => format!("{multiple}x"),
            StageKind::Rest { multiple } => format!("after {multiple}x"),
        }
    }
}

/// What a node was held to, and what it came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) node: String,
    pub(crate) cpu_max: Option<f64>,
    pub(crate) memory_max: Option<u64>,
    /// Most memory at a time as the kernel counts it for the limit: its own and file pages included.
    pub(crate) memory_peak_bytes: Option<u64>,
    /// Processes that were killed because there was no more.
    pub(crate) oom_kills: u64,
    /// Share of the time that it had used up its CPU.
    pub(crate) throttled: f64,
}

/// How the nodes ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    /// Where they were held to something.
    pub(crate) held: Vec<Held>,
    /// Those that had ended before they were asked to.
    pub(crate) died: Vec<Death>,
}

/// A node that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Death {
    pub(crate) node: String,
    /// When it was seen, in milliseconds since 1970.
    pub(crate) at_unix_ms: u64,
    /// `killed by SIGKILL (9), for want of memory`, `exit code 70`.
    pub(crate) how: String,
    /// Its control group says that it was killed because there was no more memory.
    pub(crate) is_oom: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When it began.
    pub(crate) second: f64,
    /// When it was done: a node that joins takes its time.
    pub(crate) until: f64,
    pub(crate) text: String,
    /// What it was, if it was a fault of the scenario.
    pub(crate) fault: Option<FaultKind>,
}

/// All workers together at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Open streams: legacy, modern, WebSocket.
    pub(crate) streams: [u64; 3],
    pub(crate) attempted: u64,
    pub(crate) sessions: u64,
    pub(crate) in_flight: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) tally: Tally,
    /// Why sessions did not open.
    pub(crate) refusals: Refusals,
    pub(crate) events: Vec<Event>,
    pub(crate) processes: Vec<ProcessUsage>,
    /// Streams and such, by second.
    pub(crate) states: BTreeMap<u32, State>,
    /// Share of all cores that was busy, by second.
    pub(crate) busy: BTreeMap<u32, f64>,
    pub(crate) examples: Vec<String>,
    /// Of a run with overload: its stages, and the most calls per second that were answered well in one of its steps.
    pub(crate) stages: Vec<Stage>,
    pub(crate) peak: Option<f64>,
    gauges: BTreeMap<usize, Gauges>,
    machine: Option<MachineTime>,
    samples: u32,
    tasks: Tasks,
}

/// Examples that are kept of each kind.
const EXAMPLES_EACH: usize = 5;

impl Timeline {
    /// Takes the newest gauges of a worker.
    pub(crate) fn gauge(&mut self, worker: usize, name: &str, gauges: Gauges) {
        let cpu = Duration::from_micros(gauges.cpu_us);
        let Gauges { second, memory_bytes, .. } = gauges;
        // A worker is one thread.
        self.process(name, Part::Worker).look(cpu, Sample { second, memory_bytes, threads: 1, ..Sample::default() });
        self.gauges.insert(worker, gauges);
    }

    /// All workers as they were last heard of.
    pub(crate) fn state(&self) -> State {
        let mut state = State::default();
        for gauges in self.gauges.values() {
            for (sum, streams) in state.streams.iter_mut().zip(&gauges.streams) {
                *sum += streams;
            }
            state.attempted += gauges.attempted;
            state.sessions += gauges.sessions;
            state.in_flight += gauges.calls_in_flight;
        }
        state
    }

    /// Keeps an example, unless there are enough of its kind.
    pub(crate) fn example(&mut self, second: u32, text: &str) {
        let kind = text.split_once(':').map_or(text, |(kind, _)| kind);
        if self.examples.iter().filter(|known| known.contains(kind)).count() < EXAMPLES_EACH {
            self.examples.push(format!("second {second}: {text}"));
        }
    }

    /// Looks at all processes and the machine.
    pub(crate) fn sample(&mut self, now: f64, watched: &[Watched]) {
        let second = now as u32;
        self.states.insert(second, self.state());
        let machine = MachineTime::now().ok();
        if let (Some(now), Some(then)) = (machine, self.machine) {
            self.busy.insert(second, now.since(then).busy_share());
        }
        self.machine = machine;
        while let Some((name, tasks)) = self.tasks.told() {
            // Of the sample before, with which it was asked.
            if let Some(sample) = self.process(&name, Part::Node).samples.last_mut() {
                sample.tasks = Some(tasks);
            }
        }
        let is_counted = self.samples.is_multiple_of(COUNTED_EVERY);
        self.samples += 1;
        for one in watched {
            // What is gone is not looked at.
            let Some((cpu, sample)) = look(now, one.pid, is_counted) else { continue };
            self.process(&one.name, one.part).look(cpu, sample);
        }
        if is_counted {
            self.tasks.ask(watched);
        }
    }

    fn process(&mut self, name: &str, part: Part) -> &mut ProcessUsage {
        let known = self.processes.iter().position(|one| one.name == name && one.part == part);
        let index = known.unwrap_or_else(|| {
            self.processes.push(ProcessUsage { name: name.to_owned(), part, samples: Vec::new(), last: None });
            self.processes.len() - 1
        });
        &mut self.processes[index]
    }
}

impl ProcessUsage {
    #[cfg(test)]
    pub(crate) fn made_of(name: &str, part: Part, samples: Vec<Sample>) -> ProcessUsage {
        ProcessUsage { name: name.to_owned(), part, samples, last: None }
    }

    /// Takes a sample, and what CPU was used until then.
    fn look(&mut self, cpu: Duration, sample: Sample) {
        let (now, cpu) = (sample.second, cpu.as_secs_f64());
        let cores = match self.last.replace((now, cpu)) {
            Some((then, before)) if now > then => (cpu - before) / (now - then),
            _ => 0.0,
        };
        self.samples.push(Sample { cores, ..sample });
    }
}

fn look(second: f64, pid: i32, is_counted: bool) -> Option<(Duration, Sample)> {
    let cpu = CpuTime::of(&[pid]).ok()?.clock;
    let (memory_bytes, threads) = (resident_bytes(pid).ok()?, threads(pid).ok()?);
    let descriptors = if is_counted { descriptors(pid).ok() } else { None };
    Some((cpu, Sample { second, memory_bytes, descriptors, threads, ..Sample::default() }))
}
