//! Whole runs with real processes: nodes, workers, an upstream; with faults, with sessions that come and go, with overload.

mod common;

use std::fs;
use std::process::Command;

use common::{PROGRAM, carry_out, report_in};
use serde_json::Value;

/// Fifty streams of all kinds; calls, lists, subscriptions and announcements; both faults.
const SCENARIO: &str = r#"
name = "test"
connections = 50
opens_per_second = 50.0
hold = "8s"
[clients]
legacy_sse = 0.4
modern_listen = 0.3
websocket = 0.3
[calls]
per_second = 30.0
echo = true
[lists]
per_second = 3.0
[subscribe]
share = 0.5
uri = "load://news"
per_second = 3.0
other_uri = "load://other"
[notify]
per_second = 1.0
[[faults]]
at = 0.4
kind = "kill_owner"
[[faults]]
at = 0.7
kind = "add_node"
"#;

fn count(report: &Value, operation: &str, what: impl Fn(&Value) -> u64) -> u64 {
    let phases = report["phases"].as_array().expect("phases");
    phases.iter().map(|phase| what(&phase["operations"][operation])).sum()
}

fn offered(report: &Value, operation: &str) -> u64 {
    count(report, operation, |sum| sum["offered"].as_u64().unwrap_or(0))
}

fn ended(report: &Value, operation: &str, outcome: &str) -> u64 {
    count(report, operation, |sum| sum["outcomes"][outcome].as_u64().unwrap_or(0))
}

fn all_ended(report: &Value, operation: &str) -> u64 {
    count(report, operation, |sum| {
        sum["outcomes"].as_object().map_or(0, |all| all.values().filter_map(Value::as_u64).sum())
    })
}

#[test]
fn a_run_is_carried_out_reported_and_cleaned_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let (output, text) = carry_out(folder.path(), SCENARIO, "3");
    // A slow machine may be the bottleneck, or too slow for a limit; what must hold all the same is looked at below.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}");

    let report = report_in(folder.path());
    assert_eq!(report["streams_most"], 50, "{text}");
    assert_eq!((offered(&report, "open"), ended(&report, "open", "ok")), (50, 50), "{text}");
    let kinds = report["seconds"].as_array().expect("seconds").iter();
    let kinds: Vec<&Value> =
        kinds.map(|second| &second["streams"]).filter(|streams| **streams != Value::Null).collect();
    let is_full = |streams: &&Value| (0..3).all(|kind| streams[kind].as_u64().is_some_and(|count| count >= 13));
    assert!(kinds.iter().any(is_full), "all kinds: {kinds:?}");

    // Everything that was due has exactly one outcome.
    for operation in ["call", "list", "subscribe", "notify"] {
        let offered = offered(&report, operation);
        assert!(offered > 0, "{operation}: {text}");
        assert_eq!(all_ended(&report, operation), offered, "{operation}: {text}");
        assert!(ended(&report, operation, "ok") > offered / 2, "{operation}: {text}");
        for never in ["lost", "wrong", "unsent"] {
            assert_eq!(ended(&report, operation, never), 0, "{operation} {never}: {text}");
        }
    }
    assert!(ended(&report, "deliver", "ok") > 0, "{text}");
    assert!(ended(&report, "reopen", "ok") > 0, "the killed node had streams: {text}");
    // Sessions with an id: all are asked at the end.
    assert_eq!(ended(&report, "sweep", "ok"), offered(&report, "sweep"), "{text}");
    assert!((34..=36).contains(&offered(&report, "sweep")), "{text}");

    let events: Vec<&str> =
        report["events"].as_array().expect("events").iter().filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(events, ["owner n3 killed", "n4 added"], "{text}");
    let processes_of = |part: &str| {
        let all = report["processes"].as_array().expect("processes").iter();
        all.filter(|one| one["part"] == part).collect::<Vec<&Value>>()
    };
    let nodes = processes_of("node");
    assert_eq!(nodes.len(), 4, "{text}");
    for name in ["n1", "n2", "n3"] {
        let node = nodes.iter().find(|node| node["name"] == name).expect("a node");
        let sampled = |what: &str| {
            let samples = node["samples"].as_array().expect("samples").iter();
            samples.filter_map(|sample| sample[what].as_u64()).max().unwrap_or(0)
        };
        assert!(
            ["memory_bytes", "descriptors", "threads", "tasks"].iter().all(|what| sampled(what) > 1),
            "{name}: {node}"
        );
    }

    // The page is one file, and made of the JSON alone.
    let page = fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("owner n3 killed") && page.matches("<svg").count() >= 8);
    assert!(["<script", "<link", "src=", "@import"].iter().all(|loads| !page.contains(loads)));
    let again = folder.path().join("again.html");
    let status = Command::new(PROGRAM).arg("report").arg(out.join("report.json")).arg("--out").arg(&again).status();
    assert_eq!(status.expect("it runs").code(), output.status.code(), "the same verdict");
    let again = fs::read_to_string(again).expect("a page");
    let differ = page.lines().zip(again.lines()).find(|(one, other)| one != other);
    assert!(again == page, "made again it is another: {differ:?}");
}

