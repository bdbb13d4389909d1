//! Nodes as processes of this machine, each at an address of its own in 127.0.0.0/8, so that each has all ports.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};
use enfilade_process::{Process, Said};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::cgroup::{Bounds, Counted, Group, Groups};
use crate::clock::unix_ms;
use crate::timeline::{Death, Ended, Held, Part, Watched};

/// Voters of the registry; further nodes only own sessions and take clients.
const VOTERS: usize = 3;
/// Calls that a node may have at the upstream at a time.
const CALLS_MAX: u32 = 8_192;

struct Node {
    name: String,
    process: Process,
    url: String,
    gossip: String,
    health: Option<SocketAddr>,
}

/// The nodes that run.
pub(super) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
    upstream: String,
    log: String,
    /// Keys of their configuration.
    more: Map<String, Value>,
    bounds: Bounds,
    groups: Option<Groups>,
    nodes: Vec<Node>,
    /// Of all nodes, those included that are gone. Dropped after them: groups must be empty.
    held: Vec<(String, Group)>,
    /// Those that ended by themselves.
    died: Vec<Death>,
    started: usize,
    voters: Vec<String>,
}

impl Cluster {
    /// None runs yet. The error says when this host cannot hold them to the bounds.
    pub(super) fn new(
        program: PathBuf,
        dir: PathBuf,
        upstream: String,
        log: String,
        bounds: Bounds,
        more: Map<String, Value>,
    ) -> Result<Cluster> {
        let groups = Groups::new(bounds)?;
        let (nodes, held, died, voters) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Cluster { program, dir, upstream, log, more, bounds, groups, nodes, held, died, started: 0, voters })
    }

    /// Founds it.
    pub(super) async fn start(&mut self, count: usize) -> Result<()> {
        let made = Command::new(&self.program).args(["keys", "--out"]).arg(self.dir.join("keys")).output().await?;
        ensure!(made.status.success(), "no keys: {}", String::from_utf8_lossy(&made.stderr));
        self.voters = (1..=count.min(VOTERS)).map(name).collect();
        let mut coming = Vec::new();
        for _ in 0..count {
            let one = self.spawn(&coming).await?;
            coming.push(one);
        }
        for one in coming {
            self.ready(one).await?;
        }
        Ok(())
    }

    /// One more node; its name, and what is watched of it.
    pub(super) async fn add(&mut self) -> Result<(String, Watched)> {
        let one = self.spawn(&[]).await?;
        let watched = one.watched();
        let name = one.name.clone();
        self.ready(one).await?;
        Ok((name, watched))
    }

    /// Takes one out that owns sessions and, where there are others, does not vote.
    pub(super) fn take(&mut self) -> Result<(String, Process)> {
        ensure!(self.nodes.len() > 1, "it is the only node");
        let node = self.nodes.pop().context("no node runs")?;
        Ok((node.name, node.process))
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    pub(super) fn watched(&self) -> Vec<Watched> {
        self.nodes.iter().map(Node::watched).collect()
    }

    /// Takes out those that have ended by themselves since the last look, and returns them.
    pub(super) fn look(&mut self) -> Vec<Death> {
        let mut dead = Vec::new();
        for mut node in std::mem::take(&mut self.nodes) {
            match node.process.has_ended() {
                Ok(None) => self.nodes.push(node),
                Ok(Some(status)) => {
                    if let Err(last_words) = node.process.check_alive() {
                        eprintln!("{last_words}");
                    }
                    dead.push(self.death(&node.name, &how(status)));
                }
                // Whether it runs is not known; dropped it does not.
                Err(failure) => dead.push(self.death(&node.name, &failure.to_string())),
            }
        }
        self.died.extend_from_slice(&dead);
        dead
    }

    fn death(&self, node: &str, how: &str) -> Death {
        let group = self.held.iter().find(|(name, _)| name == node);
        let is_oom = group.is_some_and(|(_, group)| group.counted().oom_kills > 0);
        let how = if is_oom { format!("{how}, for want of memory") } else { how.to_owned() };
        Death { node: node.to_owned(), at_unix_ms: unix_ms(), how, is_oom }
    }

    /// Ends all nodes, whatever becomes of any of them. They have nobody to hand over to, so they are not asked to.
    pub(super) async fn end(mut self) -> Ended {
        self.look();
        for node in std::mem::take(&mut self.nodes) {
            // One may have been quicker; it is gone all the same.
            if let Err(failure) = node.process.kill().await {
                let dead = self.death(&node.name, &failure.to_string());
                self.died.push(dead);
            }
        }
        let Bounds { cpu_max, memory_max } = self.bounds;
        let held = self.held.iter().map(|(name, group)| {
            let Counted { memory_peak_bytes, oom_kills, throttled, periods } = group.counted();
            let throttled = throttled as f64 / periods.max(1) as f64;
            Held { node: name.clone(), cpu_max, memory_max, memory_peak_bytes, oom_kills, throttled }
        });
        Ended { held: held.collect(), died: std::mem::take(&mut self.died) }
    }

    async fn spawn(&mut self, coming: &[Node]) -> Result<Node> {
        self.started += 1;
        let (number, name) = (self.started, name(self.started));
        let seeds: Vec<&String> = self.nodes.iter().chain(coming).map(|node| &node.gossip).collect();
        let file = self.dir.join(format!("{name}.yaml"));
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_string_pretty(&self.configuration(number, &name, &seeds))?)?;
        let mut command = Command::new(&self.program);
        command.args(["--log", &self.log, "serve", "--with-parent", "--config"]).arg(&file);
        let mut process = Process::start(&name, command, &self.dir.join(format!("{name}.log")))?;
        if let Some(groups) = &self.groups {
            self.held.push((name.clone(), groups.hold(&name, process.pid())?));
        }
        let enough = |said: &Said| ["health", "link", "gossip"].iter().all(|word| said.first(word).is_some());
        let said = process.said("addresses", enough).await?;
        let gossip = said.first("gossip").context("no address")?.to_owned();
        let health = said.first("health").and_then(|address| address.parse().ok());
        Ok(Node { name, process, url: String::new(), gossip, health })
    }

    async fn ready(&mut self, mut node: Node) -> Result<()> {
        let said = node.process.said("endpoint", |said| said.first("ready").is_some()).await?;
        said.first("ready").context("no endpoint")?.clone_into(&mut node.url);
        self.nodes.push(node);
        Ok(())
    }

    fn configuration(&self, number: usize, name: &str, seeds: &[&String]) -> Value {
        let address = format!("127.0.1.{number}:0");
        let roles = if self.voters.iter().any(|voter| voter == name) {
            json!(["edge", "owner", "registry"])
        } else {
            json!(["edge", "owner"])
        };
        let mut configuration = json!({
            "listen": [{"address": address}],
            "health": address,
            "data_dir": self.dir.join(name),
            "upstreams": [{
                "name": "load", "url": self.upstream, "era": "legacy", "sessions": "shared", "calls_max": CALLS_MAX,
                "replay_safe": ["echo"],
            }],
            "cluster": {
                "name": "loadtest",
                "node": name,
                "roles": roles,
                "link": address,
                "gossip": address,
                "seeds": seeds,
                "voters": self.voters,
                "keys": self.dir.join("keys"),
            },
        });
        for (key, value) in &self.more {
            configuration[key] = value.clone();
        }
        configuration
    }
}

impl Node {
    fn watched(&self) -> Watched {
        Watched { name: self.name.clone(), part: Part::Node, pid: self.process.pid(), health: self.health }
    }
}

/// By which signal, or with which code.
fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => {
            let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
            format!("killed by {name} ({number})")
        }
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}

fn name(number: usize) -> String {
    format!("n{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_node_ended_is_said_with_its_signal_or_its_code() {
        // As the system packs them: the signal below, the code in the second byte.
        assert_eq!(how(ExitStatus::from_raw(9)), "killed by SIGKILL (9)");
        assert_eq!(how(ExitStatus::from_raw(6 | 0x80)), "killed by SIGABRT (6)");
        assert_eq!(how(ExitStatus::from_raw(70 << 8)), "exit code 70");
    }
}
