//! The gateway's program: parse, load the configuration, compose, wait for the end.

mod allocator;
mod alone;
mod announce;
mod cli;
mod compose;
mod config;
mod configure;
mod data;
mod demo;
mod gateway;
mod health;
mod identity;
mod keys;
mod logging;
mod member;
mod metrics;
mod minting;
mod remote;
mod rescue;
mod serve;
mod up;

use crate::cli::{Cli, Command, LogFormat, NodeOptions, Serve, Sources};
use crate::config::{Config, Problem};
use anyhow::Context;
use clap::Parser;
use enfilade_runtime::Signals;
use std::io::Write;
use std::process::ExitCode;

/// Exit code for a command line or a configuration that cannot be used (`EX_USAGE`).
const USAGE: u8 = 64;

/// Why the program ends with something else than 0.
enum Failure {
    /// Said before any socket is open.
    Configuration(Vec<Problem>),
    /// A node that was started ended with this exit code, after saying why.
    Ended(String, u8),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // It fails only when nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = logging::start(&cli.log, cli.log_format) {
        eprintln!("{error}");
        return ExitCode::from(USAGE);
    }
    match run(cli.command, cli.log, cli.log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Ended(what, code)) => {
            eprintln!("enfilade: {what}");
            ExitCode::from(code)
        }
        Err(Failure::Other(error)) => {
            eprintln!("enfilade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, log: String, log_format: LogFormat) -> Result<(), Failure> {
    match command {
        Command::Up(up) if up.dump_config => dump(&up.sources),
        Command::Up(up) => in_runtime(up::run(up, log, log_format)),
        Command::Serve(serve) => node(serve),
        Command::Keys { out } => Ok(keys::make(&out)?),
        Command::Demo(demo) => in_runtime(demo::run(demo)),
        Command::Backup(options) => in_runtime(rescue::backup(options)),
        Command::Verify { file } => print(&rescue::verify(&file)?),
        Command::Restore { file, data_dir } => in_runtime(rescue::restore(&file, &data_dir)),
        Command::Recover { data_dir, accept_loss_after } => in_runtime(rescue::recover(&data_dir, accept_loss_after)),
        Command::Config(command) => in_runtime(configure::config(command)),
        Command::Finalise(reach) => in_runtime(configure::finalise(reach)),
        Command::Check(sources) => load(&sources).map(|_| ()),
        Command::DumpConfig(sources) => dump(&sources),
        Command::Metrics => print(&metrics::markdown()),
        Command::Schema { markdown: true } => print(&config::markdown()),
        Command::Schema { markdown: false } => print(&format!("{:#}\n", config::schema())),
    }
}

/// One node, from its configuration to its end.
fn node(options: Serve) -> Result<(), Failure> {
    let config = load_node(&options.sources, &options.node, Vec::new())?;
    in_runtime(async move {
        let signals = Signals::catch().context("cannot catch signals")?;
        if options.with_parent {
            serve::end_with_parent()?;
        }
        serve::until_stopped(config, signals, false).await
    })
}

fn load(sources: &Sources) -> Result<Config, Failure> {
    load_with(sources, Vec::new())
}

fn load_with(sources: &Sources, given: Vec<enfilade_upstream::Config>) -> Result<Config, Failure> {
    load_node(sources, &NodeOptions::default(), given)
}

fn load_node(sources: &Sources, node: &NodeOptions, given: Vec<enfilade_upstream::Config>) -> Result<Config, Failure> {
    config::load(sources, node, given, &|name| std::env::var(name).ok()).map_err(Failure::Configuration)
}

fn dump(sources: &Sources) -> Result<(), Failure> {
    let demo = sources.config.is_none() && sources.mcp_json.is_none();
    let config = load_with(sources, if demo { demo::upstreams() } else { Vec::new() })?;
    let text =
        serde_saphyr::to_string(&config::redact(config)).context("the configuration cannot be written as YAML")?;
    print(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")?;
    Ok(())
}

fn in_runtime<E: Into<Failure>>(work: impl Future<Output = Result<(), E>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(work);
    // A read of standard input cannot be taken back; it must not keep the process.
    runtime.shutdown_background();
    result.map_err(Into::into)
}
