//! Child processes of a run: started, waited for until they serve, ended with SIGTERM whatever happens.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Longest time for a process to begin to serve, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);
const STDERR_TAIL_CHARS: usize = 2_000;

/// A folder that is gone when the run is over.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes a fresh folder for this process.
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("enfilade-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing can be done about a folder that stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a process may run, as `taskset` takes it.
#[derive(Clone, Copy)]
pub(crate) enum Cores {
    Any,
    Only(usize),
}

/// A command, pinned if wanted. `taskset` executes it in its own place, so the process id is the command's.
pub(crate) fn command(program: impl AsRef<OsStr>, cores: Cores) -> Command {
    match cores {
        Cores::Any => Command::new(program),
        Cores::Only(core) => {
            let mut command = Command::new("taskset");
            command.arg("--cpu-list").arg(core.to_string()).arg(program);
            command
        }
    }
}

/// A running server. Dropping it sends SIGTERM, not SIGKILL, which would leave nginx's workers behind.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    pid: i32,
    stderr: PathBuf,
    /// Held open: a server must not fail because nobody reads what it prints.
    stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Server {
    /// Starts it, with stderr in `logs/NAME.stderr`.
    pub(crate) fn start(name: &'static str, mut command: Command, logs: &Path) -> Result<Self> {
        let stderr = logs.join(format!("{name}.stderr"));
        let file = fs::File::create(&stderr)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).context("no process id")?;
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { name, child, pid, stderr, stdout })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the line `ready http://ADDRESS/PATH` on its stdout.
    pub(crate) async fn ready(&mut self) -> Result<Endpoint> {
        Ok(self.all_ready(1).await?.swap_remove(0))
    }

    /// Waits for `count` such lines.
    pub(crate) async fn all_ready(&mut self, count: usize) -> Result<Vec<Endpoint>> {
        let mut lines = self.stdout.take().context("stdout was taken")?;
        let found = async {
            let mut endpoints = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix("ready ") {
                    endpoints.push(Endpoint::parse(url)?);
                }
                if endpoints.len() == count {
                    return Ok(endpoints);
                }
            }
            bail!("it ended before it was ready")
        };
        let result = timeout(PATIENCE, found).await.unwrap_or_else(|_| bail!("not ready within {PATIENCE:?}"));
        tokio::task::spawn_local(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        result.with_context(|| format!("{}: {}", self.name, self.stderr_tail()))
    }

    /// Waits until something accepts at `address`; for servers that print nothing.
    pub(crate) async fn accepts(&mut self, address: SocketAddr) -> Result<()> {
        let accepted = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("ended: {status}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        let result = timeout(PATIENCE, accepted).await.unwrap_or_else(|_| bail!("not ready within {PATIENCE:?}"));
        result.with_context(|| format!("{}: {}", self.name, self.stderr_tail()))
    }

    /// Whether it still runs.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} ended: {ended:?}: {}", self.name, self.stderr_tail());
        Ok(())
    }

    /// Asks it to end and waits.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.check_alive()?;
        self.terminate();
        let status = timeout(PATIENCE, self.child.wait()).await;
        ensure!(status.is_ok(), "{} did not end within {PATIENCE:?}", self.name);
        Ok(())
    }

    fn terminate(&mut self) {
        // A reaped child's id may belong to another process by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        }
    }

    fn stderr_tail(&self) -> String {
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let skip = text.chars().count().saturating_sub(STDERR_TAIL_CHARS);
        text.chars().skip(skip).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// Address and path of an MCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
}

impl Endpoint {
    fn parse(url: &str) -> Result<Self> {
        let rest = url.trim().strip_prefix("http://").with_context(|| format!("no http URL: {url}"))?;
        let (address, path) = rest.split_once('/').with_context(|| format!("no path: {url}"))?;
        let address = address.parse().with_context(|| format!("no address and port: {url}"))?;
        Ok(Self { address, path: format!("/{path}") })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        let endpoint = Endpoint::parse("http://127.0.0.1:81/mcp\n").expect("parse");
        assert_eq!(endpoint.url(), "http://127.0.0.1:81/mcp");
        assert!(Endpoint::parse("https://127.0.0.1:81/mcp").is_err());
        assert!(Endpoint::parse("http://127.0.0.1/mcp").is_err());
    }
}
