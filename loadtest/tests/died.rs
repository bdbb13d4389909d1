//! Whole runs with nodes that do not take more, and with nodes that die: the run goes on with what there is, is not good,
//! and leaves nothing behind.

mod common;

use std::fs;

use common::{carry_out, report_in};
use serde_json::Value;

/// More sessions than the only node lets in.
const REFUSED: &str = r#"
name = "refused"
connections = 60
opens_per_second = 30.0
hold = "4s"
[clients]
legacy_sse = 0.5
websocket = 0.5
[calls]
per_second = 10.0
echo = true
[local.gateway]
connections_max = 40
"#;

#[test]
fn a_node_that_takes_no_more_is_not_good_and_the_rest_is_held_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, text) = carry_out(folder.path(), REFUSED, "1");
    assert_eq!(output.status.code(), Some(1), "however busy this machine is: {text}");
    let report = report_in(folder.path());
    let connected = &report["connected"];
    let opened = connected["opened"].as_u64().expect("a count");
    assert!((20..=40).contains(&opened) && connected["asked"] == 60, "{connected}");
    assert!(text.contains(&format!("not good: {opened} of 60 connected, refused with 503 (connections)")), "{text}");
    let whys = connected["not_open"].as_array().expect("reasons");
    // A starved machine may break some connections before the node has said why; all that is left out is counted all the same.
    let sum = |what: &str| whys.iter().filter_map(|why| why[what].as_u64()).sum::<u64>();
    assert_eq!((sum("given_up"), whys[0]["is_said"].as_bool()), (60 - opened, Some(true)), "{connected}");
    assert!(sum("tries") >= 5 * (60 - opened), "{connected}");
    assert_eq!(report["streams_most"], opened, "what is open is held: {text}");
    assert!(text.contains("steady                   call "), "{text}");
    let seconds = report["seconds"].as_array().expect("seconds");
    let of_all = |what: &str| seconds.iter().filter_map(|second| second[what].as_u64()).sum::<u64>();
    let (refused, others) = (of_all("not_let_in"), of_all("not_opened"));
    assert!(refused > 0 && refused + others == 60 - opened, "for the plot: {refused} and {others}");
    let page = fs::read_to_string(folder.path().join("out/report.html")).expect("a page");
    assert!(page.contains("of 60 connected, refused with 503 (connections)"));
}

/// One node of three is killed by somebody else.
const KILLED: &str = r#"
name = "killed"
connections = 20
opens_per_second = 20.0
hold = "6s"
[clients]
legacy_sse = 1.0
[calls]
per_second = 10.0
echo = true
[[faults]]
at = 0.3
kind = "command"
command = ["sh", "-c", """KILL"""]
"#;

/// The shell's own line has the brackets.
const BY_SIGNAL: &str = "kill -9 $(pgrep -f 'FOLDER/nodes/[n]2.yaml')";

/// Takes nearly all that the node's group may take, in another process there; the kernel is told to kill the node for it.
const BY_WANT_OF_MEMORY: &str = r"
group=$(find /sys/fs/cgroup -type d -name enfilade-loadtest-$PPID-n2 -exec test -e {}/memory.stat ';' -print)
echo 1000 > /proc/$(cat $group/cgroup.procs)/oom_score_adj
head -c 120M /dev/zero | GROUP=$group sh -c 'echo $$ > $GROUP/cgroup.procs && exec tail -c 120M > /dev/null'
";

/// The run in which it happens: what it said, and its report; nothing where this machine has no control groups to make.
fn killed(command: &str, more: &str) -> Option<(String, Value)> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path");
    let scenario = format!("{}{more}", KILLED.replace("KILL", command).replace("FOLDER", path));
    let (output, text) = carry_out(folder.path(), &scenario, "3");
    if output.status.code() == Some(2) && text.contains("control group") {
        return None;
    }
    assert_eq!(output.status.code(), Some(1), "however busy this machine is: {text}");
    Some((text, report_in(folder.path())))
}

fn assert_died(text: &str, report: &Value, how: &str, is_oom: bool) {
    let [died] = &report["died"].as_array().expect("nodes")[..] else { panic!("{text}") };
    let said = (died["node"].as_str(), died["how"].as_str(), died["is_oom"].as_bool());
    assert_eq!(said, (Some("n2"), Some(how), Some(is_oom)), "{text}");
    assert!(text.contains("verdict: not good: n2 died in second "), "{text}");
    let marked = format!("n2 died: {how}");
    let mut events = report["events"].as_array().expect("events").iter();
    assert!(events.any(|event| event["text"] == marked.as_str()), "{text}");
}

#[test]
fn a_node_that_dies_is_named_and_the_others_end_with_the_run() {
    let (text, report) = killed(BY_SIGNAL, "").expect("no groups are needed");
    assert_died(&text, &report, "killed by SIGKILL (9)", false);
}

#[test]
fn of_a_node_that_is_killed_for_want_of_memory_it_is_said() {
    let Some((text, report)) = killed(BY_WANT_OF_MEMORY, "[local]\nmemory_max = \"128MiB\"\n") else { return };
    assert_died(&text, &report, "killed by SIGKILL (9), for want of memory", true);
    let held = report["held"].as_array().expect("groups").iter();
    let kills: Vec<u64> = held.filter_map(|node| node["oom_kills"].as_u64()).collect();
    // The other process of its group may go as well.
    assert!(matches!(kills[..], [0, of_n2, 0] if of_n2 > 0), "{kills:?}: {text}");
}
