//! Faults of a local run: kills, stops and adds nodes, one after the other.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::sync::mpsc;

use super::cluster::Cluster;
use crate::conductor::{FAULTS_MAX, Hands, Told};
use crate::run::command;
use crate::scenario::{Fault, FaultKind};

/// Returns how they are asked for, and the task that does them; it gives the nodes back when nobody asks any more.
pub(super) fn of(cluster: Cluster) -> (Hands, impl Future<Output = Cluster>) {
    let (faults, asked) = mpsc::channel(FAULTS_MAX);
    let (tells, told) = mpsc::channel(FAULTS_MAX);
    (Hands { faults, told }, work(cluster, asked, tells))
}

async fn work(mut cluster: Cluster, mut asked: mpsc::Receiver<Fault>, tells: mpsc::Sender<Told>) -> Cluster {
    while let Some(fault) = asked.recv().await {
        let began = Instant::now();
        let mut told = Told { fault, began, text: String::new(), targets: None, watched: None };
        if let Err(error) = perform(&mut cluster, &mut told).await {
            told.text = format!("{:?} failed: {error:#}", told.fault.kind);
        }
        if tells.send(told).await.is_err() {
            break;
        }
    }
    cluster
}

async fn perform(cluster: &mut Cluster, told: &mut Told) -> Result<()> {
    match told.fault.kind {
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
        FaultKind::Command => told.text = command(&told.fault).await?,
    }
    Ok(())
}
