//! A cluster as its users meet it: real processes, one command, raw HTTP at every node.

mod common;

use common::client::{Client, Kind, meta, text_of};
use common::node::{Node, is_served, until};
use common::socket::Socket;
use common::{Folder, LIMIT, Server, Signal, children, enfilade, run, send};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `up` with the demo upstreams, and the addresses of its nodes.
struct Cluster {
    server: Server,
    urls: Vec<String>,
    /// What it printed after them.
    example: Vec<String>,
}

impl Cluster {
    fn start(nodes: usize, more: &[&str]) -> Self {
        let count = nodes.to_string();
        let args = ["--log", "warn,rmcp=off,openraft=off", "up", "--nodes", &count, "--listen", "127.0.0.1:0"];
        let mut server = Server::start(&[args.as_slice(), more].concat());
        let mut urls = vec![server.url.clone()];
        for _ in 1..nodes {
            let line = server.line();
            urls.push(line.strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line:?}")).to_owned());
        }
        assert_eq!(server.line(), "try it:");
        let example = (0..4).map(|_| server.line()).collect();
        Self { server, urls, example }
    }

    /// The processes of its nodes, in order.
    fn pids(&self) -> Vec<u32> {
        let mut pids = children(self.server.pid());
        // Each is told a file that has its node's name.
        pids.sort_by_cached_key(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        pids
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie is dead.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A session that was opened at the first address works at all.
fn works_everywhere(urls: &[String]) {
    let client = Client::legacy(&urls[0], json!({}));
    for url in urls {
        assert_eq!(text_of(&echo(&mut client.at(url), url)), Some(url.as_str()));
    }
}

fn echo(client: &mut Client, text: &str) -> Value {
    client.call("everything__echo", json!({"text": text}))
}

#[test]
fn one_command_starts_three_nodes_and_a_session_works_on_all() {
    let begun = Instant::now();
    let cluster = Cluster::start(3, &[]);
    println!("three nodes serve after {:?}", begun.elapsed());
    let mut client = Client::legacy(&cluster.urls[0], json!({}));
    for url in &cluster.urls {
        let mut there = client.at(url);
        assert_eq!(text_of(&echo(&mut there, url)), Some(url.as_str()));
    }
    // Ended anywhere, it is ended everywhere.
    assert_eq!(client.at(&cluster.urls[1]).end().status, 200);
    for url in [&cluster.urls[2], &cluster.urls[0], &cluster.urls[1]] {
        let body = client.body(9, "tools/list", json!({}));
        assert_eq!(client.at(url).post("tools/list", &[], &body).status, 404, "{url}");
    }
    assert_eq!(client.end().status, 404);
    assert_eq!(cluster.server.stop(), 0);
}

#[test]
fn nodes_that_do_not_vote_join() {
    for nodes in [2, 4] {
        let begun = Instant::now();
        let cluster = Cluster::start(nodes, &[]);
        println!("{nodes} nodes serve after {:?}", begun.elapsed());
        works_everywhere(&cluster.urls);
        let urls: Vec<String> = cluster.urls.iter().rev().cloned().collect();
        works_everywhere(&urls);
        assert_eq!(cluster.server.stop(), 0);
    }
}

#[test]
fn the_printed_example_works() {
    let cluster = Cluster::start(3, &[]);
    assert!(cluster.example[0].starts_with("curl ") && cluster.example[1].contains("another"), "{:?}", cluster.example);
    let sh = |script: &str| {
        let output = Command::new("bash").args(["-c", script]).output().expect("bash runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let first = sh(&cluster.example[0]);
    assert!(first.contains(r#""sum":5"#), "{first}");
    let second = sh(&cluster.example[2..].join("\n"));
    assert!(second.contains(r#""sum":5"#), "{second}");
    assert!(cluster.example[3].contains(&cluster.urls[1]) && !cluster.example[3].contains(&cluster.urls[0]));
    assert_eq!(cluster.server.stop(), 0);
}

#[test]
fn a_killed_node_takes_no_session_with_it_and_comes_back() {
    let cluster = Cluster::start(3, &[]);
    let pids = cluster.pids();
    assert_eq!(pids.len(), 3, "{pids:?}");
    for victim in 0..3 {
        let others: Vec<&String> = (0..3).filter(|node| *node != victim).map(|node| &cluster.urls[node]).collect();
        let clients: Vec<Client> = cluster.urls.iter().map(|url| Client::legacy(url, json!({}))).collect();
        let pids = cluster.pids();
        send(pids[victim], Signal::SIGKILL);
        let killed = Instant::now();
        for client in &clients {
            for url in &others {
                // A request may be refused with "try again" while the node's sessions change hands, and no longer.
                let mut there = client.at(url);
                until("the session is served", || {
                    let body =
                        there.body(5, "tools/call", json!({"name": "everything__echo", "arguments": {"text": "x"}}));
                    let answer = there.post("tools/call", &[], &body);
                    assert_ne!(answer.status, 404, "a session was lost: {answer:?}");
                    answer.status == 200 && text_of(&answer.message(5)) == Some("x")
                });
            }
        }
        let took = killed.elapsed();
        println!("node {} killed: all sessions served at the others after {took:?}", victim + 1);
        assert!(took < Duration::from_secs(10), "{took:?}");
        // Started again, at the same address.
        let address = cluster.urls[victim].trim_start_matches("http://").trim_end_matches("/mcp");
        let back = until("it listens again", || TcpStream::connect(address).is_ok());
        println!("node {} listens again after another {back:?}", victim + 1);
        Client::legacy(&cluster.urls[victim], json!({}));
    }
    assert_eq!(cluster.server.stop(), 0);
}

#[test]
fn nodes_die_with_the_command_that_started_them() {
    let cluster = Cluster::start(3, &[]);
    let pids = cluster.pids();
    cluster.server.signal(Signal::SIGKILL);
    let took = until("the nodes end", || !pids.iter().any(|pid| is_alive(*pid)));
    println!("all nodes had ended {took:?} after their parent was killed");
}

#[test]
fn a_node_that_cannot_start_is_told_and_stops_all() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let last = taken.local_addr().expect("its address");
    let Some(first) = last.port().checked_sub(2) else { return };
    let output = run(&["--log", "off", "up", "--listen", &format!("127.0.0.1:{first}")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()), "{error}");
    assert!(error.contains("did not start") && error.contains("cannot listen"), "{error}");
}

#[test]
fn a_cluster_starts_again_with_its_sessions() {
    let folder = Folder::new();
    let data = folder.text("data");
    let first = Cluster::start(3, &["--data-dir", &data]);
    let mut client = Client::legacy(&first.urls[0], json!({}));
    assert_eq!(text_of(&echo(&mut client, "before")), Some("before"));
    // The folder has one user at a time.
    let second = enfilade(&["--log", "off", "up", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let second = { second }.stdout(Stdio::piped()).output().expect("the binary runs");
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(first.server.stop(), 0);
    let again = Cluster::start(3, &["--data-dir", &data]);
    for url in &again.urls {
        assert_eq!(text_of(&echo(&mut client.at(url), "after")), Some("after"));
    }
    assert_eq!(again.server.stop(), 0);
}

#[test]
fn keys_are_made_once() {
    let folder = Folder::new();
    let dir = folder.text("keys");
    assert_eq!(run(&["keys", "--out", &dir]).status.code(), Some(0));
    let again = run(&["keys", "--out", &dir]);
    let error = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{error}");
    assert!(error.contains("never overwritten"), "{error}");
}

#[test]
fn each_role_in_a_node_of_its_own() {
    let folder = Folder::new();
    let keys = folder.text("keys");
    assert_eq!(run(&["keys", "--out", &keys]).status.code(), Some(0));
    let demo = Server::start(&["--log", "off", "demo", "--name", "only"]);
    let start = |role: &str, seeds: &[String]| {
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\nupstreams: [{{name: only, url: \"{}\"}}]\n\
             cluster: {{node: {role}, roles: [{role}], voters: [registry], seeds: {seeds:?}, keys: {keys}}}\n",
            folder.text(role),
            demo.url
        );
        let file = folder.file(&format!("{role}.yaml"), &yaml);
        Node::start(&["--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"])
    };
    let mut registry = start("registry", &[]);
    let seeds = [registry.gossip.clone()];
    let mut owner = start("owner", &seeds);
    let mut edge = start("edge", &seeds);
    assert_eq!((registry.ready.as_str(), owner.ready.as_str()), ("", ""));
    assert!(registry.link != owner.link);
    let mut client = Client::legacy(&edge.ready, json!({}));
    assert_eq!(client.text("echo", json!({"text": "through three"})), "through three");
    let mut modern = Client::new(Kind::Modern, &edge.ready);
    assert_eq!(modern.text("echo", json!({"text": "again"})), "again");
    // Arguments that HTTP mirrors into headers are not missed where there are none, also on the owner's node.
    let call = json!({"name": "header_echo", "arguments": {"region": "eu", "text": "x"}, "_meta": meta()});
    assert!(modern.tools().contains(&"header_echo".to_owned()));
    let answer = Socket::open(&edge.ready, &[]).expect("it opens").ask("tools/call", &call);
    assert!(text_of(&answer).is_some_and(|text| text.contains("eu")), "{answer}");
    for node in [&mut edge, &mut owner, &mut registry] {
        assert_eq!(node.stop(), Some(0));
    }
    assert_eq!(demo.stop(), 0);
}

#[test]
fn a_dead_voter_is_replaced_and_cannot_come_back() {
    let folder = Folder::new();
    let keys = folder.text("keys");
    assert_eq!(run(&["keys", "--out", &keys]).status.code(), Some(0));
    let demo = Server::start(&["--log", "off", "demo", "--name", "only"]);
    let file = |name: &str, seeds: &[String]| {
        let yaml = format!(
            "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\nupstreams: [{{name: only, url: \"{}\"}}]\n\
             cluster: {{node: {name}, voters: [a, b, c], seeds: {seeds:?}, keys: {keys}, replace_after_ms: 1500}}\n",
            folder.text(name),
            demo.url
        );
        folder.file(&format!("{name}.yaml"), &yaml)
    };
    let ports = ["--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"];
    // More lines than a test's nodes write; beyond it they wait.
    let (log, heard) = std::sync::mpsc::sync_channel(100_000);
    let begin = |name: &str, seeds: &[String]| {
        Node::begin_heard(&[["--config", &file(name, seeds)].as_slice(), &ports].concat(), Some(&log))
    };
    let mut a = begin("a", &[]);
    let seeds = [a.gossip.clone()];
    let (mut b, mut c) = (begin("b", &seeds), begin("c", &seeds));
    [&mut a, &mut b, &mut c].into_iter().for_each(Node::serves);
    let mut d = begin("d", &seeds);
    d.serves();

    let client = Client::legacy(&c.url(), json!({}));
    send(c.child.id(), Signal::SIGKILL);
    c.child.wait().expect("its end");
    let killed = Instant::now();
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("the replaced node is forgotten")) {
        lines.push(heard.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("it is not replaced: {lines:#?}")));
    }
    println!("replaced {:?} after it was killed", killed.elapsed());
    let mut again = begin("c", &seeds);
    assert_eq!(again.ends_or_serves(), Some(1));
    let reason = |line: &String| line.contains("removed from the cluster for ever");
    until("it says why", || heard.try_iter().any(|line| reason(&line)));

    // With the one that was replaced this would be the second of three: no quorum.
    send(b.child.id(), Signal::SIGKILL);
    b.child.wait().expect("its end");
    [&a, &d].into_iter().for_each(|node| is_served(&client, node));
}

/// A configuration of one voter alone, at ports that the system chooses.
fn alone(folder: &Folder, keys: &str) -> String {
    let yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\"}}]\ndata_dir: {}\nupstreams: [{{name: a, url: \"http://127.0.0.1:9/mcp\"}}]\n\
         cluster: {{node: a, link: \"127.0.0.1:0\", gossip: \"127.0.0.1:0\", voters: [a], keys: {keys}}}\n",
        folder.text("data")
    );
    folder.file("c.yaml", &yaml)
}

#[test]
fn a_node_without_its_keys_does_not_start() {
    let folder = Folder::new();
    let output = run(&["--log", "off", "serve", "--config", &alone(&folder, "/nonexistent")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("/nonexistent/ca.pem") && error.contains("enfilade keys"), "{error}");
}

#[test]
fn a_data_directory_counts_its_starts_and_has_one_user() {
    let folder = Folder::new();
    let keys = folder.text("keys");
    assert_eq!(run(&["keys", "--out", &keys]).status.code(), Some(0));
    let file = alone(&folder, &keys);
    let identity = || -> Value {
        let text = std::fs::read_to_string(folder.path("data/node.json")).expect("an identity");
        serde_json::from_str(&text).expect("JSON")
    };
    let mut last: Option<Value> = None;
    for generation in 1..4 {
        let mut node = Node::start(&["--config", &file]);
        let now = identity();
        assert_eq!(now["generation"], generation);
        assert!(now["cluster"].is_string(), "{now}");
        if let Some(last) = &last {
            assert_eq!((&now["node"], &now["cluster"]), (&last["node"], &last["cluster"]));
        }
        let refused = run(&["--log", "off", "serve", "--config", &file]);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        assert!(error.contains("in use by another process"), "{error}");
        assert_eq!(identity(), now, "the one that was refused wrote something");
        assert_eq!(node.stop(), Some(0));
        last = Some(now);
    }
}
