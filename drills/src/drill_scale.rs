//! Acceptance 5: 3 → 5 → 3 nodes and a rolling restart, under load: no call fails, no session is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::Cli;
use crate::cluster::{Cluster, Node, Roles};
use crate::drill_sessions::three;
use crate::load::Load;
use crate::pauses::Pauses;
use crate::report::{Found, short};
use crate::stage::Stage;

/// All slots of a cluster.
const SLOTS: u64 = 4096;
/// More slots than must may move by this.
const MOVED_MORE: f64 = 1.1;
/// How long slots may take to be where they should after a change.
const BALANCED_WITHIN: Duration = Duration::from_secs(30);
/// Nothing moved for this long: it is over.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) async fn run(cli: &Cli) -> Result<Found> {
    let mut found = Found { rounds: 1, ..Found::new("scale") };
    if cli.alone {
        return Ok(Found::skipped("scale", "one node alone cannot be scaled"));
    }
    let mut stage = Stage::start(cli, "scale", three()).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    stage.settle(&sessions).await?;
    let health = stage.cluster.web.watch_health();
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    let pauses = Pauses::start(&stage.clients, &sessions, stage.size.probes());
    stage.busy(&load).await?;
    steps(&mut stage.cluster, &mut found).await?;
    let pauses = pauses.end().await;
    found.counts = load.end().await.settle(stage.witness.ledger());
    let (lost, others) = stage.sweep(&sessions).await;
    health.abort();
    found.lost = lost;
    found.notes.push(format!(
        "longest wait of each of {} sessions, p50 / p99 / max: {}",
        pauses.count(),
        pauses.shown()
    ));
    let counts = &found.counts;
    let failed = counts.calls - counts.results + others.len() as u64;
    found.limit(failed == 0, || format!("{failed} calls failed"));
    found.always();
    stage.cluster.end().await?;
    Ok(found)
}

/// The changes, one after the other; each is waited for.
async fn steps(cluster: &mut Cluster, found: &mut Found) -> Result<()> {
    for number in [4, 5] {
        let begun = Instant::now();
        let before = cluster.gained();
        let node = Node::new(&format!("node-{number}"), Roles::All);
        cluster.add(node).await.with_context(|| format!("node {number} joins"))?;
        moved(cluster, found, &format!("node-{number} joins"), before, SLOTS / number, begun).await?;
    }
    for index in [4, 3] {
        let (begun, before, nodes) = (Instant::now(), cluster.gained(), index as u64 + 1);
        let name = cluster.nodes[index].name.clone();
        cluster.stop(index).await.with_context(|| format!("{name} leaves"))?;
        moved(cluster, found, &format!("{name} leaves"), before, SLOTS.div_ceil(nodes), begun).await?;
    }
    for index in 0..3 {
        let (begun, before) = (Instant::now(), cluster.gained());
        let name = cluster.nodes[index].name.clone();
        cluster.stop(index).await.with_context(|| format!("{name} stops"))?;
        cluster.start_nodes(&[index]).await.with_context(|| format!("{name} starts again"))?;
        // What it had goes away and comes back.
        moved(cluster, found, &format!("{name} restarts"), before, 2 * SLOTS.div_ceil(3), begun).await?;
    }
    Ok(())
}

/// Waits until no slot moves any more, and holds their number against the least.
async fn moved(
    cluster: &Cluster,
    found: &mut Found,
    what: &str,
    before: u64,
    least: u64,
    begun: Instant,
) -> Result<()> {
    let (mut last, mut since) = (cluster.gained(), Instant::now());
    // Before the least has moved it may only be slow to begin.
    while since.elapsed() < QUIET || (last - before < least * 9 / 10 && begun.elapsed() < BALANCED_WITHIN) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = cluster.gained();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    let count = last - before;
    let took = since.duration_since(begun);
    found.recover.add(took);
    found.notes.push(format!("{what}: {count} slots moved, {least} must; over after {}", short(took)));
    let most = (least as f64 * MOVED_MORE).ceil() as u64 + 1;
    found.limit(count <= most, || format!("{what}: {count} slots moved instead of {least}"));
    found.limit(count >= least * 9 / 10, || format!("{what}: only {count} of {least} slots moved"));
    Ok(())
}
