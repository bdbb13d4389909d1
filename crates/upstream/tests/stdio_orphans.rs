//! No process outlives its connector, however stubborn it is and however the gateway ends.

mod support;

use enfilade_upstream::{CallError, Config, EraChoice};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::*;

fn runs(pid: &str) -> bool {
    // One that nobody has waited for yet is dead all the same.
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_shutdown_takes_the_children_of_processes_along() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let (pid, child) = (result_of(&*peer, "pid", "{}").await, result_of(&*peer, "child", "{}").await);
    assert!(runs(&pid) && runs(&child));
    connector.shutdown().await;
    assert!(!runs(&pid));
    until("its child is gone", || !runs(&child)).await;
}

#[tokio::test]
async fn a_stubborn_process_is_killed() {
    let script = "trap '' TERM; while :; do read line || sleep 1; done";
    let mut config = Config::stdio("stubborn", "sh", ["-c".to_owned(), script.to_owned()]);
    (config.era, config.deadline_ms) = (EraChoice::Legacy, 100);
    let connector = connector(config);
    assert_eq!(connector.open(&hello()).await.err(), Some(CallError::Lost));
    assert_eq!(connector.processes(), 1);
    until("it is killed", || connector.processes() == 0).await;
}

#[test]
fn a_killed_gateway_leaves_no_orphan() {
    let mut gateway =
        Command::new(example("holder")).arg(example("scripted")).arg("--deaf").stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(gateway.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let pid = pid.trim().to_owned();
    assert!(runs(&pid), "{pid}");
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(until("the process is gone", || !runs(&pid)));
}
