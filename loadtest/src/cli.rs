//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::scenario::{parse_bytes, parse_duration};

/// Load test of an Enfilade cluster: clients of both eras that hold streams and call at a fixed rate.
/// Exit code 0: good; 1: something was above its limit; 2: it could not be carried out; 3: the generator, or the host that
/// it shares with the gateway, was the bottleneck, so that the run says nothing about the gateway.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Test a cluster that runs already.
    Run(RunOptions),
    /// Start nodes, an upstream and workers on this machine, test them, and end them.
    Local(LocalOptions),
    /// One worker: does its share of a run that a coordinator leads.
    Worker(WorkerOptions),
    /// Only the upstream of `local`; prints its address.
    Upstream {
        /// Where it listens.
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Started by another program: ends when its standard input does.
        #[arg(long, hide = true)]
        with_parent: bool,
    },
    /// Write the page of a report again.
    Report {
        /// The report.json of a run.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The page [default: beside it, with the ending .html].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// What goes before the scenario, and where the report goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Sessions, each with a stream, instead of what the scenario says.
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<u64>,
    /// How long the streams are held, instead of what the scenario says, such as 90s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) hold: Option<Duration>,
    /// How many of them are opened in a second.
    #[arg(long, value_name = "RATE")]
    pub(crate) opens_per_second: Option<f64>,
    /// Calls per second of all clients together.
    #[arg(long, value_name = "RATE")]
    pub(crate) calls_per_second: Option<f64>,
    /// The folder for report.json and report.html.
    #[arg(long, value_name = "DIR", default_value = "loadtest-report")]
    pub(crate) out: PathBuf,
}

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// What clients do, in TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: PathBuf,
    /// An MCP endpoint, as http://HOST:PORT/PATH; several are used alike. A name with several addresses is all of them.
    #[arg(long = "target", value_name = "URL", required = true)]
    pub(crate) targets: Vec<String>,
    /// Worker processes [default: as many as the descriptors of a process need].
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Workers are started elsewhere, such as in a Kubernetes Job: wait for them.
    #[arg(long, requires = "workers")]
    pub(crate) external: bool,
    /// Where workers connect.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Processes of this machine whose memory and CPU are shown, as NAME=PID.
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = named_pid)]
    pub(crate) pids: Vec<(String, i32)>,
    /// Where one of these nodes tells what it counts (the key `health` of its configuration): its tasks are shown, too.
    #[arg(long = "health", value_name = "NAME=ADDR:PORT", value_parser = named_address)]
    pub(crate) health: Vec<(String, SocketAddr)>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of `local`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocalOptions {
    /// The gateway's program [default: the one beside this program].
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// What clients do, in TOML [default: the one that comes with the program].
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Nodes at the start [default: what the scenario says, or as many as the descriptors of a process need, at least 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub(crate) nodes: Option<u8>,
    /// Worker processes [default: as many as the descriptors of a process need, at least 2].
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Cores that each node may use, such as 0.25, instead of what the scenario says (needs control groups).
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu_max: Option<f64>,
    /// Memory that each node may take, such as 512MiB, instead of what the scenario says (needs control groups).
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) memory_max: Option<u64>,
    /// No faults, whatever the scenario says.
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Only say whether the limits of this host are enough.
    #[arg(long)]
    pub(crate) check: bool,
    /// Go on although the limits of this host are not enough.
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep configuration, data and logs of the nodes here instead of in a temporary folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// What the nodes log.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) node_log: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of `worker`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerOptions {
    /// Where the coordinator listens.
    #[arg(long, value_name = "HOST:PORT", env = "ENFILADE_LOADTEST_COORDINATOR")]
    pub(crate) coordinator: String,
    /// What it is called in the report; in an indexed Job its index.
    #[arg(long, value_name = "NAME", env = "JOB_COMPLETION_INDEX", default_value = "worker")]
    pub(crate) name: String,
    /// How long it tries to reach the coordinator.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub(crate) patience: Duration,
    /// The address of this machine that its connections come from [default: any].
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Option<IpAddr>,
    /// Started by a coordinator: ends when its standard input does.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

fn named_pid(text: &str) -> Result<(String, i32), String> {
    let (name, pid) = text.split_once('=').ok_or("it is not NAME=PID")?;
    Ok((name.to_owned(), pid.parse().map_err(|_| format!("{pid} is not a process id"))?))
}

fn named_address(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("it is not NAME=ADDR:PORT")?;
    Ok((name.to_owned(), address.parse().map_err(|_| format!("{address} is not an address and a port"))?))
}
