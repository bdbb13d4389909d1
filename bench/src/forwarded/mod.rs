//! What a call costs that arrives at one node and belongs to another, beside one that belongs where it arrives.
//!
//! Three nodes; the second has all sessions, and they are used there (local) or at the first (forwarded). The CPU of all nodes is charged to the call, less what they use while idle.

mod report;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cli::ForwardedOptions;
use crate::cluster::{Cluster, Net, Setup, Way};
use crate::environment::Environment;
use crate::load::Load;
use crate::process::{Cores, Server, TempDir};
use crate::result_file;
use report::Report;

const NODES: usize = 3;
/// After a cell its sessions are closed.
const SETTLED: Duration = Duration::from_millis(500);
/// Before each cell the nodes are idle for so long, and what that costs is measured. After it no node remembers the
/// load of the last cell: one that seems to have much to do mints sessions elsewhere.
const IDLE: Duration = Duration::from_millis(2_000);
/// What latency is measured with: many clients, and so few calls that none waits for another's.
const CALM: Cell = Cell { payload: 200, connections: 32, calls_per_second: Some(500.0) };

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
    #[serde(flatten)]
    net: Net,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &ForwardedOptions) -> Result<bool> {
    options.matrix.check()?;
    let environment = Environment::read("nginx".as_ref(), Some(&options.gateway)).await;
    let folder = TempDir::new()?;
    let data = folder.path().join("data");
    let upstream = Server::upstream(folder.path(), Cores::Any).await?;
    let setup = Setup { gateway: &options.gateway, upstream: &upstream.endpoint, data: &data, folder: folder.path() };
    let mut cluster = Cluster::start(setup, NODES).await?;
    let cells = cells(options);
    let mut measured = Vec::new();
    for round in 0..options.matrix.rounds {
        for &cell in &cells {
            // They change places every round, so that a drift of the machine favours neither.
            let ways = if round % 2 == 0 { [Way::Local, Way::Forwarded] } else { [Way::Forwarded, Way::Local] };
            for way in ways {
                tokio::time::sleep(SETTLED).await;
                let net = cluster.measure(IDLE, &load(&cluster, &upstream, options, cell, way)).await?;
                let one = Measured { cell, way, round, net };
                progress(&one);
                measured.push(one);
            }
            cluster.check_alive()?;
        }
    }
    cluster.stop()?;
    upstream.process.end().await?;
    let report = Report::new(&measured, &cells, options);
    print!("{report}");
    let good = report.is_good();
    let run = result_file::Run { prefix: "forwarded-", folder: &options.results, environment: &environment, good };
    println!("raw results: {}", result_file::write(&run, options, &report, &measured)?.display());
    Ok(good)
}

fn cells(options: &ForwardedOptions) -> Vec<Cell> {
    let pairs = options.matrix.pairs();
    let busy = pairs.map(|(payload, connections)| Cell { payload, connections, calls_per_second: None });
    busy.chain([CALM]).collect()
}

fn progress(one: &Measured) {
    let Measured { cell: Cell { payload, connections, .. }, way, round, net: Net { sample, .. } } = one;
    let cpu = sample.proxy_cpu.map_or(f64::NAN, |cpu| cpu.clock_us);
    eprintln!(
        "round {round} {payload} B x{connections} {way:?}: {} calls, {:.0}/s, CPU {cpu:.1} us, {} errors {:?}",
        sample.calls, sample.calls_per_second, sample.errors, sample.error_texts
    );
}

/// The generator of one cell. Its sessions are the second node's; they are used there or at the first.
fn load(cluster: &Cluster, upstream: &Server, options: &ForwardedOptions, cell: Cell, way: Way) -> Load {
    let Cell { payload, connections, calls_per_second } = cell;
    let places = vec![cluster.place(if way == Way::Local { 1 } else { 0 }, 1)];
    let load = options.matrix.load((payload, connections), places, cluster.path(), upstream);
    Load { calls_per_second, proxy_pids: cluster.pids.clone(), ..load }
}
