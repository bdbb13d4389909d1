//! A cluster of real processes on this machine: its configuration, its nodes, and what is done to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use enfilade_process::{Process, Said};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::moves::Slots;
use crate::web::Web;
use crate::witness::WORK_SAFE;

/// The system chooses the port.
const ANY: &str = "127.0.0.1:0";
/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roles {
    All,
    Edge,
}

impl Roles {
    fn words(self) -> Value {
        match self {
            Roles::All => json!(["edge", "owner", "registry"]),
            Roles::Edge => json!(["edge"]),
        }
    }
}

/// How nodes are started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The gateway's program.
    pub(crate) program: PathBuf,
    /// One node alone, by `enfilade up --nodes 1`: shows that the drills themselves work.
    pub(crate) alone: bool,
    /// What nodes log.
    pub(crate) log: String,
    /// The upstream.
    pub(crate) upstream: String,
    /// Where everything is kept.
    pub(crate) dir: PathBuf,
    /// More of the section `cluster`, for drills that need it.
    pub(crate) cluster: Value,
}

/// One node, running or not.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) roles: Roles,
    /// What is written in front of its command, such as a network namespace.
    pub(crate) wrap: Vec<String>,
    /// More of its section `cluster`, such as addresses.
    pub(crate) own: Value,
    pub(crate) listen: String,
    /// Where its data is, if not with everything else.
    pub(crate) data: Option<PathBuf>,
    said: Said,
    process: Option<Process>,
}

/// The nodes, and the balancer in front of them.
pub(crate) struct Cluster {
    setup: Setup,
    pub(crate) nodes: Vec<Node>,
    voters: Vec<String>,
    pub(crate) web: Web,
}

impl Node {
    pub(crate) fn new(name: &str, roles: Roles) -> Node {
        Node {
            name: name.to_owned(),
            roles,
            wrap: Vec::new(),
            own: json!({}),
            listen: ANY.to_owned(),
            data: None,
            said: Said::default(),
            process: None,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The process, which must run.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        let name = &self.name;
        self.process.as_mut().with_context(|| format!("{name} does not run"))
    }

    /// Where its log is.
    fn log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.log", self.name))
    }
}

impl Cluster {
    /// A cluster of these nodes; those that hold the registry found it.
    pub(crate) fn new(setup: Setup, nodes: Vec<Node>) -> Cluster {
        let voters = nodes.iter().filter(|node| node.roles == Roles::All).map(|node| node.name.clone()).collect();
        Cluster { setup, nodes, voters, web: Web::new() }
    }

    /// Makes the keys and starts all nodes. `at` hears where each of them has its links, before the next one starts.
    pub(crate) async fn start_all(&mut self, at: impl Fn(usize, SocketAddr)) -> Result<()> {
        self.make_keys().await?;
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for &index in &all {
            self.spawn(index).await?;
            if let Some(link) = self.nodes[index].said.first("link") {
                at(index, link.parse().with_context(|| format!("no address: {link}"))?);
            }
        }
        for &index in &all {
            self.ready(index).await?;
        }
        Ok(())
    }

