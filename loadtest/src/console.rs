//! What is shown while a run goes on: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::outcome::Outcome;
use crate::tally::Operation;
use crate::timeline::Timeline;

const LINE_EVERY: Duration = Duration::from_secs(5);
/// The newest seconds are not complete yet: workers say once a second what they counted.
const SECONDS_BEHIND: u32 = 2;

pub(crate) struct Console {
    bar: ProgressBar,
    is_terminal: bool,
    last_line: Option<Instant>,
}

impl Console {
    pub(crate) fn new(connections: u64) -> Console {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(connections) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Console { bar, is_terminal, last_line: None }
    }

    /// Shows where the run is.
    pub(crate) fn show(&mut self, phase: &str, now: f64, timeline: &Timeline) {
        let state = timeline.state();
        let streams: u64 = state.streams.iter().sum();
        let second = (now as u32).saturating_sub(SECONDS_BEHIND);
        let calls = timeline.tally.get(second, Operation::Call);
        let text = calls.map_or_else(String::new, |cell| {
            let failed = cell.ended() - cell.of(Outcome::Ok);
            let unsent = cell.of(Outcome::Unsent);
            let (p50, p99) = (cell.ms(0.5), cell.ms(0.99));
            format!(", {} calls/s, p50 {p50:.1} ms, p99 {p99:.1} ms, {failed} not ok, {unsent} unsent", cell.offered)
        });
        self.bar.set_position(streams);
        self.bar.set_message(format!("{phase}{text}"));
        if !self.is_terminal && self.last_line.is_none_or(|then| then.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            eprintln!("{now:6.0} s  {phase}: {streams} streams{text}");
        }
    }

    /// Says something that stays.
    pub(crate) fn say(&self, text: &str) {
        if self.is_terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
