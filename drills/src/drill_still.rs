//! Acceptance 4: the disks of all nodes stand still for a while. Only writes wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::Cli;
use crate::client::Session;
use crate::disk::Disk;
use crate::drill_partition::judge;
use crate::drill_sessions::three;
use crate::load::Load;
use crate::pauses::Pauses;
use crate::report::{Found, Times, short};
use crate::stage::{Folder, Stage};
use crate::steady::Steady;
use crate::tally::Tally;
use crate::writes;

/// How long the disks stand still.
const STILL: Duration = Duration::from_secs(3);
/// Nothing but writes waits longer than usual by more than this: a lease that is lost costs more.
const UNDISTURBED: Duration = Duration::from_millis(500);
/// Writes wait for the disks, and no longer than this beyond.
const WRITES_BEYOND: Duration = Duration::from_secs(2);
/// Sessions that are asked all the time, and short calls per second.
const ASKED: usize = 50;
const CALLS_PER_SECOND: usize = 100;

pub(crate) async fn run(cli: &Cli, name: &str) -> Result<Found> {
    let mut found = Found { rounds: cli.size.rounds(), ..Found::new(name) };
    let folder = Folder::new(cli, "disks")?;
    let disk = match Disk::new(folder.path()) {
        Ok(disk) => disk,
        Err(why) => return Ok(Found::skipped(name, &format!("{why:#}"))),
    };
    let mut nodes = three();
    for node in &mut nodes {
        node.data = Some(disk.path().join(&node.name));
    }
    let mut stage = Stage::prepare(cli, name, nodes, json!({})).await?;
    stage.cluster.start_all(|_, _| {}).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    let tally = Tally::default();
    let (ledger, calls) = (stage.witness.ledger().clone(), stage.size.calls());
    let load = Load::start_with(&stage.clients, &sessions, &ledger, calls, tally.clone());
    let (mut usual, mut still) = (Waits::default(), Waits::default());
    for number in 1..=found.rounds {
        stage.settle(&sessions).await?;
        stage.busy(&load).await?;
        usual.add(watch(&stage, &sessions, &tally, None).await?);
        let written = watch(&stage, &sessions, &tally, Some(&disk)).await;
        still.add(written.with_context(|| format!("round {number}"))?);
    }
    found.counts = load.end().await.settle(&ledger);
    let (lost, _) = stage.sweep(&sessions).await;
    found.lost = lost;
    judge_waits(&mut found, &usual, still);
    let failed = found.counts.calls - found.counts.results;
    found.limit(failed == 0, || format!("{failed} calls failed"));
    judge(&mut found, stage.witness.effects());
    stage.cluster.end().await?;
    Ok(found)
}

/// The longest waits.
#[derive(Default)]
struct Waits {
    sessions: Times,
    calls: Times,
    writes: Times,
}

impl Waits {
    fn add(&mut self, more: Waits) {
        self.sessions.merge(&more.sessions);
        self.calls.merge(&more.calls);
        self.writes.merge(&more.writes);
    }
}

/// How long sessions, calls and writes wait, while the disks stand still or as usual.
async fn watch(stage: &Stage, sessions: &Arc<Vec<Session>>, tally: &Tally, disk: Option<&Disk>) -> Result<Waits> {
    let pauses = Pauses::start(&stage.clients, sessions, ASKED);
    let steady = Steady::start(&stage.clients, sessions, (tally, stage.witness.ledger()), CALLS_PER_SECOND);
    let mut waits = Waits::default();
    if let Some(disk) = disk {
        let still = disk.freeze().await?;
        let written = tokio::spawn(writes::until_taken(stage.clients.clone(), Instant::now()));
        tokio::time::sleep(STILL).await;
        drop(still);
        waits.writes.add(written.await?);
    } else {
        tokio::time::sleep(STILL).await;
    }
    (waits.sessions, waits.calls) = (pauses.end().await, steady.end().await.times);
    Ok(waits)
}

fn judge_waits(found: &mut Found, usual: &Waits, still: Waits) {
    for (what, before, now) in [("sessions", &usual.sessions, &still.sessions), ("calls", &usual.calls, &still.calls)] {
        let (before, longest) = (before.max(), now.max());
        let (usual, still) = (short(before), short(longest));
        found.notes.push(format!("longest wait of {what}: {still} while disks stood still, {usual} as long before"));
        found.limit(longest <= before + UNDISTURBED, || format!("{what} waited {still} for disks, usually {usual}"));
    }
    let (shortest, longest) = (still.writes.min(), still.writes.max());
    found.notes.push(format!("writes waited {} to {}", short(shortest), short(longest)));
    // Else it was not the registry's disk that stood still.
    found.limit(shortest >= STILL / 2, || format!("writes went on after {shortest:?}"));
    found.limit(longest <= STILL + WRITES_BEYOND, || format!("writes waited {longest:?}"));
    (found.recover, found.writes) = (still.sessions, still.writes);
}
