//! What a call costs that arrives at one node and belongs to another, beside one that belongs where it arrives.
//!
//! Three nodes; sessions are opened at the second node, which mints them into its own slots, and used at the second
//! (local) or at the first (forwarded). The CPU of all nodes is charged to the call, less what they use while idle.

mod report;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cli::ForwardedOptions;
use crate::cluster::Cluster;
use crate::cpu::CpuTime;
use crate::environment::Environment;
use crate::process::{Cores, TempDir, command};
use crate::result_file;
use crate::run::sample;
use crate::sample::Sample;
use crate::wire::Era;
use report::Report;

const NODES: usize = 3;
/// After a cell its sessions are closed.
const SETTLED: Duration = Duration::from_millis(500);
/// Before each cell the nodes are idle for so long, and what that costs is measured. After it no node remembers the
/// load of the last cell: one that seems to have much to do mints sessions elsewhere.
const IDLE: Duration = Duration::from_millis(2_000);
/// Above this share of the second node's CPU the first one takes part in the calls.
const SHARE: f64 = 0.3;
/// What latency is measured with: many clients, and so few calls that none waits for another's.
const CALM: Cell = Cell { payload: 200, connections: 32, calls_per_second: Some(500.0) };

/// Where a call arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Local,
    Forwarded,
}

/// What is measured both ways.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Cell {
    payload: usize,
    connections: usize,
    /// Over all connections; otherwise as many as there are answers to the last.
    calls_per_second: Option<f64>,
}

/// A measured cell of one round.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    cell: Cell,
    way: Way,
    round: u32,
    /// Cores that each node used in the idle interval before.
    idle_cores: Vec<f64>,
    sample: Sample,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &ForwardedOptions) -> Result<bool> {
    ensure!(options.rounds > 0 && options.calls_max > 0, "a run needs rounds and calls");
    let environment = Environment::read("nginx".as_ref(), Some(&options.gateway)).await;
    let folder = TempDir::new()?;
    let data = folder.path().join("data");
    let mut cluster = Cluster::start(&options.gateway, NODES, &data, &folder).await?;
    let cells = cells(options);
    let mut measured = Vec::new();
    for round in 0..options.rounds {
        for &cell in &cells {
            // They change places every round, so that a drift of the machine favours neither.
            let ways = if round % 2 == 0 { [Way::Local, Way::Forwarded] } else { [Way::Forwarded, Way::Local] };
            for way in ways {
                let one = cluster.measure(options, cell, way, round).await?;
                progress(&one);
                measured.push(one);
            }
            cluster.gateway.check_alive()?;
        }
    }
    cluster.stop().await?;
    let report = Report::new(&measured, &cells, options);
    print!("{report}");
    let good = report.is_good();
    let run = result_file::Run { prefix: "forwarded-", folder: &options.results, environment: &environment, good };
    println!("raw results: {}", result_file::write(&run, options, &report, &measured)?.display());
    Ok(good)
}

fn cells(options: &ForwardedOptions) -> Vec<Cell> {
    let busy = options.payloads.iter().flat_map(|&payload| {
        options.connections.iter().map(move |&connections| Cell { payload, connections, calls_per_second: None })
    });
    busy.chain([CALM]).collect()
}

fn progress(one: &Measured) {
    let Measured { cell: Cell { payload, connections, .. }, way, round, sample, .. } = one;
    let cpu = sample.proxy_cpu.map_or(f64::NAN, |cpu| cpu.clock_us);
    eprintln!(
        "round {round} {payload} B x{connections} {way:?}: {} calls, {:.0}/s, CPU {cpu:.1} us, {} errors {:?}",
        sample.calls, sample.calls_per_second, sample.errors, sample.error_texts
    );
}

impl Cluster {
    async fn measure(&self, options: &ForwardedOptions, cell: Cell, way: Way, round: u32) -> Result<Measured> {
        let load = self.load(options, cell, way)?;
        tokio::time::sleep(SETTLED).await;
        let (begun, before) = (tokio::time::Instant::now(), self.each()?);
        tokio::time::sleep(IDLE).await;
        let between = self.each()?;
        let idle = begun.elapsed().as_secs_f64();
        let idle_cores = used(&before, &between).map(|seconds| seconds / idle).collect();
        let mut measured = sample(load, options.seconds).await?;
        let used: Vec<f64> = used(&between, &self.each()?).collect();
        // Where the call arrives is what was measured, whatever slots the sessions fell into.
        let share = used[0] / used[1].max(f64::EPSILON);
        if measured.is_good() && cell.calls_per_second.is_none() && (share > SHARE) != (way == Way::Forwarded) {
            measured = Sample::failed(format!("{way:?}, but the first node used {share:.2} of what the second did"));
        }
        Ok(Measured { cell, way, round, idle_cores, sample: measured })
    }

    /// The generator of one cell.
    fn load(&self, options: &ForwardedOptions, cell: Cell, way: Way) -> Result<tokio::process::Command> {
        let owner = &self.endpoints[1];
        let at = if way == Way::Local { owner } else { &self.endpoints[0] };
        let mut load = command(std::env::current_exe()?, Cores::Any);
        load.arg("load").stdin(Stdio::null()).kill_on_drop(true);
        load.arg(format!("--address={}", at.address)).arg(format!("--path={}", at.path));
        load.arg(format!("--open-at={}", owner.address));
        load.arg(format!("--era={}", Era::Legacy)).arg(format!("--payload={}", cell.payload));
        load.arg(format!("--connections={}", cell.connections));
        if let Some(rate) = cell.calls_per_second {
            load.arg(format!("--calls-per-second={rate}"));
        }
        load.arg(format!("--seconds={}", options.seconds)).arg(format!("--calls-max={}", options.calls_max));
        load.arg(format!("--warmup-ms={}", options.warmup_ms));
        for pid in &self.pids {
            load.arg(format!("--proxy-pids={pid}"));
        }
        load.arg(format!("--upstream-pids={}", self.upstream.pid()));
        Ok(load)
    }

    fn each(&self) -> Result<Vec<CpuTime>> {
        self.pids.iter().map(|&pid| CpuTime::of(&[pid])).collect()
    }
}

/// Seconds that each used.
fn used<'a>(then: &'a [CpuTime], now: &'a [CpuTime]) -> impl Iterator<Item = f64> + 'a {
    now.iter().zip(then).map(|(now, then)| now.since(*then).clock.as_secs_f64())
}
