//! Acceptance 5: 3 → 5 → 3 nodes and a rolling restart, under load: no call fails, no session is lost.
//!
//! The least number of moves: a node that joins as the n-th gets 4,096 / n slots; one that leaves gives away what it has;
//! one that restarts does both. Moved is what the nodes log; copies at seconds do not count.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::Cli;
use crate::client::Outcome;
use crate::cluster::{Cluster, Node, Roles};
use crate::creations::Creations;
use crate::drill_sessions::three;
use crate::held::Held;
use crate::load::Load;
use crate::moves::{SLOTS, Slots};
use crate::pauses::Pauses;
use crate::report::{Found, Times, short};
use crate::stage::Stage;
use crate::steady::Steady;
use crate::tally::Tally;

/// More slots than must may move by this.
const MOVED_MORE: f64 = 1.1;
/// How long slots may take to be where they should after a change.
const BALANCED_WITHIN: Duration = Duration::from_secs(30);
/// Nothing moved for this long: it is over.
const QUIET: Duration = Duration::from_secs(1);
/// A second signal comes so long after the first, and ends a node within this.
const HANDING_OVER: Duration = Duration::from_millis(300);
const AT_ONCE: Duration = Duration::from_millis(500);
/// Sessions that are asked all the time, and those whose streams are held open.
const PAUSES_MAX: usize = 50;
const HELD: usize = 20;

pub(crate) async fn run(cli: &Cli) -> Result<Found> {
    let mut found = Found { rounds: 1, ..Found::new("scale") };
    if cli.alone {
        return Ok(Found::skipped("scale", "one node alone cannot be scaled"));
    }
    let mut stage = Stage::start(cli, "scale", three()).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    stage.settle(&sessions).await?;
    let health = stage.cluster.web.watch_health();
    let (clients, tally, ledger) = (stage.clients.clone(), Tally::default(), stage.witness.ledger().clone());
    let counts = (&tally, &ledger);
    let load = Load::start_with(&clients, &sessions, &ledger, stage.size.calls(), tally.clone());
    let steady = Steady::start(&clients, &sessions, counts, stage.size.rate());
    let creations = Creations::start(&clients, &tally, &ledger);
    let pauses = Pauses::start(&clients, &sessions, stage.size.probes().min(PAUSES_MAX));
    let held = Held::start(&clients, &sessions, &tally, HELD);
    stage.busy(&load).await?;

    let mut phases = Phases { table: HEADS.map(str::to_owned).map(|head| vec![head]), tally: tally.clone(), held };
    phases.all(&mut stage, &mut found).await?;

    let (created, creation) = creations.end().await;
    let (pauses, steady) = (pauses.end().await, steady.end().await);
    found.counts = load.end().await.settle(&ledger);
    let (lost, others) = stage.sweep(&sessions).await;
    let (lost_new, others_new) = stage.sweep(&created).await;
    health.abort();
    found.lost = lost + lost_new;
    found.notes.extend(phases.lines());
    let of = |times: &Times| times.shown();
    found.notes.push(format!("longest wait of each of {} sessions, p50 / p99 / max: {}", pauses.count(), of(&pauses)));
    found.notes.push(format!("{:.0} short calls per second, p50 / p99 / max: {}", steady.rate, of(&steady.times)));
    found.notes.push(format!("{} sessions created meanwhile, p50 / p99 / max: {}", created.len(), of(&creation)));
    let (count, reopened) = (phases.held.count(), phases.held.reopened());
    found.notes.push(format!("{count} streams held open (GET, subscriptions/listen), opened again {reopened} times"));
    let counts = &found.counts;
    let failed = counts.calls - counts.results + (others.len() + others_new.len()) as u64;
    let calls = counts.calls;
    found.limit(failed == 0, || format!("{failed} of {calls} requests failed"));
    found.limit(steady.skipped == 0, || format!("{} calls were not begun: too many had no answer", steady.skipped));
    found.always();
    let took = stage.cluster.stop_at_once(2, HANDING_OVER).await.context("a second signal")?;
    found.notes.push(format!("a second SIGTERM while a node hands over: ended after {}", short(took)));
    found.limit(took < AT_ONCE, || format!("a second SIGTERM took {took:?}"));
    stage.cluster.end().await?;
    Ok(found)
}

const HEADS: [&str; 9] =
    ["phase", "moved", "least", "ratio", "pause of a slot p50 / p99 / max", "requests", "failed", "unheard", "took"];

/// The changes, one after the other, and what each of them cost.
struct Phases {
    /// Column by column.
    table: [Vec<String>; 9],
    tally: Tally,
    held: Held,
}

