//! What a run starts beside the gateway's nodes: folders, pinned commands, and servers that say where they are.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use enfilade_process::Process;
use tokio::process::Command;

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

/// A process that serves MCP.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) endpoint: Endpoint,
}

impl Server {
    /// Starts it, with stderr in `logs/NAME.stderr`, and waits for the line `ready http://ADDRESS/PATH`.
    pub(crate) async fn start(name: &str, command: Command, logs: &Path) -> Result<Self> {
        let process = Process::start(name, command, &logs.join(format!("{name}.stderr")))?;
        Self::ready(process).await
    }

    /// Waits for that line of one that is started.
    pub(crate) async fn ready(mut process: Process) -> Result<Self> {
        let said = process.said("endpoint", |said| said.first("ready").is_some()).await?;
        let endpoint = Endpoint::parse(said.first("ready").unwrap_or_default())?;
        Ok(Self { process, endpoint })
    }

    /// The light upstream.
    pub(crate) async fn upstream(logs: &Path, cores: Cores) -> Result<Self> {
        let mut upstream = command(std::env::current_exe()?, cores);
        upstream.arg("upstream");
        Self::start("upstream", upstream, logs).await
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
