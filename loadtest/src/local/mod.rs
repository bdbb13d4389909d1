//! A whole run on this machine: nodes, an upstream in a process of its own, workers, faults; all of them end with it.

mod cgroup;
mod cluster;
mod hands;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use enfilade_process::Process;
use tokio::process::Command;
use tokio::task::spawn_local;

use crate::cli::LocalOptions;
use crate::conductor::{self, Setup};
use crate::coordinator;
use crate::limits::{self, Host, Size};
use crate::local::cgroup::Bounds;
use crate::local::cluster::Cluster;
use crate::report::{self, Verdict};
use crate::run::Workers;
use crate::scenario::Scenario;
use crate::timeline::{Part, Watched};

const SCENARIO: &str = include_str!("../../scenarios/local.toml");

/// Carries it out.
pub(crate) async fn run(options: &LocalOptions) -> Result<Verdict> {
    let mut scenario = match &options.scenario {
        Some(file) => Scenario::load(file)?,
        None => Scenario::parse(SCENARIO)?,
    }
    .with(&options.common)?;
    if options.no_faults {
        scenario.faults.clear();
    }
    let local = &mut scenario.local;
    local.nodes = options.nodes.or(local.nodes);
    local.cpu_max = options.cpu_max.or(local.cpu_max);
    local.memory_max = options.memory_max.or(local.memory_max);
    let host = Host::read()?;
    let count = |workers: usize| u64::try_from(workers).unwrap_or(u64::MAX);
    let size = Size::new(
        scenario.connections,
        host.descriptors,
        scenario.local.nodes.map(u64::from),
        options.workers.map(count),
    );
    let is_enough = check(size, &host);
    if options.check {
        return Ok(if is_enough { Verdict::Good } else { Verdict::GeneratorLimited });
    }
    ensure!(is_enough || options.force, "the limits of this host are not enough (--force goes on all the same)");
    limits::raise_descriptors()?;
    carry_out(options, scenario, size).await
}

fn check(size: Size, host: &Host) -> bool {
    let Size { connections, nodes, workers } = size;
    eprintln!("{connections} connections: {nodes} nodes, {workers} workers; this host is looked at");
    let problems = size.problems(host);
    problems.iter().for_each(|problem| eprintln!("NOT ENOUGH {problem}"));
    problems.is_empty()
}

async fn carry_out(options: &LocalOptions, scenario: Scenario, size: Size) -> Result<Verdict> {
    let folder = tempfile::Builder::new().prefix("enfilade-loadtest-").tempdir().context("no temporary folder")?;
    let dir = options.keep.clone().unwrap_or_else(|| folder.path().to_owned());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let own = std::env::current_exe().context("this program's path is not known")?;
    let mut command = Command::new(&own);
    command.args(["upstream", "--with-parent"]);
    let mut upstream = Process::start("upstream", command, &dir.join("upstream.log"))?;
    let said = upstream.said("endpoint", |said| said.first("ready").is_some()).await?;
    let url = said.first("ready").context("no endpoint")?.to_owned();
    let bounds = Bounds { cpu_max: scenario.local.cpu_max, memory_max: scenario.local.memory_max };
    let more = scenario.local.gateway.clone();
    let mut cluster = Cluster::new(gateway(options)?, dir.clone(), url, options.node_log.clone(), bounds, more)?;
    cluster.start(usize::try_from(size.nodes)?).await?;
    eprintln!("nodes: {}", cluster.urls().join(" "));
    let (address, heard) = coordinator::start("127.0.0.1:0".parse()?).await?;
    let mut workers = Workers::start(&own, address, usize::try_from(size.workers)?, &dir, source)?;
    let mut watched = cluster.watched();
    watched.push(Watched { name: "upstream".to_owned(), part: Part::Upstream, pid: upstream.pid(), health: None });
    let targets = cluster.urls();
    let (hands, done) = hands::of(cluster);
    let done = spawn_local(done);
    let setup = Setup { scenario: scenario.clone(), workers: workers.count(), targets, watched, heard, hands };
    let led = conductor::lead(setup).await;
    workers.check_after(&led)?;
    let seen = led?;
    let cluster = done.await.context("the nodes are gone")?;
    let report = report::build(scenario, seen, cluster.end().await, true);
    report.write(&options.common.out)?;
    workers.end().await?;
    upstream.end().await?;
    Ok(report.verdict)
}

/// Workers have addresses of their own, like the nodes, so that each has all ports towards each node.
fn source(worker: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::new(127, 0, 2, u8::try_from(worker + 1).ok()?).into())
}

fn gateway(options: &LocalOptions) -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("enfilade"));
    let program = options.gateway.clone().or_else(beside).context("where the gateway is is not known")?;
    ensure!(program.is_file(), "there is no gateway at {}: build it, or name it with --gateway", program.display());
    Ok(program)
}
