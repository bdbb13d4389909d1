//! What a call costs that arrives at one node and belongs to another, beside one that belongs where it arrives.
//!
//! Three nodes; sessions are opened at the second node, which mints them into its own slots, and used at the second
//! (local) or at the first (forwarded). The CPU of all nodes is charged to the call.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cli::ForwardedOptions;
use crate::cluster::Cluster;
use crate::cpu::CpuTime;
use crate::environment::Environment;
use crate::process::{Cores, TempDir, command};
use crate::report::median;
use crate::result_file;
use crate::run::sample;
use crate::sample::Sample;
use crate::wire::Era;

const NODES: usize = 3;
/// After this long no node remembers the load of the last cell.
const LOADS_FORGOTTEN: Duration = Duration::from_millis(2_500);
/// Above this share of the second node's CPU the first one takes part in the calls.
const SHARE: f64 = 0.3;

/// Where a call arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Local,
    Forwarded,
}

/// A measured cell of one round.
#[derive(Serialize)]
struct Measured {
    payload: usize,
    connections: usize,
    way: Way,
    round: u32,
    sample: Sample,
}

/// Medians of one cell.
#[derive(Serialize)]
struct Row {
    payload: usize,
    connections: usize,
    local_cpu_us: Option<f64>,
    forwarded_cpu_us: Option<f64>,
    /// Median over rounds of forwarded over local in the same round.
    ratio: Option<f64>,
    /// What the link adds to the median latency.
    adds_p50_us: Option<f64>,
    adds_p99_us: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    ratio_worst: Option<f64>,
    ratio_max: Option<f64>,
    ratio_connections_min: usize,
    errors: u64,
    calls: u64,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &ForwardedOptions) -> Result<bool> {
    ensure!(options.rounds > 0 && options.calls_max > 0, "a run needs rounds and calls");
    let environment = Environment::read("nginx".as_ref(), Some(&options.gateway)).await;
    let folder = TempDir::new()?;
    let data = folder.path().join("data");
    let mut cluster = Cluster::start(&options.gateway, NODES, &data, &folder).await?;
    let mut measured = Vec::new();
    for round in 0..options.rounds {
        for &payload in &options.payloads {
            for &connections in &options.connections {
                // They change places every round, so that a drift of the machine favours neither.
                let ways = if round % 2 == 0 { [Way::Local, Way::Forwarded] } else { [Way::Forwarded, Way::Local] };
                for way in ways {
                    let sample = cluster.measure(options, payload, connections, way).await?;
                    let cpu = sample.proxy_cpu.map_or(f64::NAN, |cpu| cpu.clock_us);
                    eprintln!(
                        "round {round} {payload} B x{connections} {way:?}: {} calls, {:.0}/s, CPU {cpu:.1} us, {} \
                         errors {:?}",
                        sample.calls, sample.calls_per_second, sample.errors, sample.error_texts
                    );
                    measured.push(Measured { payload, connections, way, round, sample });
                }
                cluster.gateway.check_alive()?;
            }
        }
    }
    cluster.stop().await?;
    let report = Report::new(&measured, options);
    print!("{report}");
    let good = report.is_good();
    let run = result_file::Run { prefix: "forwarded-", folder: &options.results, environment: &environment, good };
    println!("raw results: {}", result_file::write(&run, options, &report, &measured)?.display());
    Ok(good)
}

impl Cluster {
    async fn measure(
        &self,
        options: &ForwardedOptions,
        payload: usize,
        connections: usize,
        way: Way,
    ) -> Result<Sample> {
        let owner = &self.endpoints[1];
        let at = if way == Way::Local { owner } else { &self.endpoints[0] };
        let mut load = command(std::env::current_exe()?, Cores::Any);
        load.arg("load").stdin(Stdio::null()).kill_on_drop(true);
        load.arg(format!("--address={}", at.address)).arg(format!("--path={}", at.path));
        load.arg(format!("--open-at={}", owner.address));
        load.arg(format!("--era={}", Era::Legacy)).arg(format!("--payload={payload}"));
        load.arg(format!("--connections={connections}"));
        load.arg(format!("--seconds={}", options.seconds)).arg(format!("--calls-max={}", options.calls_max));
        load.arg(format!("--warmup-ms={}", options.warmup_ms));
        for pid in &self.pids {
            load.arg(format!("--proxy-pids={pid}"));
        }
        load.arg(format!("--upstream-pids={}", self.upstream.pid()));
        // Gossip tells the others what the last cell was like; a node that seems to have much to do mints elsewhere.
        tokio::time::sleep(LOADS_FORGOTTEN).await;
        let before = self.each()?;
        let measured = sample(load, options.seconds).await?;
        let used: Vec<f64> =
            self.each()?.iter().zip(before).map(|(now, then)| now.since(then).clock.as_secs_f64()).collect();
        // Where the call arrives is what was measured, whatever slots the sessions fell into.
        let share = used[0] / used[1].max(f64::EPSILON);
        if measured.is_good() && (share > SHARE) != (way == Way::Forwarded) {
            return Ok(Sample::failed(format!("{way:?}, but the first node used {share:.2} of what the second did")));
        }
        Ok(measured)
    }

