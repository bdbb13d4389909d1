//! What a supervisor is told at the address `health`, by a node that takes no clients.

mod common;

use common::{Folder, LIMIT, Signal, enfilade, run, send};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

/// A node with the role registry, killed at the end.
struct Node {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    health: String,
}

impl Node {
    fn begin(folder: &Folder, voters: &str) -> Self {
        let yaml = format!(
            "health: \"127.0.0.1:0\"\ndata_dir: {}\n\
             cluster: {{node: a, roles: [registry], voters: [{voters}], seeds: [\"127.0.0.1:9\"], keys: {}}}\n",
            folder.text("data"),
            folder.text("keys"),
        );
        let file = folder.file("a.yaml", &yaml);
        let args = ["--log", "error", "serve", "--config", &file, "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"];
        let mut child = enfilade(&args).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut node = Self { child, out, health: String::new() };
        node.health = node.line().strip_prefix("health ").expect("the first that is bound").to_owned();
        node
    }

    fn line(&mut self) -> String {
        self.out.next().expect("a line").expect("text")
    }

    /// The status that it answers with.
    fn status(&self, path: &str) -> u16 {
        let answer = self.answer(path);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
    }

    fn answer(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.health).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        // As a kubelet asks: by the address of a machine, under any name.
        write!(stream, "GET {path} HTTP/1.1\r\nHost: anything\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the connection's end");
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> Folder {
    let folder = Folder::new();
    assert_eq!(run(&["keys", "--out", &folder.text("keys")]).status.code(), Some(0));
    folder
}

#[test]
fn a_node_that_waits_for_others_is_alive_and_not_ready() {
    let folder = folder();
    let mut node = Node::begin(&folder, "a, b, c");
    let bound = [node.line(), node.line()];
    assert!(bound[0].starts_with("link ") && bound[1].starts_with("gossip "), "{bound:?}");
    assert_eq!([node.status("/healthz"), node.status("/readyz"), node.status("/mcp")], [200, 503, 404]);
    assert!(node.answer("/metrics").contains("\nprocess_open_fds "));
}

#[test]
fn a_node_that_serves_is_ready() {
    let folder = folder();
    let mut node = Node::begin(&folder, "a");
    while node.line() != "ready" {}
    assert_eq!([node.status("/healthz"), node.status("/readyz")], [200, 200]);
    let metrics = node.answer("/metrics");
    assert!(
        metrics.contains("text/plain; version=0.0.4") && metrics.contains("\nenfilade_registry_leader 1\n"),
        "{metrics}"
    );
    assert!(!metrics.contains("enfilade_edge"), "it takes no clients");
    // A leader has tasks everywhere; this answer is one of those of the last.
    for runtime in ["main", "control", "health"] {
        let name = format!("\nenfilade_runtime_tasks{{runtime=\"{runtime}\"}} ");
        let tasks = metrics.split_once(&name).and_then(|(_, rest)| rest.lines().next()?.parse::<u64>().ok());
        assert!(tasks > Some(0), "{runtime}: {metrics}");
    }
    send(node.child.id(), Signal::SIGTERM);
    assert_eq!(node.child.wait().expect("its end").code(), Some(0));
}
