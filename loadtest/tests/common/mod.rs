//! Starts a whole run, and looks what is left of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_enfilade-loadtest");

/// The gateway, which cargo puts beside this package's program when it builds the workspace.
fn gateway() -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name("enfilade");
    assert!(path.is_file(), "{} is missing: cargo build -p enfilade", path.display());
    path
}

/// Processes whose command line names the folder.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder.to_str().expect("a path");
    let all = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let lines = all.filter_map(|one| fs::read_to_string(one.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(name)).map(|line| line.replace('\0', " ")).collect()
}

/// Carries a scenario out in a folder; how it ended, and what it said. It leaves neither a process nor a control group.
pub fn carry_out(folder: &Path, scenario: &str, nodes: &str) -> (Output, String) {
    let file = folder.join("s.toml");
    fs::write(&file, scenario).expect("a file");
    let mut command = Command::new(PROGRAM);
    command.arg("local").arg("--gateway").arg(gateway()).arg("--scenario").arg(&file);
    command.args(["--nodes", nodes, "--workers", "2", "--force"]);
    command.arg("--out").arg(folder.join("out")).arg("--keep").arg(folder.join("nodes"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(processes(folder), Vec::<String>::new(), "nothing is left: {text}");
    assert_eq!(groups(pid), Vec::<PathBuf>::new(), "nor a group: {text}");
    (output, text)
}

pub fn report_in(folder: &Path) -> Value {
    let json = fs::read_to_string(folder.join("out/report.json")).expect("a report");
    serde_json::from_str(&json).expect("JSON")
}

/// Control groups of the run that had this id.
fn groups(pid: u32) -> Vec<PathBuf> {
    fn below(folder: &Path, depth: u32, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() || path.is_symlink() {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(path);
            } else if depth > 0 {
                below(&path, depth - 1, prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 4, &format!("enfilade-loadtest-{pid}-"), &mut found);
    found
}