/// Sessions of all kinds, of which five per second end and make room for others.
const CHURN: &str = r#"
name = "churn"
connections = 30
opens_per_second = 30.0
hold = "8s"
[clients]
legacy_sse = 0.4
modern_listen = 0.3
websocket = 0.3
[calls]
per_second = 40.0
echo = true
[churn]
per_second = 5.0
"#;

#[test]
fn sessions_end_without_a_call_that_fails_and_others_take_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, text) = carry_out(folder.path(), CHURN, "1");
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}");
    let report = report_in(folder.path());
    let left = ended(&report, "leave", "ok");
    assert!(left >= 20, "{left} left: {text}");
    assert_eq!(left, offered(&report, "leave"), "{text}");
    assert_eq!(ended(&report, "open", "ok"), offered(&report, "open"), "{text}");
    assert!(offered(&report, "open") >= 30 + left - 5, "{text}");
    assert_eq!(ended(&report, "call", "ok"), offered(&report, "call"), "none is lost to its session's end: {text}");
    // What there is at the end is there, and what has left is not asked.
    assert_eq!(ended(&report, "sweep", "ok"), offered(&report, "sweep"), "{text}");
    assert!(report["seconds"].as_array().expect("seconds").iter().all(|second| {
        second["streams"].as_array().expect("kinds").iter().filter_map(Value::as_u64).sum::<u64>() <= 30
    }));
}

/// One node that may use a tenth of a core, so that its peak is soon found even on a slow machine.
const OVERLOAD: &str = r#"
name = "overload"
connections = 20
opens_per_second = 20.0
hold = "3s"
[clients]
legacy_sse = 0.5
modern_listen = 0.5
[calls]
per_second = 30.0
echo = true
patience = "1s"
[overload]
grow = 3.0
step = "2s"
multiples = [2.0]
each = "3s"
rest_for = "5s"
[local]
cpu_max = 0.1
memory_max = "512MiB"
"#;

#[test]
fn a_node_that_is_held_to_a_quota_gets_more_than_it_can_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let (output, text) = carry_out(folder.path(), OVERLOAD, "1");
    if output.status.code() == Some(2) && text.contains("control group") {
        // Not every machine lets its users make control groups. It says so, and has started no node.
        return;
    }
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{text}");
    let report = report_in(folder.path());
    let overload = &report["overload"];
    let peak = overload["peak_per_second"].as_f64().expect("a peak");
    let steps = overload["steps"].as_array().expect("steps");
    assert!(steps.len() >= 3, "two do not grow: {overload}");
    let best = steps.iter().filter_map(|step| step["ok_per_second"].as_f64()).fold(0.0, f64::max);
    assert!((peak - best).abs() < 1e-6 && peak > 0.0, "{overload}");
    let [multiple] = &overload["multiples"].as_array().expect("multiples")[..] else { panic!("{overload}") };
    let due = multiple["calls"]["offered"].as_f64().expect("calls") / 3.0;
    assert!((peak..3.0 * peak).contains(&due), "about twice the peak: {due} of {peak}: {text}");
    for name in ["search", "steady", "2x", "after 2x"] {
        let phase = report["phases"].as_array().expect("phases").iter().find(|phase| phase["name"] == name);
        assert!(phase.is_some_and(|phase| phase["operations"]["call"]["offered"].as_u64() > Some(0)), "{name}: {text}");
    }
    let [held] = &report["held"].as_array().expect("groups")[..] else { panic!("{text}") };
    assert!(held["throttled"].as_f64() > Some(0.0), "it had used up its CPU: {held}");
    assert!(held["memory_peak_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{held}");
    assert_eq!(held["oom_kills"], 0, "{held}");
    assert!(text.contains("killed for more memory than 512 MiB: 0"), "{text}");
}

#[test]
fn a_host_that_is_not_enough_is_told_before_anything_starts() {
    let output = Command::new(PROGRAM)
        .args(["local", "--connections", "1000000", "--nodes", "3", "--check"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("NOT ENOUGH descriptors of a process"), "{text}");
    assert!(text.contains("ulimit"), "{text}");
}
