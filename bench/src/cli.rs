//! The command line: every parameter of a run, with its default.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::load::Load;
use crate::plan::Matrix;
use crate::wire::Era;

/// Measures the gateway's CPU per call beside nginx, in one run.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measure gateway, nginx and the bare upstream; print a table, write the raw results, judge the ratio.
    Run(RunOptions),
    /// Measure a call that crosses a link beside one that does not, in a cluster of three nodes.
    Forwarded(ForwardedOptions),
    /// Measure both in clusters of 1 to 6 nodes, beside as many nginx, and judge whether they cost the same in all.
    Scale(ScaleOptions),
    /// Measure how fast a cluster creates sessions, and what each takes in memory.
    Sessions(SessionsOptions),
    /// Serve the light MCP upstream of both eras; prints `ready URL`.
    Upstream(UpstreamOptions),
    /// One measured interval, given as JSON; prints one JSON line.
    #[command(hide = true)]
    Load {
        #[arg(value_parser = |text: &str| serde_json::from_str::<Load>(text))]
        load: Load,
    },
}

#[derive(Args, Serialize)]
pub(crate) struct RunOptions {
    /// The release binary of the gateway.
    #[arg(long, required_unless_present = "without_gateway")]
    #[serde(serialize_with = "file_name")]
    pub(crate) gateway: Option<PathBuf>,
    /// Measure only nginx and the bare upstream.
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) without_gateway: bool,
    /// The nginx binary; by default it is looked for in PATH and /usr/sbin.
    #[arg(long)]
    #[serde(serialize_with = "file_name")]
    pub(crate) nginx: Option<PathBuf>,
    /// nginx worker processes; 0 means one per core that it may use, as many as
    /// the gateway's runtime takes.
    #[arg(long, default_value_t = 0)]
    pub(crate) nginx_workers: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) matrix: Matrix,
    /// Client eras.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Era::Legacy, Era::Modern])]
    pub(crate) eras: Vec<Era>,
    /// The era that the gateway is told its upstream has.
    #[arg(long, value_enum, default_value_t = UpstreamEra::Match)]
    pub(crate) upstream_era: UpstreamEra,
    /// On which cores the parties may run.
    #[arg(long, value_enum, default_value_t = Pin::None)]
    pub(crate) pin: Pin,
    /// Fail when the median ratio gateway/nginx of any cell is above this.
    #[arg(long)]
    pub(crate) ratio_max: Option<f64>,
    /// Folder of the raw results.
    #[arg(long, default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

#[derive(Args, Serialize)]
pub(crate) struct ForwardedOptions {
    /// The release binary of the gateway.
    #[arg(long)]
    #[serde(serialize_with = "required_file_name")]
    pub(crate) gateway: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) matrix: Matrix,
    /// Fail when the median ratio forwarded/local of any cell is above this.
    #[arg(long)]
    pub(crate) ratio_max: Option<f64>,
    /// Cells with fewer connections are measured and not judged.
    #[arg(long, default_value_t = 1)]
    pub(crate) ratio_connections_min: usize,
    /// Folder of the raw results.
    #[arg(long, default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

#[derive(Args, Serialize)]
pub(crate) struct ScaleOptions {
    /// The release binary of the gateway.
    #[arg(long)]
    #[serde(serialize_with = "required_file_name")]
    pub(crate) gateway: PathBuf,
    /// The nginx binary; by default it is looked for in PATH and /usr/sbin.
    #[arg(long)]
    #[serde(serialize_with = "file_name")]
    pub(crate) nginx: Option<PathBuf>,
    /// Sizes of clusters, in rising order.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4, 6])]
    pub(crate) nodes: Vec<usize>,
    /// Measured interval of one cell.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// How long the nodes are idle before each cell, to see what that costs.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) idle_seconds: f64,
    /// Unmeasured load before each cell.
    #[arg(long, default_value_t = 300)]
    pub(crate) warmup_ms: u64,
    /// How often each cell is measured, each time in a new cluster; the medians over rounds count.
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: u32,
    /// Connections, spread over the nodes; in one of the loads so many for each of them.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Payload in bytes, of the argument and of the echoed text.
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,
    /// Calls per second of the load that fills no core, whatever the size of the cluster.
    #[arg(long, default_value_t = 3_000.0)]
    pub(crate) calls_per_second: f64,
    /// Fail when a class costs more or less than in the smallest cluster by a larger share than this.
    #[arg(long)]
    pub(crate) flat_max: Option<f64>,
    /// Fail when a local call costs more than this many times nginx.
    #[arg(long)]
    pub(crate) nginx_ratio_max: Option<f64>,
    /// Fail when a forwarded call costs more than this many local ones.
    #[arg(long)]
    pub(crate) ratio_max: Option<f64>,
    /// Folder of the raw results.
    #[arg(long, default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

#[derive(Args, Serialize)]
pub(crate) struct SessionsOptions {
    /// The release binary of the gateway.
    #[arg(long)]
    #[serde(serialize_with = "required_file_name")]
    pub(crate) gateway: PathBuf,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: usize,
    /// Sessions whose rate and latency are measured.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) sessions: u64,
    /// Sessions that are created after these to see what they take in memory; 0 for none.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) memory_sessions: u64,
    /// Sessions that are created after those and used for one call each, to see what a used one takes; 0 for none.
    #[arg(long, default_value_t = 60_000)]
    pub(crate) used_sessions: u64,
    /// Connections, spread over the nodes.
    #[arg(long, default_value_t = 256)]
    pub(crate) callers: usize,
    /// Fail below this many sessions per second, also while filling.
    #[arg(long)]
    pub(crate) rate_min: Option<f64>,
    /// Fail when a session takes more bytes of memory than this, over sessions and voters, used or not.
    #[arg(long)]
    pub(crate) bytes_max: Option<f64>,
    /// Where the nodes keep their data; by default in a folder that is removed.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder of the raw results.
    #[arg(long, default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

/// Placement. Whether two processes that wake each other share a core changes the CPU per call several times over at
/// one connection, and the scheduler's choice is not the proxy's merit; pinning takes that choice away.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pin {
    /// The scheduler decides.
    None,
    /// The proxies on the last core, generator and upstream on the first.
    Apart,
    /// Everything on the last core: the steadiest CPU per call, and no figure for throughput.
    Together,
}

/// What the gateway's configuration says about the upstream.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UpstreamEra {
    /// The client's era: no translation is measured.
    Match,
    /// Let the gateway probe.
    Auto,
    /// Always legacy.
    Legacy,
    /// Always modern.
    Modern,
}

#[derive(Args)]
pub(crate) struct UpstreamOptions {
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

/// Results say which program ran, not where it lay on the machine that measured.
fn file_name<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = path.as_deref().and_then(std::path::Path::file_name);
    serializer.serialize_some(&name.map(|name| name.to_string_lossy()))
}

fn required_file_name<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(&path.file_name().map(|name| name.to_string_lossy()))
}
