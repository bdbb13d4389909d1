//! What happened in one run or many: counts for the summary.

use std::collections::BTreeMap;

use crate::call::Outcome;

/// Counts of one run, or of many added up.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Seeds run.
    pub seeds: u64,
    /// Events handled.
    pub steps: u64,
    /// Virtual time, in microseconds.
    pub time_us: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Packets that the network lost.
    pub packets_lost: u64,
    /// Frames lost with their connections.
    pub frames_lost: u64,
    /// Answers that edges dropped because their term was over.
    pub dropped: u64,
    /// Links that broke.
    pub links_broken: u64,
    /// Times a process was suspended in the middle of a guard.
    pub guard_pauses: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Commands applied, once per entry.
    pub commands: u64,
    /// Runs that wanted a fault at a step of a move or at a guard, and those in which it happened.
    pub aimed: [u64; 2],
    /// Planned moves begun, done, and aborted.
    pub moves: [u64; 3],
    /// Slots taken by a copy, and with a gap.
    pub takes: [u64; 2],
    /// Calls of clients.
    pub calls: u64,
    /// Calls by outcome: result, unknown, not executed, deadline, broken.
    pub outcomes: [u64; 5],
    /// Calls that upstreams ran.
    pub executions: u64,
    /// Events that clients got.
    pub events: u64,
    /// Streams that clients resumed.
    pub resumed: u64,
    /// Reads and writes of the registry's clients.
    pub registry: u64,
}

impl Stats {
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    pub(crate) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Stats) {
        let pairs = [
            (&mut self.seeds, other.seeds),
            (&mut self.steps, other.steps),
            (&mut self.time_us, other.time_us),
            (&mut self.packets_lost, other.packets_lost),
            (&mut self.frames_lost, other.frames_lost),
            (&mut self.links_broken, other.links_broken),
            (&mut self.dropped, other.dropped),
            (&mut self.guard_pauses, other.guard_pauses),
            (&mut self.elections, other.elections),
            (&mut self.commands, other.commands),
            (&mut self.calls, other.calls),
            (&mut self.executions, other.executions),
            (&mut self.events, other.events),
            (&mut self.resumed, other.resumed),
            (&mut self.registry, other.registry),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        add_each(&mut self.aimed, &other.aimed);
        add_each(&mut self.moves, &other.moves);
        add_each(&mut self.takes, &other.takes);
        add_each(&mut self.outcomes, &other.outcomes);
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }

    /// The counts as lines of a summary.
    pub fn lines(&self) -> Vec<String> {
        let faults: Vec<_> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let [result, unknown, refused, deadline, broken] = self.outcomes;
        vec![
            format!(
                "{} seeds, {} steps, {:.0} s of virtual time",
                self.seeds,
                self.steps,
                self.time_us as f64 / 1_000_000.0
            ),
            format!("faults aimed at steps of moves and at guards: {}, happened: {}", self.aimed[0], self.aimed[1]),
            format!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") }),
            format!(
                "network: {} packets lost, {} links broken, {} frames lost; {} pauses at a guard, {} answers of old terms dropped",
                self.packets_lost, self.links_broken, self.frames_lost, self.guard_pauses, self.dropped
            ),
            format!(
                "registry: {} elections, {} commands, {} reads and writes checked",
                self.elections, self.commands, self.registry
            ),
            format!(
                "moves: {} begun, {} done, {} aborted; slots taken: {} by the second, {} with a gap",
                self.moves[0], self.moves[1], self.moves[2], self.takes[0], self.takes[1]
            ),
            format!(
                "calls: {} ({result} results, {unknown} outcome unknown, {refused} not executed, {deadline} deadlines, \
                 {broken} broken), {} executions, {} events, {} streams resumed",
                self.calls, self.executions, self.events, self.resumed
            ),
        ]
    }
}

fn add_each(sums: &mut [u64], more: &[u64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}
