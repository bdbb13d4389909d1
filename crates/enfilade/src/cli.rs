//! The command line: every command and option, with its default.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The demo server's library logs every request at `info`, and as an error that a client went away.
/// Raft warns each time that it calls a node that is away, which links report once.
const DEFAULT_LOG: &str = "info,rmcp=off,openraft=error";

/// Most nodes that one command starts: it is for a look, and for tests.
const NODES_MAX: i64 = 16;

/// Enfilade: one MCP endpoint in front of many MCP servers.
#[derive(Debug, Parser)]
#[command(name = "enfilade", version)]
pub(crate) struct Cli {
    /// What is logged, to standard error: a level, or a list such as `info,enfilade_upstream=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = DEFAULT_LOG)]
    pub(crate) log: String,
    /// How it is logged.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine. Without configuration it brings two demo upstreams of its own.
    Up(Up),
    /// Start one node: of a cluster if the configuration has a section `cluster`, alone otherwise.
    Serve(Serve),
    /// Make the keys that the nodes of a cluster have in common.
    Keys {
        /// The folder to put them into; it must not hold any yet.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the registry of a running cluster to a file: everything that was acknowledged before the command began.
    Backup(Backup),
    /// Say what is in a backup; exit 1 if it is not what was written.
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a backup into an empty data directory: the first node of a new cluster, which others then join.
    Restore {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The data directory of the node.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Go on with one node that is left when most voters are lost for good. Without the last option it only says what
    /// would be lost.
    Recover {
        /// The data directory of the node that is left; it must not run.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The last entry of its log: what others had after it is given up.
        #[arg(long, value_name = "ENTRY")]
        accept_loss_after: Option<u64>,
    },
    /// The configuration that all nodes of a cluster have in common.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Permit what only this release and later ones know, once all nodes run it. There is no way back.
    Finalise(Reach),
    /// Start the demo MCP server alone.
    Demo(Demo),
    /// Say what is wrong with a configuration; exit 64 if anything is.
    Check(Sources),
    /// Print the configuration that would be used, defaults filled in and secrets left out.
    DumpConfig(Sources),
    /// Print the names and meanings of all metrics, as the page docs/METRICS.md.
    Metrics,
    /// Print the JSON schema of the configuration file.
    Schema {
        /// Print it as the page docs/CONFIG.md instead.
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// How many nodes. They listen at consecutive ports, and 1 of them is this process itself.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    pub(crate) nodes: u16,
    /// Print the configuration that would be used, and exit.
    #[arg(long)]
    pub(crate) dump_config: bool,
}

/// Where the configuration comes from; later ones win.
#[derive(Debug, Default, Args)]
pub(crate) struct Sources {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Upstreams in the form of hosts' `mcpServers` (JSON); they come after those of `--config`.
    #[arg(long, value_name = "FILE")]
    pub(crate) mcp_json: Option<PathBuf>,
    /// Listen here, over HTTP/1.1, instead of where the configuration says; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve other machines although nobody is authenticated.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// What must survive a restart is kept here [default: ./enfilade-data; with demo upstreams a temporary folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) sources: Sources,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// The end of standard input counts as SIGTERM: who started this node is gone.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

/// What of the section `cluster` may differ from node to node; given, it comes before the file.
#[derive(Debug, Default, Args)]
pub(crate) struct NodeOptions {
    /// This node's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Where other nodes connect (TCP).
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) link: Option<SocketAddr>,
    /// Where gossip is received (UDP).
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) gossip: Option<SocketAddr>,
    /// The gossip of another node; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) seed: Vec<String>,
    /// The folder with the cluster's keys.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Make a file (YAML, with the keys `limits`, `servers` and `upstreams`) the next version for all nodes.
    Apply {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        reach: Reach,
    },
    /// Print a version.
    Show {
        /// Which; the present one when left out.
        #[arg(value_name = "VERSION")]
        version: Option<u64>,
        #[command(flatten)]
        reach: Reach,
    },
    /// List the versions that are kept.
    History {
        #[command(flatten)]
        reach: Reach,
    },
    /// Make the content of a former version the next version.
    Revert {
        /// Which.
        #[arg(value_name = "VERSION")]
        version: u64,
        #[command(flatten)]
        reach: Reach,
    },
}

/// A running node that does what is asked.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// Its address for links.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) node: Option<String>,
    /// The folder with the cluster's keys.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The node's configuration file, which says both.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The file, which must not be there yet; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Take what the node has, also while there is no quorum.
    #[arg(long)]
    pub(crate) stale: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to serve Streamable HTTP; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", conflicts_with = "stdio")]
    pub(crate) listen: SocketAddr,
    /// Speak MCP on standard input and output instead.
    #[arg(long)]
    pub(crate) stdio: bool,
    /// The protocol revisions that it speaks.
    #[arg(long, value_enum, default_value_t = DemoEra::Both)]
    pub(crate) era: DemoEra,
    /// The name that it calls itself.
    #[arg(long, default_value = "everything")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoEra {
    /// Chosen per request.
    Both,
    /// 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
