//! `enfilade-loadtest`: many clients of both eras that hold streams and call at a rate of their own, not the server's.
//!
//! One coordinator tells worker processes what to do and adds up what they saw; faults happen while streams are held.
//! It reaches the gateway over the network only. A run in which the generator was the bottleneck is never called good.

mod address;
mod cli;
mod clock;
mod conductor;
mod console;
mod coordinator;
mod http;
mod limits;
mod local;
mod outcome;
mod refusal;
mod report;
mod run;
mod scenario;
mod schedule;
mod tally;
mod tasks;
mod timeline;
mod upstream;
mod wire;
mod worker;

/// Generated from `proto/loadtest.proto`.
#[expect(unreachable_pub, reason = "generated")]
mod proto {
    tonic::include_proto!("enfilade.loadtest.v1");
}

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};
use crate::report::Verdict;

/// Exit code of a run that was carried out, in which something was above a limit.
const EXIT_NOT_GOOD: u8 = 1;
/// Exit code of a run that could not be carried out.
const EXIT_FAILED: u8 = 2;
/// Exit code of a run that says nothing about the gateway, because the generator or its host had no more to give.
const EXIT_GENERATOR: u8 = 3;

fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::NotGood) => ExitCode::from(EXIT_NOT_GOOD),
        Ok(Verdict::GeneratorLimited) => ExitCode::from(EXIT_GENERATOR),
        Err(error) => {
            eprintln!("enfilade-loadtest: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn start(command: Command) -> Result<Verdict> {
    // One thread: what is measured is measured where it happens, and a worker's limit is one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let tasks = tokio::task::LocalSet::new();
    let done = tasks.block_on(&runtime, async {
        // Leaving through this select drops what runs, and dropping a process kills it.
        tokio::select! {
            done = dispatch(command) => done,
            () = interrupted() => anyhow::bail!("interrupted"),
        }
    });
    // A thread may still wait for standard input: nobody waits for that thread.
    runtime.shutdown_background();
    done
}

async fn dispatch(command: Command) -> Result<Verdict> {
    match command {
        Command::Run(options) => run::run(&options).await,
        Command::Local(options) => local::run(&options).await,
        Command::Worker(options) => worker::run(&options).await.map(|()| Verdict::Good),
        Command::Upstream { listen, with_parent } => upstream::serve(listen, with_parent).await.map(|()| Verdict::Good),
        Command::Report { file, out } => report::render_again(&file, out.as_deref()),
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
