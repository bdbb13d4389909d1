//! The report of a run: one JSON file with everything, and one page made of it.

mod build;
mod fanout;
mod html;
mod overload;
mod sections;
mod svg;
mod trend;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::refusal::NotOpen;
use crate::scenario::Scenario;
use crate::tally::Cell;
use crate::timeline::{Death, Event, Held, ProcessUsage};

pub(crate) use build::build;

/// Raised when a file of an earlier version cannot be read any more.
const FORMAT: u32 = 2;

/// What a run says about the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Everything is within its limit.
    Good,
    /// Something of the gateway is not.
    NotGood,
    /// Nothing: the generator, or the host that it shares with the gateway, had no more to give.
    GeneratorLimited,
}

/// Whose limit a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    Gateway,
    Generator,
}

/// One limit, and what was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) limit: String,
    pub(crate) measured: String,
    pub(crate) side: Side,
    pub(crate) is_met: bool,
}

/// A part of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// Seconds that belong to it.
    pub(crate) seconds: u32,
    pub(crate) operations: BTreeMap<String, Summary>,
}

/// One operation in one phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) offered: u64,
    /// Those that occurred.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// From when it was due, of what ended well.
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// One second of all workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) second: u32,
    /// Open streams: legacy, modern, WebSocket.
    pub(crate) streams: [u64; 3],
    /// Calls that were due, and what became of them.
    pub(crate) offered: u64,
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Error, lost, wrong, silent.
    pub(crate) failed: u64,
    pub(crate) unsent: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) late_p99_ms: f64,
    /// Streams that broke.
    pub(crate) broke: u64,
    pub(crate) delivered: u64,
    /// Sessions that were to open in this second: those that did, those that were refused (503, 429), the others.
    #[serde(default)]
    pub(crate) opened: u64,
    #[serde(default)]
    pub(crate) not_let_in: u64,
    #[serde(default)]
    pub(crate) not_opened: u64,
    /// Share of all cores of the coordinator's host.
    pub(crate) busy: f64,
}

/// Where it ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

/// What became of the ramp.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) asked: u64,
    /// Sessions that opened in the ramp.
    pub(crate) opened: u64,
    /// Why the others did not, the most frequent first.
    pub(crate) not_open: Vec<NotOpen>,
}

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    format: u32,
    pub(crate) version: String,
    /// Of the working directory, when that is a checkout.
    pub(crate) commit: Option<String>,
    pub(crate) begun_unix_ms: u64,
    pub(crate) host: HostFacts,
    pub(crate) scenario: Scenario,
    pub(crate) workers: Vec<String>,
    pub(crate) verdict: Verdict,
    /// What speaks for itself when the run is not good, whatever else the limits say.
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
    pub(crate) checks: Vec<Check>,
    /// Absent in files of earlier versions.
    #[serde(default)]
    pub(crate) connected: Option<Connected>,
    /// Nodes that ended by themselves.
    #[serde(default)]
    pub(crate) died: Vec<Death>,
    /// Most streams that were open at a time, and fewest in the steady state.
    pub(crate) streams_most: u64,
    pub(crate) streams_fewest: u64,
    /// What the nodes' memory grew by from before the first session to the steady state, per stream.
    pub(crate) bytes_per_stream: Option<f64>,
    /// Seconds at which the hold began and ended.
    pub(crate) hold: (u32, u32),
    /// What became of calls beyond the peak, if there were any.
    pub(crate) overload: Option<overload::Overloaded>,
    /// What announcements took, if there were any.
    pub(crate) fanout: Option<fanout::FanOut>,
    /// What grew in the hold, by node.
    pub(crate) trends: Vec<trend::Trend>,
    /// What nodes were held to.
    pub(crate) held: Vec<Held>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) events: Vec<Event>,
    pub(crate) seconds: Vec<Second>,
    pub(crate) processes: Vec<ProcessUsage>,
    pub(crate) examples: Vec<String>,
}