    async fn make_keys(&self) -> Result<()> {
        if self.setup.alone {
            return Ok(());
        }
        let made = Command::new(&self.setup.program).args(["keys", "--out"]).arg(self.keys()).output().await?;
        ensure!(made.status.success(), "no keys: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    fn keys(&self) -> PathBuf {
        self.setup.dir.join("keys")
    }

    /// Adds a node that joins, and starts it.
    pub(crate) async fn add(&mut self, node: Node) -> Result<usize> {
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        self.start_nodes(&[index]).await?;
        Ok(index)
    }

    /// Starts nodes, with the addresses that they had before, and waits until they serve.
    pub(crate) async fn start_nodes(&mut self, which: &[usize]) -> Result<Duration> {
        let begun = Instant::now();
        for &index in which {
            self.spawn(index).await?;
        }
        for &index in which {
            self.ready(index).await?;
        }
        Ok(begun.elapsed())
    }

    /// Waits until a node serves, and lets the balancer know.
    async fn ready(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let said = node.process()?.said("endpoint", |said| said.first("ready").is_some()).await?;
        let url = said.first("ready").context("no endpoint")?.to_owned();
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        node.listen = address.with_context(|| format!("no address: {url}"))?.to_owned();
        node.said = said;
        self.web.balancer.put(index, &url);
        Ok(())
    }

    /// Starts a node, and waits until it has said where it is: the others need to know.
    async fn spawn(&mut self, index: usize) -> Result<()> {
        let file = self.setup.dir.join(format!("{}.yaml", self.nodes[index].name));
        // JSON is YAML.
        std::fs::write(&file, serde_json::to_string_pretty(&self.configuration(index))?)?;
        let node = &mut self.nodes[index];
        let mut command = match node.wrap.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.setup.program);
                command
            }
            None => Command::new(&self.setup.program),
        };
        command.args(["--log", &self.setup.log]);
        if self.setup.alone {
            command.arg("up").args(if self.setup.program_knows_nodes() { &["--nodes", "1"][..] } else { &[] });
        } else {
            command.args(["serve", "--with-parent"]);
        }
        command.arg("--config").arg(&file);
        let log = node.log(&self.setup.dir);
        let process = node.process.insert(Process::start(&node.name, command, &log)?);
        if !self.setup.alone {
            let found = |said: &Said| said.first("link").is_some() && said.first("gossip").is_some();
            node.said = process.said("addresses", found).await?;
        }
        Ok(())
    }

    fn configuration(&self, index: usize) -> Value {
        let node = &self.nodes[index];
        let upstream = json!({
            "name": "witness", "url": self.setup.upstream, "era": "legacy", "calls_max": 4096,
            "replay_safe": [WORK_SAFE], "fence_header": true,
        });
        let mut config = json!({
            "listen": [{"address": node.listen}],
            "data_dir": node.data.clone().unwrap_or_else(|| self.setup.dir.join(&node.name)),
            "upstreams": [upstream],
        });
        if !node.listen.starts_with("127.") {
            config["allow_remote"] = true.into();
        }
        if !self.setup.alone {
            config["cluster"] = self.section(node);
        }
        config
    }

    fn section(&self, node: &Node) -> Value {
        let known = |word| node.said.first(word);
        let others = self.nodes.iter().filter(|other| other.name != node.name);
        let seeds: Vec<String> = others.filter_map(|other| Some(other.said.first("gossip")?.to_owned())).collect();
        let mut section = json!({
            "name": "drills",
            "node": node.name,
            "roles": node.roles.words(),
            "link": known("link").unwrap_or(ANY),
            "gossip": known("gossip").unwrap_or(ANY),
            "seeds": seeds,
            "voters": self.voters,
            "keys": self.keys(),
        });
        for more in [&self.setup.cluster, &node.own] {
            for (key, value) in more.as_object().into_iter().flatten() {
                // Once it is known where a node is it stays there.
                if !(["link", "gossip"].contains(&key.as_str()) && known(key).is_some()) {
                    section[key] = value.clone();
                }
            }
        }
        section
    }

    /// kill -9 of several nodes at once. Returns when the first was killed.
    pub(crate) async fn kill(&mut self, which: &[usize]) -> Result<Instant> {
        let mut first = None;
        for &index in which {
            self.nodes[index].process()?.signal(Signal::SIGKILL)?;
            first.get_or_insert_with(Instant::now);
        }
        for &index in which {
            if let Some(mut process) = self.nodes[index].process.take() {
                process.ended(GONE_WITHIN).await?;
            }
        }
        first.context("nobody to kill")
    }

    /// Asks a node to hand over and end, out of the balancer first.
    pub(crate) async fn stop(&mut self, index: usize) -> Result<Duration> {
        let begun = Instant::now();
        let process = self.nodes[index].process.take().context("it does not run")?;
        let status = process.end().await?;
        ensure!(status.success(), "{} ended with {status}", self.nodes[index].name);
        self.web.balancer.set_out(index, true);
        Ok(begun.elapsed())
    }

    /// Asks a node to end, and again while it hands over. Returns how long it took from then on.
    pub(crate) async fn stop_at_once(&mut self, index: usize, after: Duration) -> Result<Duration> {
        let process = self.nodes[index].process.take().context("it does not run")?;
        let took = process.end_at_once(after).await?;
        self.web.balancer.set_out(index, true);
        Ok(took)
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].runs()).collect()
    }

    /// The registry's leader, by what the nodes log.
    pub(crate) fn leader(&self) -> Result<usize> {
        let mut latest: Option<(String, usize)> = None;
        for index in self.running() {
            let log = std::fs::read_to_string(self.nodes[index].log(&self.setup.dir)).unwrap_or_default();
            let led = log.lines().rev().find(|line| line.contains(LEADS));
            if let Some(line) = led {
                // Each line begins with its time, the same form everywhere: text compares as time does.
                let time = line.split_whitespace().next().unwrap_or_default().to_owned();
                if latest.as_ref().is_none_or(|(known, _)| *known < time) {
                    latest = Some((time, index));
                }
            }
        }
        match latest {
            Some((_, index)) => Ok(index),
            None => bail!("no node says that it leads the registry"),
        }
    }

    /// Who has which number of slots, by what the nodes log.
    pub(crate) fn slots(&self) -> Slots {
        Slots::read(self.nodes.iter().map(|node| node.log(&self.setup.dir)))
    }

    /// Ends all nodes that run.
    pub(crate) async fn end(mut self) -> Result<()> {
        let all = self.running();
        if !all.is_empty() {
            self.kill(&all).await?;
        }
        Ok(())
    }
}

/// What a node logs when it becomes the registry's leader.
const LEADS: &str = "this node leads the registry";

impl Setup {
    /// Earlier programs know one node only.
    fn program_knows_nodes(&self) -> bool {
        let help = std::process::Command::new(&self.program).args(["up", "--help"]).output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--nodes"))
    }
}
