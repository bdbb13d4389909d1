//! `enfilade-drills`: a cluster of real processes under load, and what becomes of it when things fail.
//!
//! Who executed what is the upstream's word (`witness`), never the gateway's. Clients send each call once.
//! Limits are those of the acceptance; what is above them is said below the table and in the exit code.

mod balancer;
mod cli;
mod client;
mod cluster;
mod creations;
mod delay;
mod disk;
mod drill_kill;
mod drill_partition;
mod drill_resume;
mod drill_scale;
mod drill_sessions;
mod drill_still;
mod drill_stopped;
mod effects;
mod ended;
mod held;
mod ledger;
mod load;
mod moves;
mod net;
mod numbered;
mod pauses;
mod report;
mod sse;
mod stage;
mod steady;
mod stream;
mod tally;
mod web;
mod wire;
mod witness;
mod writes;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, Victim};
use crate::report::Found;

/// Exit code of drills that ran and found something above a limit.
const EXIT_NOT_GOOD: u8 = 1;
/// Exit code of drills that could not be carried out.
const EXIT_FAILED: u8 = 2;

/// Descriptors that a process may hold, as on hosts that cap it.
const DESCRIPTORS: u64 = 20_000;

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOT_GOOD),
        Err(error) => {
            eprintln!("enfilade-drills: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn start(cli: &Cli) -> Result<bool> {
    limit_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Leaving through this select drops what runs, and dropping a node kills it.
        tokio::select! {
            good = dispatch(cli) => good,
            () = interrupted() => anyhow::bail!("interrupted"),
        }
    })
}

/// For this process and all that it starts.
fn limit_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = hard.min(DESCRIPTORS);
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).context("cannot limit the descriptors")
}

async fn dispatch(cli: &Cli) -> Result<bool> {
    if let Command::Witness { listen } = cli.command {
        let witness = witness::Witness::start(listen).await?;
        println!("ready http://{}/mcp", witness.address());
        return std::future::pending().await;
    }
    let mut all = Vec::new();
    for command in expand(&cli.command) {
        eprintln!("{command:?} …");
        let found = run(cli, &command).await.with_context(|| format!("{command:?}"))?;
        eprint!("{}", report::table(&found));
        all.extend(found);
    }
    println!("{}", report::table(&all));
    Ok(all.iter().all(Found::good))
}

fn expand(command: &Command) -> Vec<Command> {
    let kill = |role| Command::Kill { role };
    match command {
        Command::All => vec![
            Command::Sessions,
            kill(Victim::Owner),
            kill(Victim::Leader),
            kill(Victim::Edge),
            kill(Victim::All),
            Command::Resume,
            Command::Partition { case: None },
            Command::Scale,
        ],
        one => vec![one.clone()],
    }
}

async fn run(cli: &Cli, command: &Command) -> Result<Vec<Found>> {
    let found = match command {
        Command::Sessions => drill_sessions::run(cli).await?,
        Command::Kill { role } => drill_kill::run(cli, *role).await?,
        Command::Resume => drill_resume::run(cli).await?,
        Command::Scale => drill_scale::run(cli).await?,
        Command::Partition { case } => return drill_partition::run(cli, *case).await,
        Command::All | Command::Witness { .. } => anyhow::bail!("not a drill"),
    };
    Ok(vec![found])
}

async fn interrupted() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
