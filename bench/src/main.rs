//! `enfilade-bench`: what one call costs the gateway, measured beside nginx in the same run.
//!
//! `run` is the conductor: it starts the upstream, the proxies and one `load` process per cell, and judges the
//! result. CPU per call decides, because generator, proxy and upstream share the machine's cores.

mod cli;
mod client;
mod cluster;
mod environment;
mod forwarded;
mod generator;
mod load;
mod plan;
mod process;
mod proxies;
mod report;
mod result_file;
mod run;
mod sample;
mod scale;
mod sessions;
mod upstream;
mod upstream_reply;
mod wire;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};

/// Exit code of a run that was measured but is not good: errors, or a ratio above the limit.
const EXIT_NOT_GOOD: u8 = 1;
/// Exit code of a run that could not be carried out.
const EXIT_FAILED: u8 = 2;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOT_GOOD),
        Err(error) => {
            eprintln!("enfilade-bench: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs the command on one thread: the generator must not take more than one core from the others, and an upstream
/// on one thread has no locks to pay for.
fn start(cli: Cli) -> Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        // Leaving through this select drops what runs, and dropping a child process ends it.
        tokio::select! {
            good = dispatch(cli) => good,
            () = interrupted() => anyhow::bail!("interrupted"),
        }
    })
}

async fn dispatch(cli: Cli) -> Result<bool> {
    match cli.command {
        Command::Run(options) => run::run(&options).await,
        Command::Forwarded(options) => forwarded::run(&options).await,
        Command::Sessions(options) => sessions::run(&options).await,
        Command::Scale(options) => scale::run(&options).await,
        Command::Load { load } => {
            let sample = generator::measure(&load).await?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(true)
        }
        Command::Upstream(options) => upstream::serve(&options).await.map(|()| true),
    }
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
