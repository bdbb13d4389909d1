//! Acceptance 4, and the case that leases are made for: an owner, or the registry's leader, stands still (SIGSTOP) for
//! longer than its lease, is given up, and goes on as if nothing had happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::seq::IndexedRandom;

use crate::cli::{Cli, Fault};
use crate::client::Session;
use crate::drill_partition::{GIVE_UP, SERVED_WITHIN, judge};
use crate::drill_sessions::three;
use crate::load::Load;
use crate::report::Found;
use crate::stage::{Stage, probe};
use crate::writes;

/// How long it stands still: more than a lease, and than what the others need to do without it.
const STILL: Duration = Duration::from_secs(5);

pub(crate) async fn run(cli: &Cli, fault: Fault, name: &str) -> Result<Found> {
    let mut found = Found { rounds: cli.size.rounds(), ..Found::new(name) };
    let mut stage = Stage::start(cli, name, three()).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    for number in 1..=found.rounds {
        stage.balanced(&sessions).await?;
        stage.busy(&load).await?;
        round(&mut stage, fault, &sessions, &mut found).await.with_context(|| format!("round {number}"))?;
    }
    found.counts = load.end().await.settle(stage.witness.ledger());
    let (lost, _) = stage.sweep(&sessions).await;
    found.lost += lost;
    let slowest = found.recover.max();
    found.limit(slowest <= SERVED_WITHIN, || format!("all served after {slowest:?}, not {SERVED_WITHIN:?}"));
    judge(&mut found, stage.witness.effects());
    let gone = found.counts.gone;
    found.limit(gone == 0, || format!("{gone} streams could not be resumed"));
    stage.cluster.end().await?;
    Ok(found)
}

async fn round(stage: &mut Stage, fault: Fault, sessions: &Arc<Vec<Session>>, found: &mut Found) -> Result<()> {
    let leader = stage.cluster.leader()?;
    let others: Vec<usize> = stage.cluster.running().into_iter().filter(|&node| node != leader).collect();
    let node = match fault {
        Fault::StoppedLeader => leader,
        _ => *others.choose(&mut rand::rng()).context("no other node")?,
    };
    // A balancer that looks takes it out; the clients that are connected to it wait.
    stage.cluster.web.balancer.set_out(node, true);
    stage.cluster.nodes[node].process()?.signal(Signal::SIGSTOP)?;
    let stopped = Instant::now();
    let asked = tokio::spawn(probe(&stage.clients, sessions, stage.size.probes(), stopped, GIVE_UP));
    let written = tokio::spawn(writes::until_taken(stage.clients.clone(), stopped));
    tokio::time::sleep_until((stopped + STILL).into()).await;
    stage.cluster.nodes[node].process()?.signal(Signal::SIGCONT)?;
    stage.cluster.web.balancer.set_out(node, false);
    let went_on = Instant::now();
    let again = probe(&stage.clients, sessions, stage.size.probes(), went_on, GIVE_UP).await;
    let probed = asked.await?;
    found.recover.merge(&probed.hit);
    found.detect.add(probed.hit.min());
    found.writes.add(written.await?);
    found.lost += probed.lost + again.lost;
    let never = probed.never + again.never;
    found.limit(never == 0, || format!("{never} sessions were not served within {GIVE_UP:?}"));
    let slowest = again.served.iter().max().copied().unwrap_or_default();
    found.limit(slowest <= SERVED_WITHIN, || format!("all served {slowest:?} after it went on, not {SERVED_WITHIN:?}"));
    Ok(())
}
