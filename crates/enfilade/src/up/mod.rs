//! `enfilade up`: a whole cluster on this machine, from one command.
//! The nodes are processes of this program; the demo upstreams run here, so that they outlive any node.

mod child;
mod plan;
mod supervise;

use crate::cli::{LogFormat, Up};
use crate::config::Config;
use crate::{Failure, announce, demo, identity, keys, load_with, serve};
use anyhow::Context;
use child::Program;
use enfilade_runtime::Signals;
use plan::Plan;
use std::path::PathBuf;
use std::time::Duration;
use supervise::{Failed, Nodes};
use tempfile::TempDir;

/// Without configuration it gets demo upstreams, and its state goes with it unless a place for it was given.
pub(crate) async fn run(up: Up, log: String, log_format: LogFormat) -> Result<(), Failure> {
    let signals = Signals::catch().context("cannot catch signals")?;
    let sources = up.sources;
    let is_demo = sources.config.is_none() && sources.mcp_json.is_none();
    let mut config = load_with(&sources, if is_demo { demo::upstreams() } else { Vec::new() })?;
    let mut temporary = None;
    if is_demo && sources.data_dir.is_none() {
        let dir = tempfile::Builder::new().prefix("enfilade-").tempdir().context("no temporary directory")?;
        config.data_dir = dir.path().to_owned();
        temporary = Some(dir);
    }
    let nodes = usize::from(up.nodes);
    let servers = if is_demo { Some(demo::Servers::start(&mut config.upstreams).await?) } else { None };
    let result = match nodes {
        1 => serve::until_stopped(config, signals, is_demo).await,
        _ => {
            let path = std::env::current_exe().context("this program's path is not known")?;
            cluster(config, nodes, Program { path, log, log_format }, signals, is_demo).await
        }
    };
    if let Some(servers) = servers {
        servers.stop().await;
    }
    close(temporary);
    result
}

/// Runs all nodes until a signal.
async fn cluster(
    config: Config,
    nodes: usize,
    program: Program,
    signals: Signals,
    is_demo: bool,
) -> Result<(), Failure> {
    let (dir, drain) = (config.data_dir.clone(), Duration::from_millis(config.drain_ms));
    let plan = Plan::new(config, nodes, &dir).map_err(Failure::Configuration)?;
    let _lock = prepare(dir, plan.keys()).await?;
    let mut nodes = Nodes::new(plan, program);
    let mut stop = std::pin::pin!(signals.first());
    let started = tokio::select! {
        started = nodes.start() => Some(started),
        () = &mut stop => None,
    };
    match started {
        Some(Ok(())) => {
            tell(&nodes, is_demo);
            tokio::select! {
                () = nodes.keep() => {}
                () = stop => {}
            }
        }
        Some(Err(failed)) => {
            nodes.stop(Duration::ZERO).await;
            return Err(match failed {
                Failed::Refused { name, code } => Failure::Ended(format!("{name} did not start"), code),
                Failed::Other(error) => error.into(),
            });
        }
        None => {}
    }
    match nodes.stop(drain).await.as_slice() {
        [] => Ok(()),
        late => Err(anyhow::anyhow!("did not stop in order: {}", late.join(", ")).into()),
    }
}

/// Takes the folder for all nodes, and makes their keys at the first start.
async fn prepare(dir: PathBuf, keys: PathBuf) -> anyhow::Result<std::fs::File> {
    let prepared = tokio::task::spawn_blocking(move || {
        let lock = identity::lock(&dir)?;
        keys::make_once(&keys)?;
        anyhow::Ok(lock)
    });
    prepared.await.context("preparing the data directory failed")?
}

fn tell(nodes: &Nodes, is_demo: bool) {
    nodes.urls().for_each(announce::ready);
    let firsts: Vec<&str> = nodes.urls().filter_map(|urls| urls.first()).map(String::as_str).collect();
    if let (true, [first, second, ..]) = (is_demo, firsts.as_slice()) {
        announce::try_it(first);
        announce::try_sessions(first, second);
    }
}

/// A folder that cannot be removed is left to whoever tidies up.
fn close(temporary: Option<TempDir>) {
    if let Some(Err(error)) = temporary.map(TempDir::close) {
        tracing::warn!(%error, "the temporary directory is left behind");
    }
}
