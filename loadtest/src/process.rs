//! A process that this program started: what it says of itself, and its end. It ends with this program whatever happens:
//! killed when dropped, and told by the end of its standard input.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest time for a process to say what is waited for.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for a process to end when asked to.
const END_WITHIN: Duration = Duration::from_secs(90);
const LOG_TAIL_CHARS: usize = 2_000;

/// The words that programs print before a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) link: Option<String>,
    pub(crate) gossip: Option<String>,
    pub(crate) url: Option<String>,
    ended: bool,
}

/// A running process.
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    said: watch::Receiver<Said>,
    log: PathBuf,
    /// Its end tells the process that nobody waits for it any more.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it; what it logs goes to the end of `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let stderr = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        // A group of its own: Ctrl-C ends this program, and that ends the others.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).context("no process id")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stdin = child.stdin.take();
        let (sender, said) = watch::channel(Said::default());
        tokio::spawn(listen(stdout, sender));
        Ok(Process { name: name.to_owned(), child, pid: Pid::from_raw(id), said, log: log.to_owned(), _stdin: stdin })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has printed once `enough` says so.
    pub(crate) async fn said(&mut self, what: &str, enough: impl Fn(&Said) -> bool) -> Result<Said> {
        let waited = timeout(READY_WITHIN, self.said.wait_for(|said| enough(said) || said.ended)).await;
        let said = waited.map(|said| said.map(|said| said.clone()));
        let Ok(said) = said else {
            bail!("{}: no {what} within {READY_WITHIN:?}: {}", self.name, self.log_tail());
        };
        let said = said.context("nobody listens")?;
        ensure!(enough(&said), "{} ended before it said its {what}: {}", self.name, self.log_tail());
        Ok(said)
    }

    /// kill -9, and its end.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Asks it to end; kills it when it does not.
    pub(crate) async fn end(mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            bail!("{} did not end within {END_WITHIN:?}: {}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// It still runs.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} ended: {ended:?}: {}", self.name, self.log_tail());
        Ok(())
    }

    /// It has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // A process that was waited for has no id any more, which might be somebody else's by now.
        ensure!(self.child.id().is_some(), "{} has ended: {}", self.name, self.log_tail());
        kill(self.pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let skip = text.chars().count().saturating_sub(LOG_TAIL_CHARS);
        text.chars().skip(skip).collect()
    }
}

async fn listen(stdout: ChildStdout, said: watch::Sender<Said>) {
    let mut lines = BufReader::new(stdout).lines();
    // A process must not fail because nobody reads what it prints.
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((word, value)) = line.split_once(' ') else { continue };
        let value = Some(value.trim().to_owned());
        said.send_if_modified(|said| {
            match word {
                "link" => said.link = value,
                "gossip" => said.gossip = value,
                "ready" if said.url.is_none() => said.url = value,
                _ => return false,
            }
            true
        });
    }
    said.send_modify(|said| said.ended = true);
}

/// Waits for the end of standard input, which the program that started this one holds open; for ever without one.
pub(crate) async fn parent_gone(with_parent: bool) {
    if !with_parent {
        return std::future::pending().await;
    }
    let (mut input, mut byte) = (tokio::io::stdin(), [0]);
    while matches!(input.read(&mut byte).await, Ok(1)) {}
}
