//! One node as a process: started, killed, asked to end, started again on the same data.
//! It ends with this program whatever happens: killed when dropped, and told by the end of its standard input.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest time for a node to begin to serve.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// Longest time for a node to end when asked to: it hands over and finishes its calls first.
const END_WITHIN: Duration = Duration::from_secs(90);
const LOG_TAIL_CHARS: usize = 2_000;

/// What a node printed about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) link: Option<String>,
    pub(crate) gossip: Option<String>,
    /// The address of its MCP endpoint, once it serves.
    pub(crate) url: Option<String>,
    ended: bool,
}

/// A running node.
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    said: watch::Receiver<Said>,
    log: PathBuf,
    /// Its end tells the node that nobody waits for it any more.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it; what it logs goes to the end of `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let stderr = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        // A group of its own: Ctrl-C ends this program, and that ends the nodes.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).context("no process id")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stdin = child.stdin.take();
        let (sender, said) = watch::channel(Said::default());
        tokio::spawn(listen(stdout, sender));
        Ok(Process { name: name.to_owned(), child, pid: Pid::from_raw(id), said, log: log.to_owned(), _stdin: stdin })
    }

    /// What it has printed when `enough` says so.
    pub(crate) async fn said(&mut self, what: &str, enough: impl Fn(&Said) -> bool) -> Result<Said> {
        let waited = timeout(READY_WITHIN, self.said.wait_for(|said| enough(said) || said.ended)).await;
        // What was seen is copied: it must not be held while the log is read.
        let said = waited.map(|said| said.map(|said| said.clone()));
        let Ok(said) = said else {
            bail!("{}: no {what} within {READY_WITHIN:?}: {}", self.name, self.log_tail());
        };
        let said = said.context("nobody listens")?;
        ensure!(enough(&said), "{} ended before it said its {what}: {}", self.name, self.log_tail());
        Ok(said)
    }

    /// kill -9; it may take a moment until the process is [`gone`](Process::gone).
    pub(crate) fn kill(&self) -> Result<Instant> {
        self.signal(Signal::SIGKILL)?;
        Ok(Instant::now())
    }

    /// Waits until the process is gone.
    pub(crate) async fn gone(mut self) -> Result<()> {
        self.child.wait().await?;
        Ok(())
    }

    /// SIGSTOP, or SIGCONT: it stands still without knowing, or goes on.
    pub(crate) fn stand_still(&self, still: bool) -> Result<()> {
        self.signal(if still { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// Asks it to hand over and end; waits.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match timeout(END_WITHIN, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} did not end within {END_WITHIN:?}: {}", self.name, self.log_tail()),
        }
    }

    /// Asks it to hand over and end, and again `after` that, when it has not ended yet: then it waits for nothing any more.
    /// Returns how long that took.
    pub(crate) async fn end_at_once(mut self, after: Duration) -> Result<Duration> {
        self.signal(Signal::SIGTERM)?;
        ensure!(timeout(after, self.child.wait()).await.is_err(), "{} had nothing to wait for", self.name);
        self.signal(Signal::SIGTERM)?;
        let again = Instant::now();
        match timeout(END_WITHIN, self.child.wait()).await {
            Ok(_) => Ok(again.elapsed()),
            Err(_) => bail!("{} did not end within {END_WITHIN:?}: {}", self.name, self.log_tail()),
        }
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
    // A node must not fail because nobody reads what it prints.
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((word, value)) = line.split_once(' ') else { continue };
        let value = Some(value.to_owned());
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
