//! Whether a call costs the same in clusters of every size: local ones and forwarded ones, each class by itself, under
//! the same load, beside as many nginx as there are nodes.
//!
//! Nodes that share cores and caches cost more by that alone. One of the loads therefore goes to one node, or over one
//! link, while the others are there; for the others nginx's column shows it.

mod report;

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cli::ScaleOptions;
use crate::cluster::{Cluster, Net, Setup, Way};
use crate::environment::Environment;
use crate::load::{Load, OPENED_WITHIN_MS, Place};
use crate::process::{Cores, Server, TempDir};
use crate::proxies::{self, Proxy};
use crate::result_file;
use crate::sample::Sample;
use crate::wire::Era;
use report::Report;

/// After a cell its sessions are closed.
const SETTLED: Duration = Duration::from_millis(300);
/// A load that sends less than this share of what it should has met something that is full.
const REACHED: f64 = 0.95;
/// Once sessions of all nodes stay where they are for this long, slots have found their owners.
const STILL_SECONDS: f64 = 1.0;
/// So often that is tried before a cluster is given up.
const STILL_TRIES: u32 = 10;

/// What is measured in a cluster of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Local,
    Forwarded,
    /// As many of them as nodes.
    Nginx,
}

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// All connections at one node, or over one link, while the others are there: the machine is shared alike whatever the
    /// size, so what grows is the cluster's.
    One,
    /// The same connections whatever the size; each answer is followed by the next call.
    Closed,
    /// As many connections for each node: what a node has before it at a time is the same whatever the size.
    ClosedEach,
    /// The same connections and calls per second whatever the size.
    Rate,
}

const KINDS: [Kind; 4] = [Kind::One, Kind::Closed, Kind::ClosedEach, Kind::Rate];

/// A measured cell of one round.
#[derive(Serialize)]
struct Measured {
    nodes: usize,
    kind: Kind,
    class: Class,
    round: u32,
    #[serde(flatten)]
    net: Net,
}

/// What stays up for the whole run.
struct Bench<'a> {
    options: &'a ScaleOptions,
    folder: &'a TempDir,
    upstream: Server,
    nginx: Vec<Proxy>,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &ScaleOptions) -> Result<bool> {
    check(options)?;
    let nginx = proxies::find_nginx(options.nginx.as_deref())?;
    let environment = Environment::read(&nginx, Some(&options.gateway)).await;
    let folder = TempDir::new()?;
    let mut bench = Bench::start(options, &nginx, &folder).await?;
    let mut measured = Vec::new();
    for round in 0..options.rounds {
        let mut sizes = options.nodes.clone();
        // Up and down again, so that a drift of the machine does not look like a size.
        if round % 2 == 1 {
            sizes.reverse();
        }
        for nodes in sizes {
            bench.measure_size(nodes, round, &mut measured).await?;
        }
    }
    bench.stop().await?;
    let report = Report::new(&measured, options);
    print!("{report}");
    let good = report.is_good();
    let run = result_file::Run { prefix: "scale-", folder: &options.results, environment: &environment, good };
    println!("raw results: {}", result_file::write(&run, options, &report, &measured)?.display());
    Ok(good)
}

fn check(options: &ScaleOptions) -> Result<()> {
    ensure!(options.rounds > 0 && options.connections > 0, "a run needs rounds and connections");
    ensure!(options.seconds > 0.0 && options.idle_seconds > 0.0, "--seconds and --idle-seconds must be above 0");
    let rises = options.nodes.windows(2).all(|pair| pair[0] < pair[1]);
    ensure!(rises && options.nodes.first().is_some_and(|&first| first > 0), "--nodes must rise, from 1 at least");
    Ok(())
}

impl<'a> Bench<'a> {
    async fn start(options: &'a ScaleOptions, nginx: &std::path::Path, folder: &'a TempDir) -> Result<Self> {
        let upstream = Server::upstream(folder.path(), Cores::Any).await?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut all = Vec::new();
        for number in 1..=options.nodes.last().copied().unwrap_or_default() {
            let own = folder.path().join(format!("nginx-{number}"));
            fs::create_dir(&own)?;
            all.push(proxies::start_nginx(nginx, workers, &upstream.endpoint, &own, Cores::Any).await?);
        }
        Ok(Self { options, folder, upstream, nginx: all })
    }

    /// All cells of one size, in a cluster that is started for them.
    async fn measure_size(&mut self, nodes: usize, round: u32, measured: &mut Vec<Measured>) -> Result<()> {
        let own = self.folder.path().join(format!("{round}-{nodes}"));
        fs::create_dir(&own)?;
        let (gateway, upstream) = (&self.options.gateway, &self.upstream.endpoint);
        let mut cluster = Cluster::start(Setup { gateway, upstream, data: &own, folder: &own }, nodes).await?;
        self.still(&cluster).await?;
        for kind in KINDS {
            for class in order(round, nodes) {
                tokio::time::sleep(SETTLED).await;
                let net = match class {
                    Class::Local => self.through(&cluster, Way::Local, kind).await?,
                    Class::Forwarded => self.through(&cluster, Way::Forwarded, kind).await?,
                    Class::Nginx => self.past(nodes, kind).await?,
                };
                let rate = self.options.sent(kind, nodes).1;
                let one = Measured { nodes, kind, class, round, net: reached(net, rate) };
                progress(&one);
                measured.push(one);
            }
        }
        cluster.check_alive()?;
        self.upstream.process.check_alive()?;
        self.nginx.iter_mut().try_for_each(|nginx| nginx.server.process.check_alive())?;
        cluster.stop()?;
        fs::remove_dir_all(&own)?;
        Ok(())
    }