    fn each(&self) -> Result<Vec<CpuTime>> {
        self.pids.iter().map(|&pid| CpuTime::of(&[pid])).collect()
    }
}

impl Report {
    fn new(measured: &[Measured], options: &ForwardedOptions) -> Self {
        let mut rows = Vec::new();
        for &payload in &options.payloads {
            for &connections in &options.connections {
                let cell = |one: &&Measured| one.payload == payload && one.connections == connections;
                rows.push(Row::new(payload, connections, &measured.iter().filter(cell).collect::<Vec<_>>()));
            }
        }
        let judged = rows.iter().filter(|row| row.connections >= options.ratio_connections_min);
        let ratios = judged.filter_map(|row| row.ratio);
        Self {
            ratio_worst: ratios.reduce(f64::max),
            ratio_max: options.ratio_max,
            ratio_connections_min: options.ratio_connections_min,
            errors: measured.iter().map(|one| one.sample.errors).sum(),
            calls: measured.iter().map(|one| one.sample.calls).sum(),
            rows,
        }
    }

    /// No error, no hole, no cell above the limit.
    fn is_good(&self) -> bool {
        let above = self.ratio_max.zip(self.ratio_worst).is_some_and(|(max, worst)| worst > max);
        self.errors == 0 && self.rows.iter().all(|row| row.ratio.is_some()) && !above
    }
}

impl Row {
    fn new(payload: usize, connections: usize, cell: &[&Measured]) -> Self {
        let cpu = |one: &Measured| one.sample.proxy_cpu.map(|cpu| cpu.clock_us);
        let good = |way: Way| cell.iter().filter(move |one| one.way == way && one.sample.is_good());
        let over = |way: Way| median(good(way).filter_map(|one| cpu(one)).collect());
        // Neighbours of one round, so that the machine's mood is the same for both.
        let pairs: Vec<_> = good(Way::Forwarded)
            .filter_map(|one| Some((*one, *good(Way::Local).find(|local| local.round == one.round)?)))
            .collect();
        let ratio = |(one, local): &(&Measured, &Measured)| Some(cpu(one)? / cpu(local).filter(|cpu| *cpu > 0.0)?);
        let adds = |figure: fn(&Sample) -> f64| {
            median(pairs.iter().map(|(one, local)| figure(&one.sample) - figure(&local.sample)).collect())
        };
        Self {
            payload,
            connections,
            local_cpu_us: over(Way::Local),
            forwarded_cpu_us: over(Way::Forwarded),
            ratio: median(pairs.iter().filter_map(ratio).collect()),
            adds_p50_us: adds(|sample| sample.p50_us),
            adds_p99_us: adds(|sample| sample.p99_us),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        writeln!(f, "{:>8} {:>6} | {:^27} | {:^15}", "", "", "CPU us/call, all nodes", "link adds us")?;
        writeln!(
            f,
            "{:>8} {:>6} | {:>8} {:>9} {:>8} | {:>7} {:>7}",
            "payload", "conns", "local", "forwarded", "ratio", "p50", "p99"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:>8} {:>6} | {:>8} {:>9} {:>8} | {:>7} {:>7}",
                row.payload,
                row.connections,
                number(row.local_cpu_us, 1),
                number(row.forwarded_cpu_us, 1),
                number(row.ratio, 2),
                number(row.adds_p50_us, 0),
                number(row.adds_p99_us, 0)
            )?;
        }
        let (worst, max) = (number(self.ratio_worst, 2), number(self.ratio_max, 2));
        let least = self.ratio_connections_min;
        writeln!(f, "CPU ratio forwarded/local: worst cell from {least} connections on {worst}, limit {max}")?;
        writeln!(f, "calls {}, errors {}", self.calls, self.errors)?;
        writeln!(f, "{}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}
