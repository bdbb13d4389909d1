//! Upstreams that die and come back, under load, with real processes (F6, F7); sessions that expire (S3).

mod common;

use common::client::{Client, KINDS, Kind, initialize, text_of};
use common::load::{Load, Record, Tally};
use common::wire::{Wire, until};
use common::{Folder, Server, Signal, send};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A demo server at an address, or at one that the system chooses.
fn demo(name: &str, era: &str, address: &str) -> Server {
    Server::start(&["--log", "off", "demo", "--listen", address, "--era", era, "--name", name])
}

const ANYWHERE: &str = "127.0.0.1:0";

/// A gateway with this configuration.
fn gateway(folder: &Folder, yaml: &str) -> Server {
    let file = folder.file("c.yaml", &format!("listen: [{{address: \"{ANYWHERE}\"}}]\n{yaml}"));
    Server::start(&["--log", "off", "up", "--nodes", "1", "--config", &file, "--data-dir", &folder.text("data")])
}

/// Counts the announcements of changed tools that a client hears on a stream.
struct Ear {
    heard: Arc<Tally>,
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Ear {
    fn of(client: &Client) -> Self {
        let mut events = client.listen();
        let (heard, stream) = (Arc::new(Tally::default()), events.handle());
        let tally = heard.clone();
        let thread = std::thread::spawn(move || {
            while let Some(message) = events.next() {
                if message["method"] == "notifications/tools/list_changed" {
                    tally.add();
                }
            }
        });
        Self { heard, stream, thread }
    }

    fn close(self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.thread.join().expect("no panic");
    }
}

/// A client of each era, with its ear.
fn listeners(url: &str) -> Vec<(Kind, Client, Ear)> {
    let open = |kind| {
        let client = Client::new(kind, url);
        let ear = Ear::of(&client);
        (kind, client, ear)
    };
    KINDS.into_iter().map(open).collect()
}

/// Waits until every client sees, or does not see, tools with this prefix, and has heard of the change.
fn changed(listeners: &mut [(Kind, Client, Ear)], prefix: &str, there: bool, change: impl FnOnce()) -> Duration {
    let before: Vec<u64> = listeners.iter().map(|(_, _, ear)| ear.heard.count()).collect();
    let began = Instant::now();
    change();
    for ((kind, client, ear), before) in listeners.iter_mut().zip(before) {
        let what = format!("{kind:?} client: tools of {prefix} there: {there}");
        ear.heard.wait(&what, before + 1);
        until(&what, || client.tools().iter().any(|name| name.starts_with(prefix)) == there);
    }
    began.elapsed()
}

#[test]
fn one_of_five_upstreams_dies_and_returns_and_the_others_never_fail() {
    let folder = Folder::new();
    let eras = [("a", "legacy"), ("b", "modern"), ("c", "legacy"), ("d", "modern")];
    let mut demos: Vec<_> = eras.iter().map(|(name, era)| Some(demo(name, era, ANYWHERE))).collect();
    let mut yaml = "limits: {health_interval_ms: 500}\nupstreams:\n".to_owned();
    for ((name, _), demo) in eras.iter().zip(demos.iter().flatten()) {
        yaml.push_str(&format!("  - {{name: {name}, url: \"{}\"}}\n", demo.url));
    }
    let binary = env!("CARGO_BIN_EXE_enfilade");
    yaml.push_str(&format!("  - {{name: e, command: \"{binary}\", args: [\"--log\", \"off\", demo, --stdio]}}\n"));
    let gateway = gateway(&folder, &yaml);
    let mut listeners = listeners(&gateway.url);
    for name in ["a__", "b__", "c__", "d__", "e__"] {
        for (_, client, _) in &mut listeners {
            until(name, || client.tools().iter().any(|tool| tool.starts_with(name)));
        }
    }
    // One of each era dies in turn.
    for victim in [0, 1] {
        let prefix = format!("{}__", eras[victim].0);
        let others: Vec<_> = ["a__", "b__", "c__", "d__", "e__"].into_iter().filter(|name| *name != prefix).collect();
        let load = Load::start(&gateway.url, 2, &others);
        load.proceed("before", 12);
        let address = demos[victim].as_ref().expect("it runs").address().to_owned();
        let vanished = changed(&mut listeners, &prefix, false, || drop(demos[victim].take()));
        load.proceed("while it is down", 12);
        let (name, era) = eras[victim];
        let returned = changed(&mut listeners, &prefix, true, || demos[victim] = Some(demo(name, era, &address)));
        load.proceed("after", 12);
        let calls = load.stop();
        let wrong: Vec<&Value> = calls.iter().filter_map(|call| call.wrong.as_ref()).collect();
        println!(
            "one of five ({era}): gone from the lists after {vanished:?}, back after {returned:?}; {} calls of the others, {} errors",
            calls.len(),
            wrong.len()
        );
        assert!(wrong.is_empty(), "{wrong:?}");
        for (_, client, _) in &mut listeners {
            assert_eq!(client.text(&format!("{prefix}echo"), json!({"text": "back"})), "back");
        }
    }
    listeners.into_iter().for_each(|(_, _, ear)| ear.close());
    assert_eq!(gateway.stop(), 0);
}

/// What an error of a call may be while its upstream is down.
#[derive(Debug, PartialEq)]
enum Excuse {
    /// Sent before the upstream died; nobody knows whether it was executed.
    InFlight,
    /// Not executed; may be sent again.
    Refused,
}

fn excuse(answer: &Value) -> Excuse {
    let error = &answer["error"];
    assert_eq!(error["data"]["fault"], "upstream", "{answer}");
    let unknown = error["message"].as_str().is_some_and(|text| text.contains("outcome is unknown"));
    assert_ne!(error["data"]["retry"] == true, unknown, "either it may be retried or nobody knows: {answer}");
    if unknown { Excuse::InFlight } else { Excuse::Refused }
}

/// A little less than the default of `upstream_wait_ms`.
const UPSTREAM_WAIT: Duration = Duration::from_millis(2_900);

/// When an upstream was away.
struct Outage {
    /// Just before it was killed.
    killed: Instant,
    /// It had died.
    dead: Instant,
    /// It served again.
    ready: Instant,
}

impl Outage {
    /// Judges all calls: an error is excused by having been in flight when the upstream died, or by having waited for
    /// its return as long as it may.
    fn judge(&self, what: &str, calls: &[Record]) {
        let (mut in_flight, mut refused, mut otherwise) = (0, 0, Vec::new());
        for call in calls {
            let Some(answer) = &call.wrong else { continue };
            match excuse(answer) {
                Excuse::InFlight if call.began < self.dead && call.ended > self.killed => in_flight += 1,
                Excuse::Refused if call.began < self.ready && call.ended - call.began > UPSTREAM_WAIT => refused += 1,
                _ => otherwise.push((call.began.saturating_duration_since(self.killed), answer)),
            }
        }
        let slowest = calls.iter().map(|call| call.ended - call.began).max().unwrap_or_default();
        println!(
            "{what}: {} calls, {in_flight} in flight when it died, {refused} refused while it was away for {:?}, \
             {} errors otherwise, slowest call {slowest:?}",
            calls.len(),
            self.ready - self.killed,
            otherwise.len()
        );
        assert!(otherwise.is_empty(), "{what}: {otherwise:?}");
    }
}

/// Kills the only upstream under load and starts it again at the same port.
fn restarted_under_load(era: &str) {
    let folder = Folder::new();
    let first = demo("only", era, ANYWHERE);
    let gateway = gateway(&folder, &format!("upstreams: [{{name: only, url: \"{}\"}}]\n", first.url));
    let load = Load::start(&gateway.url, 4, &[""]);
    // Certainly in flight when the upstream dies.
    let hanging: Vec<_> = KINDS.iter().map(|kind| hang(Client::new(*kind, &gateway.url))).collect();
    let mut witness = Client::new(Kind::Modern, &gateway.url);
    until("the calls reach the upstream", || {
        let counts: Value = serde_json::from_str(&witness.text("counts", json!({}))).expect("JSON");
        counts["calls"]["hang"] == hanging.len()
    });
    load.proceed("before", 20);

    let address = first.address().to_owned();
    let killed = Instant::now();
    drop(first);
    let dead = Instant::now();
    let second = demo("only", era, &address);
    let outage = Outage { killed, dead, ready: Instant::now() };
    load.proceed("after", 20);
    outage.judge(&format!("{era} upstream restarted under load"), &load.stop());
    for call in hanging {
        assert_eq!(excuse(&call.join().expect("an answer")), Excuse::InFlight);
    }
    assert_eq!(gateway.stop(), 0);
    assert_eq!(second.stop(), 0);
}

fn hang(mut client: Client) -> JoinHandle<Value> {
    std::thread::spawn(move || client.call("hang", json!({})))
}

#[test]
fn a_legacy_upstream_restarts_under_load() {
    restarted_under_load("legacy");
}

#[test]
fn a_modern_upstream_restarts_under_load() {
    restarted_under_load("modern");
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("the processes").filter_map(Result::ok);
    let processes = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // State and parent follow the name, which is in parentheses and may hold anything.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    processes.filter(|process| parent(process) == Some(pid)).collect()
}

#[test]
fn processes_that_die_under_load_are_started_again() {
    for era in ["legacy", "modern"] {
        let folder = Folder::new();
        let arguments = format!("[\"--log\", \"off\", demo, --stdio, --era, {era}]");
        let binary = env!("CARGO_BIN_EXE_enfilade");
        let gateway =
            gateway(&folder, &format!("upstreams: [{{name: only, command: \"{binary}\", args: {arguments}}}]\n"));
        let load = Load::start(&gateway.url, 2, &[""]);
        load.proceed("before", 20);
        let processes = children(gateway.pid());
        assert!(!processes.is_empty());
        let killed = Instant::now();
        processes.iter().for_each(|process| send(*process, Signal::SIGKILL));
        // Reaped by the gateway.
        until("they are gone", || !children(gateway.pid()).iter().any(|process| processes.contains(process)));
        let dead = Instant::now();
        load.proceed("after", 20);
        // Who starts them again is the gateway: nobody else is waited for.
        let what = format!("{} processes of a {era} upstream killed under load", processes.len());
        Outage { killed, dead, ready: dead }.judge(&what, &load.stop());
        assert_eq!(gateway.stop(), 0);
    }
}

/// A gateway that lets one principal have two sessions.
fn limited(folder: &Folder, idle_ms: u64) -> (Server, Server) {
    let demo = demo("only", "both", ANYWHERE);
    let limits = format!("{{session_idle_ms: {idle_ms}, sessions_per_principal_max: 2}}");
    let yaml = format!("limits: {limits}\nupstreams: [{{name: only, url: \"{}\"}}]\n", demo.url);
    (gateway(folder, &yaml), demo)
}

#[test]
fn the_quota_is_refused_with_retry_after_and_a_session_that_ends_frees_its_place() {
    let folder = Folder::new();
    let (gateway, _demo) = limited(&folder, 600_000);
    let mut first = Client::new(Kind::Legacy, &gateway.url);
    let _second = Client::new(Kind::Legacy, &gateway.url);
    let refused = Wire::to(&gateway.url).ask("POST", &[], &initialize(json!({})));
    assert_eq!(refused.status, 503, "{refused:?}");
    let seconds = refused.header("Retry-After").and_then(|value| value.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{refused:?}");
    assert!(refused.message(0)["error"]["message"].is_string() && refused.header("Mcp-Session-Id").is_none());
    // Modern clients have no sessions, so they are not counted.
    assert_eq!(Client::new(Kind::Modern, &gateway.url).text("echo", json!({"text": "x"})), "x");
    assert_eq!(first.end().status, 200);
    let _third = Client::new(Kind::Legacy, &gateway.url);
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn an_idle_session_ends_and_one_in_use_does_not() {
    const IDLE_MS: u64 = 1_500;
    let folder = Folder::new();
    let (gateway, _demo) = limited(&folder, IDLE_MS);
    let mut used = Client::new(Kind::Legacy, &gateway.url);
    let mut idle = Client::new(Kind::Legacy, &gateway.url);
    // Looking at a session would use it; the place that it leaves says that it ended.
    let waited = until("the idle session leaves its place", || {
        assert_eq!(text_of(&used.call("echo", json!({"text": "used"}))), Some("used"));
        Wire::to(&gateway.url).ask("POST", &[], &initialize(json!({}))).status == 200
    });
    println!("idle session: ended after {waited:?} with session_idle_ms {IDLE_MS}");
    assert!(waited >= Duration::from_millis(IDLE_MS - 100), "too early");
    let body = idle.body(7, "tools/list", json!({}));
    let gone = idle.post("tools/list", &[], &body);
    assert_eq!(gone.status, 404, "{gone:?}");
    assert_eq!(text_of(&used.call("echo", json!({"text": "still"}))), Some("still"));
    assert_eq!(gateway.stop(), 0);
}
