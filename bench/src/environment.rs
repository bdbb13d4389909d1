//! Where and with what a run was made; what cannot be found out is left empty, never a reason to fail.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

/// A program that does not tell its version within this time has none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The circumstances of a run.
#[derive(Serialize)]
pub(crate) struct Environment {
    /// Short commit; `-dirty` when tracked files differ, `nocommit` outside a repository.
    pub(crate) commit: String,
    pub(crate) cpu_model: Option<String>,
    pub(crate) cores: usize,
    pub(crate) memory_kib: Option<u64>,
    pub(crate) kernel: Option<String>,
    /// Load of the machine before the run: other work beside it makes the figures doubtful.
    pub(crate) load_average_before: Option<String>,
    pub(crate) versions: Versions,
}

#[derive(Serialize)]
pub(crate) struct Versions {
    pub(crate) bench: &'static str,
    pub(crate) gateway: Option<String>,
    pub(crate) nginx: Option<String>,
    pub(crate) rustc: Option<String>,
    pub(crate) taskset: Option<String>,
}

impl Environment {
    /// Looks at this machine, at nginx and at the gateway.
    pub(crate) async fn read(nginx: &Path, gateway: Option<&Path>) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let trimmed = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        Self {
            commit: commit().await,
            cpu_model: field(&cpuinfo, "model name").map(str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: field(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()),
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            load_average_before: trimmed("/proc/loadavg"),
            versions: Versions {
                bench: env!("CARGO_PKG_VERSION"),
                gateway: match gateway {
                    Some(gateway) => first_line(Command::new(gateway).arg("--version")).await,
                    None => None,
                },
                nginx: first_line(Command::new(nginx).arg("-v")).await,
                rustc: first_line(Command::new("rustc").arg("--version")).await,
                taskset: first_line(Command::new("taskset").arg("--version")).await,
            },
        }
    }
}

/// The value of `name : value` in a file of such lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
}

async fn commit() -> String {
    let head = first_line(Command::new("git").args(["rev-parse", "--short=10", "HEAD"])).await;
    let Some(commit) = head else {
        return "nocommit".into();
    };
    let changes = first_line(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"])).await;
    if changes.is_some() { format!("{commit}-dirty") } else { commit }
}

/// The first line that a successful command prints; nginx prints its version on stderr.
async fn first_line(command: &mut Command) -> Option<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 167\nmodel name\t: Some CPU\nMemTotal:       123 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "MemTotal"), Some("123 kB"));
        assert_eq!(field(text, "name"), None);
    }

    #[tokio::test]
    async fn a_failing_command_says_nothing() {
        assert_eq!(first_line(&mut Command::new("false")).await, None);
        let two_lines = first_line(Command::new("echo").arg("one\ntwo")).await;
        assert_eq!(two_lines, Some("one".into()));
    }
}
