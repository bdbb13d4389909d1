//! What a drill found, and the one table of all drills.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::tally::Counts;

/// Times in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        // Three digits from 1 µs to 10 min never fail.
        Times(Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("the bounds are good")))
    }
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn merge(&mut self, other: &Times) {
        // Equal bounds always add.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    pub(crate) fn min(&self) -> Duration {
        if self.0.is_empty() { Duration::ZERO } else { Duration::from_micros(self.0.min()) }
    }

    /// p50, p99 and the largest.
    pub(crate) fn shown(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        format!("{} / {} / {}", short(self.at(0.5)), short(self.at(0.99)), short(self.max()))
    }
}

/// A time in the unit that suits it.
pub(crate) fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.2} ms", seconds * 1e3),
    }
}

/// What one drill found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) drill: String,
    pub(crate) rounds: u32,
    /// Until the first session that was hit is served again.
    pub(crate) detect: Times,
    /// Until each session that was hit is served again.
    pub(crate) recover: Times,
    /// The longest time that writes were refused.
    pub(crate) writes: Times,
    pub(crate) counts: Counts,
    /// Sessions that were not there afterwards.
    pub(crate) lost: u64,
    /// What is above the limits of the acceptance.
    pub(crate) failed: Vec<String>,
    /// Figures of this drill alone.
    pub(crate) notes: Vec<String>,
    pub(crate) skipped: Option<String>,
}

impl Found {
    pub(crate) fn new(drill: &str) -> Found {
        Found { drill: drill.to_owned(), ..Found::default() }
    }

    pub(crate) fn skipped(drill: &str, why: &str) -> Found {
        Found { skipped: Some(why.to_owned()), ..Found::new(drill) }
    }

    /// Holds a figure against its limit.
    pub(crate) fn limit(&mut self, good: bool, text: impl FnOnce() -> String) {
        if !good {
            self.failed.push(text());
        }
    }

    /// The limits that hold for every drill.
    pub(crate) fn always(&mut self) {
        let (lost, wrong) = (self.lost + self.counts.lost, self.counts.wrong);
        self.limit(lost == 0, || format!("{lost} lost"));
        self.limit(wrong == 0, || format!("{wrong} wrong"));
    }

    pub(crate) fn good(&self) -> bool {
        self.failed.is_empty()
    }

    fn cells(&self) -> [String; COLUMNS] {
        let verdict = match (&self.skipped, self.good()) {
            (Some(_), _) => "skipped",
            (None, true) => "ok",
            (None, false) => "NOT MET",
        };
        let counts = &self.counts;
        [
            self.drill.clone(),
            self.rounds.to_string(),
            if self.detect.count() == 0 { "-".to_owned() } else { short(self.detect.max()) },
            self.recover.shown(),
            if self.writes.count() == 0 { "-".to_owned() } else { short(self.writes.max()) },
            counts.calls.to_string(),
            (self.lost + counts.lost).to_string(),
            counts.wrong.to_string(),
            counts.unknown.to_string(),
            counts.broken.to_string(),
            counts.gone.to_string(),
            counts.refused.to_string(),
            (counts.errors + counts.not_sent).to_string(),
            verdict.to_owned(),
        ]
    }
}

const COLUMNS: usize = 14;

const HEADS: [&str; COLUMNS] = [
    "drill",
    "rounds",
    "detect",
    "recover p50 / p99 / max",
    "writes",
    "calls",
    "lost",
    "wrong",
    "unknown",
    "broken",
    "gone",
    "refused",
    "errors",
    "verdict",
];

/// The table, and below it what does not fit into it.
pub(crate) fn table(all: &[Found]) -> String {
    let rows: Vec<[String; COLUMNS]> =
        std::iter::once(HEADS.map(str::to_owned)).chain(all.iter().map(Found::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    for found in all {
        let said = found.skipped.iter().map(|why| format!("skipped: {why}"));
        let failed = found.failed.iter().map(|what| format!("above the limit: {what}"));
        let lines = said.chain(failed).chain(found.notes.iter().cloned());
        for line in lines.chain(found.counts.examples().map(|example| format!("e.g. {example}"))) {
            let _ = writeln!(text, "{}: {line}", found.drill);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_with_a_lost_session_is_not_good() {
        let mut found = Found { lost: 1, ..Found::new("kill owner") };
        found.recover.add(Duration::from_millis(2500));
        found.always();
        assert!(!found.good());
        let text = table(&[found, Found::skipped("partition", "not root")]);
        assert!(
            text.contains("NOT MET") && text.contains("above the limit: 1 lost") && text.contains("2.50 s"),
            "{text}"
        );
        assert!(text.contains("partition: skipped: not root"), "{text}");
    }
}