/// A change that is under way.
struct Phase {
    name: String,
    begun: Instant,
    before: Slots,
    so_far: (u64, u64),
}

impl Phases {
    async fn all(&mut self, stage: &mut Stage, found: &mut Found) -> Result<()> {
        let every = self.begin("all", &stage.cluster);
        let mut least = 0;
        for number in [4, 5] {
            let phase = self.begin(&format!("node-{number} joins"), &stage.cluster);
            let node = Node::new(&format!("node-{number}"), Roles::All);
            stage.cluster.add(node).await.with_context(|| format!("node {number} joins"))?;
            least += self.end(phase, stage, found, SLOTS / number).await;
        }
        for index in [4, 3] {
            let phase = self.begin(&format!("node-{} leaves", index + 1), &stage.cluster);
            let owned = phase.before.owned[index];
            stage.cluster.stop(index).await.with_context(|| phase.name.clone())?;
            least += self.end(phase, stage, found, owned).await;
        }
        for index in 0..3 {
            let phase = self.begin(&format!("node-{} restarts", index + 1), &stage.cluster);
            let owned = phase.before.owned[index];
            let stopped = stage.cluster.stop(index).await.with_context(|| phase.name.clone())?;
            let started = stage.cluster.start_nodes(&[index]).await.with_context(|| phase.name.clone())?;
            let (first, answered) = stage.first_call(index).await?;
            found.limit(first == Outcome::Result, || format!("{}: its first call: {first:?}", phase.name));
            let (stopped, started, answered) = (short(stopped), short(started), short(answered));
            let name = &phase.name;
            found.notes.push(format!("{name}: stopped in {stopped}, ready {started} later, first call {answered}"));
            least += self.end(phase, stage, found, owned + SLOTS / 3).await;
        }
        self.row(&every, &stage.cluster.slots(), least, Instant::now(), 0);
        Ok(())
    }

    fn begin(&self, name: &str, cluster: &Cluster) -> Phase {
        Phase { name: name.to_owned(), begun: Instant::now(), before: cluster.slots(), so_far: self.tally.so_far() }
    }

    /// Waits until all slots are where they should be, and holds what moved against the least; returns that.
    async fn end(&mut self, phase: Phase, stage: &Stage, found: &mut Found, least: u64) -> u64 {
        let (nodes, waiting) = (stage.cluster.running(), Instant::now());
        let (mut slots, mut since) = (stage.cluster.slots(), Instant::now());
        while !slots.balanced(&nodes, SLOTS) || since.elapsed() < QUIET {
            if waiting.elapsed() > BALANCED_WITHIN {
                let (name, owned) = (&phase.name, &slots.owned);
                found.failed.push(format!("{name}: not balanced within {BALANCED_WITHIN:?}: {owned:?}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = stage.cluster.slots();
            if now.gained != slots.gained {
                since = Instant::now();
            }
            slots = now;
        }
        let (count, took) = (slots.gained - phase.before.gained, since.duration_since(phase.begun));
        let unheard = self.held.announce(&stage.witness).await;
        self.row(&phase, &slots, least, since, unheard);
        found.recover.add(took);
        let most = (least as f64 * MOVED_MORE).ceil() as u64;
        found.limit(count <= most, || format!("{}: {count} slots moved instead of {least}", phase.name));
        found.limit(unheard == 0, || format!("{}: {unheard} streams did not hear an announcement", phase.name));
        least
    }

    fn row(&mut self, phase: &Phase, slots: &Slots, least: u64, until: Instant, unheard: usize) {
        let (requests, failed) = self.tally.so_far();
        let count = slots.gained - phase.before.gained;
        let cells = [
            phase.name.clone(),
            count.to_string(),
            least.to_string(),
            format!("{:.3}", count as f64 / least.max(1) as f64),
            slots.pauses_since(&phase.before).shown(),
            (requests - phase.so_far.0).to_string(),
            (failed - phase.so_far.1).to_string(),
            unheard.to_string(),
            short(until.duration_since(phase.begun)),
        ];
        self.table.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        eprintln!("{}", self.lines().last().map_or("", String::as_str));
    }

    fn lines(&self) -> Vec<String> {
        let widths = self.table.each_ref().map(|column| column.iter().map(|cell| cell.chars().count()).max());
        let rows = 0..self.table[0].len();
        let row = |row: usize| {
            let mut line = String::new();
            for (column, width) in self.table.iter().zip(widths) {
                // Writing to a string does not fail.
                let _ = write!(line, "{:<width$}  ", column[row], width = width.unwrap_or(0));
            }
            line.trim_end().to_owned()
        };
        rows.map(row).collect()
    }
}
