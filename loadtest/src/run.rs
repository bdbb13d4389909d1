//! A run against a cluster that is there already, with workers started here or elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use enfilade_process::Process;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::cli::RunOptions;
use crate::conductor::{self, FAULTS_MAX, Hands, Setup, Told};
use crate::coordinator;
use crate::limits::{self, Size};
use crate::report::{self, Verdict};
use crate::scenario::{Fault, FaultKind, Scenario};
use crate::timeline::{Ended, Part, Watched};

/// Longest time for a worker to end that has said all that it has to say.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// Worker processes of this machine.
pub(crate) struct Workers(Vec<(String, Process)>);

impl Workers {
    /// Starts them; they reach the coordinator at an address of this machine. `source`: what each connects from.
    pub(crate) fn start(
        program: &Path,
        coordinator: SocketAddr,
        count: usize,
        logs: &Path,
        source: impl Fn(usize) -> Option<IpAddr>,
    ) -> Result<Workers> {
        let start = |index: usize| {
            let name = format!("w{index}");
            let mut command = Command::new(program);
            command.args(["worker", "--with-parent", "--name", &name, "--coordinator", &coordinator.to_string()]);
            if let Some(source) = source(index) {
                command.args(["--source", &source.to_string()]);
            }
            let process = Process::start(&name, command, &logs.join(format!("{name}.log")))?;
            Ok((name, process))
        };
        (0..count).map(start).collect::<Result<_>>().map(Workers)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// When a run fails, the reason often is what a worker said last.
    pub(crate) fn check_after<T>(&mut self, led: &Result<T>) -> Result<()> {
        if led.is_err() {
            self.0.iter_mut().try_for_each(|(_, process)| process.check_alive())?;
        }
        Ok(())
    }

    /// Waits for their ends, which come by themselves.
    pub(crate) async fn end(self) -> Result<()> {
        for (name, mut process) in self.0 {
            let status = process.ended(ENDED_WITHIN).await?;
            ensure!(status.success(), "worker {name} ended with {status}");
        }
        Ok(())
    }
}

/// Carries it out.
pub(crate) async fn run(options: &RunOptions) -> Result<Verdict> {
    let scenario = Scenario::load(&options.scenario)?.with(&options.common)?;
    if let Some(fault) = scenario.faults.iter().find(|fault| fault.kind != FaultKind::Command) {
        bail!("{:?} is for `local`: here faults are commands", fault.kind);
    }
    limits::raise_descriptors()?;
    let size = Size::new(scenario.connections, limits::descriptors()?, None, None);
    let count = options.workers.map_or_else(|| usize::try_from(size.workers), Ok)?;
    ensure!(count > 0, "there must be a worker");
    let (address, heard) = coordinator::start(options.listen).await?;
    let logs = tempfile::tempdir().context("no temporary folder")?;
    let own = std::env::current_exe().context("this program's path is not known")?;
    let here = if options.external { 0 } else { count };
    eprintln!("workers connect to {address}");
    let mut workers = Workers::start(&own, reached(address), here, logs.path(), |_| None)?;
    let watched = watched(options)?;
    let (hands, done) = commands();
    let done = spawn_local(done);
    let targets = options.targets.clone();
    let setup = Setup { scenario: scenario.clone(), workers: count, targets, watched, heard, hands };
    let led = conductor::lead(setup).await;
    workers.check_after(&led)?;
    let seen = led?;
    done.await.context("the commands are gone")?;
    // Somebody who names processes of this machine says that the gateway is here.
    let report = report::build(scenario, seen, Ended::default(), !options.pids.is_empty());
    report.write(&options.common.out)?;
    workers.end().await?;
    Ok(report.verdict)
}

fn watched(options: &RunOptions) -> Result<Vec<Watched>> {
    let of = |name: &str| options.health.iter().find(|(known, _)| known == name).map(|(_, address)| *address);
    let named =
        |(name, pid): &(String, i32)| Watched { name: name.clone(), part: Part::Node, pid: *pid, health: of(name) };
    let watched: Vec<Watched> = options.pids.iter().map(named).collect();
    for (name, _) in &options.health {
        ensure!(watched.iter().any(|one| one.name == *name), "--health {name}: there is no --pid {name}");
    }
    Ok(watched)
}

/// Where workers of this machine find a coordinator that listens everywhere.
fn reached(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}

fn commands() -> (Hands, impl Future<Output = ()>) {
    let (faults, mut asked) = mpsc::channel::<Fault>(FAULTS_MAX);
    let (tells, told) = mpsc::channel(FAULTS_MAX);
    let work = async move {
        while let Some(fault) = asked.recv().await {
            let began = Instant::now();
            let text = command(&fault).await.unwrap_or_else(|error| format!("failed: {error:#}"));
            if tells.send(Told { fault: Some(fault.kind), began, text, targets: None, watched: None }).await.is_err() {
                return;
            }
        }
    };
    (Hands { faults, told }, work)
}

/// Runs the command of a fault to its end; says what it was.
pub(crate) async fn command(fault: &Fault) -> Result<String> {
    let Some((program, arguments)) = fault.command.split_first() else { bail!("there is no command") };
    let text = fault.command.join(" ");
    let done = Command::new(program).args(arguments).kill_on_drop(true).output().await;
    let output = done.with_context(|| format!("cannot run {text}"))?;
    ensure!(output.status.success(), "{text}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