    /// Waits until slots do not move any more.
    async fn still(&self, cluster: &Cluster) -> Result<()> {
        let mut load = self.load(cluster.places(Way::Local), cluster.path(), Kind::Closed, cluster.pids.len());
        load.seconds = STILL_SECONDS;
        let mut last = Vec::new();
        for _ in 0..STILL_TRIES {
            let sample = load.sample(Cores::Any).await?;
            if sample.is_good() {
                return Ok(());
            }
            last = sample.error_texts;
        }
        anyhow::bail!("sessions do not stay at the nodes that opened them: {last:?}")
    }

    async fn through(&self, cluster: &Cluster, way: Way, kind: Kind) -> Result<Net> {
        let mut places = cluster.places(way);
        places.truncate(kind.places_max());
        let mut load = self.load(places, cluster.path(), kind, cluster.pids.len());
        load.proxy_pids.clone_from(&cluster.pids);
        cluster.measure(Duration::from_secs_f64(self.options.idle_seconds), &load).await
    }

    /// The same through nginx; it does nothing while it is idle.
    async fn past(&self, nodes: usize, kind: Kind) -> Result<Net> {
        let some = &self.nginx[..nodes.min(kind.places_max())];
        let places = some.iter().map(|nginx| Place::alone(nginx.server.endpoint.address)).collect();
        let mut load = self.load(places, &self.upstream.endpoint.path, kind, nodes);
        load.proxy_pids = some.iter().flat_map(|nginx| nginx.pids.iter().copied()).collect();
        Ok(Net { idle_cores: Vec::new(), sample: load.sample(Cores::Any).await? })
    }

    fn load(&self, places: Vec<Place>, path: &str, kind: Kind, nodes: usize) -> Load {
        let options = self.options;
        let (connections, calls_per_second) = options.sent(kind, nodes);
        Load {
            places,
            path: path.to_owned(),
            era: Era::Legacy,
            connections,
            payload: options.payload,
            seconds: options.seconds,
            calls_max: u64::MAX,
            opened_within_ms: OPENED_WITHIN_MS,
            warmup_ms: options.warmup_ms,
            calls_per_second,
            proxy_pids: Vec::new(),
            upstream_pids: vec![self.upstream.process.pid()],
        }
    }

    async fn stop(self) -> Result<()> {
        for nginx in self.nginx {
            nginx.server.process.end().await?;
        }
        self.upstream.process.end().await?;
        Ok(())
    }
}

impl Kind {
    /// At how many places of a cluster calls arrive at most.
    fn places_max(self) -> usize {
        if self == Kind::One { 1 } else { usize::MAX }
    }
}

impl ScaleOptions {
    /// Connections, and calls per second over all of them.
    fn sent(&self, kind: Kind, nodes: usize) -> (usize, Option<f64>) {
        match kind {
            Kind::One | Kind::Closed => (self.connections, None),
            Kind::ClosedEach => (self.connections * nodes, None),
            Kind::Rate => (self.connections, Some(self.calls_per_second)),
        }
    }
}

/// Neighbours change places every round. A node alone has nobody to forward to.
fn order(round: u32, nodes: usize) -> impl Iterator<Item = Class> {
    let order = [Class::Local, Class::Forwarded, Class::Nginx];
    let (first, all) = (round as usize % order.len(), order.len());
    (first..first + all)
        .map(move |place| order[place % all])
        .filter(move |class| nodes > 1 || *class != Class::Forwarded)
}

fn reached(mut net: Net, rate: Option<f64>) -> Net {
    let sent = net.sample.calls_per_second;
    if let Some(rate) = rate.filter(|rate| net.sample.is_good() && sent < rate * REACHED) {
        net.sample = Sample::failed(format!("{sent:.0} calls/s instead of {rate:.0}"));
    }
    net
}

fn progress(one: &Measured) {
    let Measured { nodes, kind, class, round, net } = one;
    let (cpu, idle) = (net.cpu_us().unwrap_or(f64::NAN), net.idle_us().unwrap_or(f64::NAN));
    let Sample { calls_per_second, errors, error_texts, .. } = &net.sample;
    eprintln!(
        "round {round} nodes {nodes} {kind:?} {class:?}: {calls_per_second:.0}/s, CPU {cpu:.1} us, idle {idle:.1} us, \
         {errors} errors {error_texts:?}"
    );
}
