//! The command line. The defaults are small; `--full` brings the sizes of the acceptance.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Failure drills on a cluster of real processes on this machine, under load. Prints one table.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The gateway's program.
    #[arg(long, global = true, value_name = "FILE", default_value = "target/debug/enfilade")]
    pub(crate) gateway: PathBuf,
    /// One node alone: shows only that the drills themselves work.
    #[arg(long, global = true)]
    pub(crate) alone: bool,
    /// What the nodes log.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info,enfilade_cluster::duty=debug,openraft=error"
    )]
    pub(crate) node_log: String,
    /// Keep configuration, data and logs here instead of in a temporary folder.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) size: Size,
}

/// How much.
#[derive(Clone, Debug, Args)]
pub(crate) struct Size {
    /// 10,000 sessions, 220 calls in flight, 20 rounds of each.
    #[arg(long, global = true)]
    pub(crate) full: bool,
    /// Sessions [default: 300].
    #[arg(long, global = true, value_name = "N")]
    sessions: Option<usize>,
    /// Calls in flight [default: 40].
    #[arg(long, global = true, value_name = "N")]
    calls: Option<usize>,
    /// Rounds [default: 2].
    #[arg(long, global = true, value_name = "N")]
    rounds: Option<u32>,
    /// Short calls per second besides, while nodes come and go [default: 200].
    #[arg(long, global = true, value_name = "N")]
    rate: Option<usize>,
    /// Sessions that are asked at once after a failure [default: 100, with --full all].
    #[arg(long, global = true, value_name = "N")]
    probes: Option<usize>,
}

impl Size {
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.unwrap_or(if self.full { 10_000 } else { 300 })
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.unwrap_or(if self.full { 220 } else { 40 })
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.full { 20 } else { 2 })
    }

    pub(crate) fn rate(&self) -> usize {
        self.rate.unwrap_or(if self.full { 1_000 } else { 200 })
    }

    pub(crate) fn probes(&self) -> usize {
        self.probes.unwrap_or(if self.full { usize::MAX } else { 100 }).min(self.sessions())
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Sessions are created on random nodes and used at once on others.
    Sessions,
    /// kill -9 of nodes under load.
    Kill {
        /// Whom.
        #[arg(long, value_enum, default_value_t = Victim::Owner)]
        role: Victim,
    },
    /// A client resumes a stream on another node while its owner is killed.
    Resume,
    /// The network between nodes fails in one way or another, nodes stand still, disks stand still.
    Partition {
        /// Only this.
        #[arg(long, value_enum)]
        case: Option<Fault>,
    },
    /// 3 to 5 to 3 nodes and a rolling restart, under load.
    Scale,
    /// All of them.
    All,
    /// Only the upstream; prints its address.
    Witness {
        /// Where.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
    },
}

/// What is broken, and mended again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// One of three is cut off.
    TwoOne,
    /// One hears nobody, and is heard.
    OneWay,
    /// An owner is cut off from all but the leader.
    OwnerFromEdges,
    /// Of five nodes the leader and another owner are cut off, together.
    LeaderAndOwner,
    /// The disks of all nodes stand still.
    Disks,
    /// An owner that does not lead stands still for longer than its lease.
    StoppedOwner,
    /// The registry's leader stands still for longer than its lease.
    StoppedLeader,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Victim {
    /// A node that owns sessions and does not lead the registry.
    #[default]
    Owner,
    /// The registry's leader, which owns sessions too.
    Leader,
    /// A node that only has clients.
    Edge,
    /// All nodes at once.
    All,
}
