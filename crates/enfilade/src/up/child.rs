//! One node as a process: what it says, and how it is told to stop.
//! Rule: it lives no longer than this process. It holds the other end of its standard input, which ends with us.

use crate::cli::LogFormat;
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A longer line of a log is shown as several.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How long the last words of a dead process are waited for: whoever it started may keep its output open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How nodes are started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
}

/// What a node says of itself, and its end.
#[derive(Debug)]
pub(super) enum Event {
    Link(SocketAddr),
    Gossip(SocketAddr),
    Ready(String),
    Ended(Option<ExitStatus>),
}

/// An event, with the node and the start that it is from.
pub(super) type Told = (usize, u64, Event);

/// A running node. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: u32,
    /// Held open, and never written to.
    _stdin: ChildStdin,
    /// Owns the process; ends with it.
    watch: tokio::task::JoinHandle<()>,
}

impl Child {
    /// Starts a node whose events go to `told`, marked with `node` and `start`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn start(
        program: &Program,
        file: &Path,
        name: &str,
        (node, start): (usize, u64),
        told: mpsc::Sender<Told>,
    ) -> anyhow::Result<Self> {
        let format = match program.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let arguments = ["--log", &program.log, "--log-format", format, "serve", "--with-parent", "--config"];
        let mut command = Command::new(&program.path);
        command.args(arguments).arg(AsRef::<OsStr>::as_ref(file));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own: Ctrl-C is for us, and we stop the nodes in order.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        let pid = child.id().context("the process has no id")?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            anyhow::bail!("the process has no pipes");
        };
        let prefix = match program.log_format {
            LogFormat::Text => format!("{name} | "),
            LogFormat::Json => String::new(),
        };
        // Ends with the pipe.
        tokio::spawn(forward(stderr, prefix));
        let watch = tokio::spawn(watch(child, BufReader::new(stdout).lines(), node, start, told));
        Ok(Self { pid, _stdin: stdin, watch })
    }

    /// Asks it to stop in order; asked again, it stops at once.
    pub(super) fn terminate(&self) {
        let Ok(pid) = i32::try_from(self.pid) else { return };
        // Gone already: its end is told anyway.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Tells what the process says until it has ended.
async fn watch(
    mut child: tokio::process::Child,
    mut lines: Lines<BufReader<ChildStdout>>,
    node: usize,
    start: u64,
    told: mpsc::Sender<Told>,
) {
    let ended = loop {
        tokio::select! {
            biased;
            line = lines.next_line() => match line {
                Ok(Some(line)) => tell(&told, node, start, &line).await,
                _ => break child.wait().await,
            },
            ended = child.wait() => {
                while let Ok(Ok(Some(line))) = timeout(LAST_WORDS, lines.next_line()).await {
                    tell(&told, node, start, &line).await;
                }
                break ended;
            }
        }
    };
    // Nobody listens any more: then nobody waits for it.
    let _ = told.send((node, start, Event::Ended(ended.ok()))).await;
}

async fn tell(told: &mpsc::Sender<Told>, node: usize, start: u64, line: &str) {
    let event = match line.split_once(' ') {
        Some(("link", address)) => address.parse().ok().map(Event::Link),
        Some(("gossip", address)) => address.parse().ok().map(Event::Gossip),
        Some(("ready", url)) => Some(Event::Ready(url.to_owned())),
        // Nobody between the nodes asks there.
        Some(("health", _)) => return,
        _ => None,
    };
    match event {
        Some(event) => drop(told.send((node, start, event)).await),
        None => tracing::warn!(node = node + 1, line, "the node says what is not understood"),
    }
}

/// Shows a node's log under its name.
async fn forward(stderr: ChildStderr, prefix: String) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) => line.push(b'\n'),
        }
        // A terminal that went away is no reason to stop.
        let _ = std::io::stderr().lock().write_all(&line);
    }
}
