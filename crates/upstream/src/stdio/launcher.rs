//! Starts processes: with a minimal environment, in a group of their own, as many as are allowed, and after failures
//! not before a growing wait is over.

use super::orphan;
use super::process::Process;
use super::spawner::Spawner;
use crate::backoff;
use crate::common::Common;
use crate::peer::CallError;
use parking_lot::Mutex;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// What a process gets of the gateway's own environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];
/// A process that lived so long did not fail at its start.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// The wait after the first failure; doubled with each further one.
const RESTART_BASE: Duration = Duration::from_millis(100);
/// The longest wait.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// Who comes so shortly before the wait is over waits; who comes earlier is refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the processes of one upstream.
pub(crate) struct Launcher {
    common: Arc<Common>,
    program: String,
    spawner: Mutex<Option<Spawner>>,
    running: AtomicUsize,
    restarts: Mutex<Restarts>,
}

/// Failures in a row, and when the next start may be.
struct Restarts {
    failures: u32,
    not_before: Instant,
}

impl Launcher {
    pub(crate) fn new(common: Arc<Common>, program: &str) -> Arc<Self> {
        let restarts = Mutex::new(Restarts { failures: 0, not_before: Instant::now() });
        let (spawner, running) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { common, program: program.to_owned(), spawner, running, restarts })
    }

    /// Processes that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Starts one more process.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<Arc<Process>, CallError> {
        let not_before = self.restarts.lock().not_before;
        if not_before > Instant::now() + PATIENCE {
            return Err(CallError::Unreachable);
        }
        let place = Place::take(self)?;
        tokio::time::sleep_until(not_before).await;
        let spawner = self.spawner().map_err(|error| self.failed(&error))?;
        let group = spawner.spawn(self.command()).await.map_err(|error| self.failed(&error))?;
        if self.common.guard.is_closed() {
            return Err(CallError::Closed);
        }
        let started = Instant::now();
        let ended = move |unasked: bool| {
            if unasked {
                place.0.ended(started);
            }
            drop(place);
        };
        Process::new(self.common.clone(), group, spawner, ended).ok_or(CallError::Unreachable)
    }

    fn command(&self) -> Command {
        let config = &self.common.config;
        let mut command = Command::new(&self.program);
        command.args(&config.args).env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&config.env);
        if let Some(folder) = &config.cwd {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        orphan::dies_with_us(&mut command);
        command
    }

    fn spawner(&self) -> std::io::Result<Spawner> {
        let mut spawner = self.spawner.lock();
        match &*spawner {
            Some(spawner) => Ok(spawner.clone()),
            None => Ok(spawner.insert(Spawner::new(&self.common.name)?).clone()),
        }
    }

    fn failed(&self, error: &std::io::Error) -> CallError {
        tracing::warn!(upstream = %self.common.name, %error, program = self.program, "the process cannot be started");
        self.restarts.lock().failed();
        CallError::Unreachable
    }

    /// Counts how a process ended of its own accord: shortly after its start is a failure.
    fn ended(&self, started: Instant) {
        let mut restarts = self.restarts.lock();
        match started.elapsed() >= GOOD_LIFE {
            true => restarts.failures = 0,
            false => restarts.failed(),
        }
    }

    /// A process works: earlier failures do not count any more.
    pub(crate) fn works(&self) {
        self.restarts.lock().failures = 0;
    }
}

impl Restarts {
    fn failed(&mut self) {
        self.failures += 1;
        self.not_before = Instant::now() + backoff::delay(RESTART_BASE, RESTART_MAX, self.failures, backoff::random());
    }
}

/// One of the processes that may run at a time.
struct Place(Arc<Launcher>);

impl Place {
    fn take(launcher: &Arc<Launcher>) -> Result<Self, CallError> {
        let more = |running: usize| (running < launcher.common.config.processes_max).then_some(running + 1);
        launcher.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| CallError::Busy)?;
        Ok(Self(launcher.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}
