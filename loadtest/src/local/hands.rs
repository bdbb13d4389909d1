//! Faults of a local run: kills, stops and adds nodes, one after the other; and looks meanwhile whether a node has died.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::mpsc;
use tokio::time::interval;

use super::cluster::Cluster;
use crate::conductor::{FAULTS_MAX, Hands, Told};
use crate::run::command;
use crate::scenario::{Fault, FaultKind};

/// How late it may be seen that a node has died, while no fault is under way.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Returns how they are asked for, and the task that does them; it gives the nodes back when nobody asks any more.
pub(super) fn of(cluster: Cluster) -> (Hands, impl Future<Output = Cluster>) {
    let (faults, asked) = mpsc::channel(FAULTS_MAX);
    let (tells, told) = mpsc::channel(FAULTS_MAX);
    (Hands { faults, told }, work(cluster, asked, tells))
}

async fn work(mut cluster: Cluster, mut asked: mpsc::Receiver<Fault>, tells: mpsc::Sender<Told>) -> Cluster {
    let mut tick = interval(LOOK_EVERY);
    loop {
        let told = tokio::select! {
            fault = asked.recv() => match fault {
                Some(fault) => performed(&mut cluster, &fault).await,
                None => break,
            },
            _ = tick.tick() => match died(&mut cluster) {
                Some(told) => told,
                None => continue,
            },
        };
        if tells.send(told).await.is_err() {
            break;
        }
    }
    cluster
}

/// Clients connect to the others from then on.
fn died(cluster: &mut Cluster) -> Option<Told> {
    let dead = cluster.look();
    if dead.is_empty() {
        return None;
    }
    let text = dead.iter().map(|one| format!("{} died: {}", one.node, one.how)).collect::<Vec<_>>().join("; ");
    // Where no node is left they go on trying the last ones.
    let targets = Some(cluster.urls()).filter(|urls| !urls.is_empty());
    Some(Told { fault: None, began: Instant::now(), text, targets, watched: None })
}

async fn performed(cluster: &mut Cluster, fault: &Fault) -> Told {
    let (fault_kind, began) = (Some(fault.kind), Instant::now());
    let mut told = Told { fault: fault_kind, began, text: String::new(), targets: None, watched: None };
    if let Err(error) = perform(cluster, fault, &mut told).await {
        told.text = format!("{:?} failed: {error:#}", fault.kind);
    }
    told
}

async fn perform(cluster: &mut Cluster, fault: &Fault, told: &mut Told) -> Result<()> {
    match fault.kind {
        FaultKind::KillOwner => {
            let (name, process) = cluster.take()?;
            told.began = Instant::now();
            process.kill().await?;
            told.text = format!("owner {name} killed");
            told.targets = Some(cluster.urls());
        }
        FaultKind::StopNode => {
            let (name, process) = cluster.take()?;
            told.targets = Some(cluster.urls());
            let status = process.end().await?;
            ensure!(status.success(), "{name} ended with {status}");
            told.text = format!("{name} stopped in order");
        }
        FaultKind::AddNode => {
            let (name, watched) = cluster.add().await?;
            told.text = format!("{name} added");
            told.targets = Some(cluster.urls());
            told.watched = Some(watched);
        }
        FaultKind::Command => told.text = command(fault).await?,
    }
    Ok(())
}
