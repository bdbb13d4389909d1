//! A node as a process of its own, and a condition that processes bring about.

use super::client::{Client, text_of};
use super::{LIMIT, Signal, enfilade, send};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Polls a condition that other processes bring about.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        // Between two looks: spinning would take the processors from those who are waited for.
        std::thread::park_timeout(Duration::from_millis(5));
    }
    begun.elapsed()
}

/// Waits until a session is served at a node; it may be asked to come again, but is never unknown.
pub(crate) fn is_served(client: &Client, node: &Node) {
    let mut there = client.at(&node.url());
    until("the session is served", || {
        let body = there.body(5, "tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
        let answer = there.post("tools/call", &[], &body);
        assert_ne!(answer.status, 404, "a session was lost: {answer:?}");
        answer.status == 200 && text_of(&answer.message(5)) == Some("x")
    });
}

/// A node that was started by itself, killed at the end.
pub(crate) struct Node {
    pub(crate) child: std::process::Child,
    out: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) link: String,
    pub(crate) gossip: String,
    /// What it says last: that it serves, and where.
    pub(crate) ready: String,
}

impl Node {
    /// Starts it and waits until it serves.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut node = Self::begin(args);
        node.serves();
        node
    }

    /// Starts it, and waits only until it is bound.
    pub(crate) fn begin(args: &[&str]) -> Self {
        Self::begin_heard(args, None)
    }

    /// The same; `log` hears what it logs.
    pub(crate) fn begin_heard(args: &[&str], log: Option<&SyncSender<String>>) -> Self {
        let args = [["--log", "error,enfilade=info,rmcp=off,openraft=off", "serve"].as_slice(), args].concat();
        let mut command = enfilade(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let (stderr, log) = (BufReader::new(child.stderr.take().expect("its log")), log.cloned());
        // Ends with the process.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                match &log {
                    Some(log) => drop(log.send(line)),
                    None => eprintln!("{line}"),
                }
            }
        });
        let mut out = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut after = |word: &str| {
            let line = out.next().expect("a line").expect("text");
            line.strip_prefix(word).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        let (link, gossip) = (after("link "), after("gossip "));
        Self { child, out, link, gossip, ready: String::new() }
    }

    /// Waits until it serves.
    pub(crate) fn serves(&mut self) {
        assert_eq!(self.ends_or_serves(), None);
    }

    /// Waits until it serves, or gives its exit code.
    pub(crate) fn ends_or_serves(&mut self) -> Option<i32> {
        match self.out.next() {
            Some(line) => {
                let line = line.expect("text");
                line.strip_prefix("ready").unwrap_or_else(|| panic!("{line}")).trim().clone_into(&mut self.ready);
                None
            }
            None => self.child.wait().expect("its end").code(),
        }
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> String {
        self.ready.clone()
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        send(self.child.id(), Signal::SIGKILL);
        self.child.wait().expect("its end");
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        send(self.child.id(), Signal::SIGTERM);
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