impl Summary {
    fn of(cell: &Cell) -> Summary {
        let outcomes = Outcome::ALL.into_iter().filter(|outcome| cell.of(*outcome) > 0);
        Summary {
            offered: cell.offered,
            outcomes: outcomes.map(|outcome| (outcome.name().to_owned(), cell.of(outcome))).collect(),
            p50_ms: cell.ms(0.5),
            p90_ms: cell.ms(0.9),
            p99_ms: cell.ms(0.99),
            p999_ms: cell.ms(0.999),
            max_ms: cell.max_ms(),
        }
    }

    /// `5 ok, 2 refused`.
    fn ended(&self) -> String {
        let each: Vec<String> = self.outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect();
        each.join(", ")
    }
}

impl Report {
    /// Writes both files and prints what matters most.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (json, page) = (folder.join("report.json"), folder.join("report.html"));
        fs::write(&json, serde_json::to_string(self)?).with_context(|| format!("cannot write {}", json.display()))?;
        fs::write(&page, html::page(self)).with_context(|| format!("cannot write {}", page.display()))?;
        println!("{}", self.text());
        println!("{}\n{}", json.display(), page.display());
        Ok(())
    }

    /// The verdict, the checks, and a line for each operation of each phase.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        for phase in &self.phases {
            for (name, sum) in &phase.operations {
                lines.push(format!(
                    "{:<24} {name:<10} {:>8} due: {}; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                    phase.name,
                    sum.offered,
                    sum.ended(),
                    sum.p50_ms,
                    sum.p99_ms,
                    sum.max_ms
                ));
            }
        }
        lines.extend(sections::lines(self));
        lines.extend(self.examples.iter().take(10).map(|example| format!("e.g. {example}")));
        for Check { what, limit, measured, is_met, .. } in &self.checks {
            let met = if *is_met { "ok     " } else { "NOT MET" };
            lines.push(format!("{met} {what}: {measured} (limit: {limit})"));
        }
        if let Some(bytes) = self.bytes_per_stream {
            let most = self.streams_most;
            lines.push(format!("{most} streams at most; the nodes' memory grew by {:.1} KB per stream", bytes / 1e3));
        }
        lines.push(format!("verdict: {}", self.verdict_text()));
        lines.join("\n")
    }

    /// In words, with what speaks for itself.
    fn verdict_text(&self) -> String {
        match self.verdict {
            Verdict::NotGood if !self.reasons.is_empty() => format!("not good: {}", self.reasons.join("; ")),
            other => other.text().to_owned(),
        }
    }
}

impl Connected {
    /// `710 of 3000 connected, refused with 503 (memory)`; nothing where all are.
    pub(crate) fn missing(&self) -> Option<String> {
        let Connected { asked, opened, not_open } = self;
        if opened >= asked {
            return None;
        }
        let whys = not_open.iter().filter(|one| one.given_up > 0).map(|one| match one.is_refusal() {
            true => format!("refused with {}", one.why),
            false => one.why.clone(),
        });
        Some([format!("{opened} of {asked} connected")].into_iter().chain(whys).collect::<Vec<_>>().join(", "))
    }
}

impl Verdict {
    /// In words.
    fn text(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::NotGood => "not good: the gateway is above a limit",
            Verdict::GeneratorLimited => "says nothing: the generator, or the host it shares, was the bottleneck",
        }
    }
}

/// Writes the page of a report that was written before.
pub(crate) fn render_again(file: &Path, out: Option<&Path>) -> Result<Verdict> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Report = serde_json::from_str(&text).with_context(|| format!("{} is no report", file.display()))?;
    anyhow::ensure!(report.format == FORMAT, "{} is of format {}", file.display(), report.format);
    let out = out.map_or_else(|| file.with_extension("html"), Path::to_owned);
    fs::write(&out, html::page(&report)).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}\n{}", report.text(), out.display());
    Ok(report.verdict)
}
