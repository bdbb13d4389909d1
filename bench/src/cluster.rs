//! The gateway as several nodes before the light upstream, which is what the comparisons within a cluster run on.
//!
//! The first three nodes hold the registry, further ones are owners and edges, as in a cluster that has grown. Each node
//! knows the upstream under a path of its own, so that the upstream can tell who called it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use enfilade_process::{CpuTime, Process, Said};
use serde_json::{Value, json};

use crate::load::{Load, Owner, Place};
use crate::process::{Cores, Endpoint, Server, command};
use crate::sample::Sample;
use crate::upstream::path_of;

/// So many nodes hold the registry, and those that come after them do not.
pub(crate) const REPLICAS_MAX: usize = 3;
const ANY: &str = "127.0.0.1:0";

/// What nodes are made from.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The gateway's binary.
    pub(crate) gateway: &'a Path,
    pub(crate) upstream: &'a Endpoint,
    /// Where nodes keep their data.
    pub(crate) data: &'a Path,
    /// Where their configuration, keys and logs are.
    pub(crate) folder: &'a Path,
}

/// Running nodes, in order.
pub(crate) struct Cluster {
    nodes: Vec<Server>,
    /// The nodes' processes.
    pub(crate) pids: Vec<i32>,
}

/// Where a call arrives, seen from the owner of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Local,
    Forwarded,
}

/// An interval that nodes were measured in.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Net {
    /// Cores that each node used in the idle interval before.
    pub(crate) idle_cores: Vec<f64>,
    pub(crate) sample: Sample,
}

impl Net {
    /// CPU of all nodes per call.
    pub(crate) fn all_cpu_us(&self) -> Option<f64> {
        self.sample.proxy_cpu.map(|cpu| cpu.clock_us)
    }

    /// What idle nodes would have used in the time of a call.
    pub(crate) fn idle_us(&self) -> Option<f64> {
        let idle: f64 = self.idle_cores.iter().sum();
        (self.sample.calls_per_second > 0.0).then(|| idle * 1e6 / self.sample.calls_per_second)
    }

    /// CPU of all nodes per call, less that.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        Some(self.all_cpu_us()? - self.idle_us()?)
    }
}

impl Cluster {
    /// Starts `count` nodes; one alone is no cluster.
    pub(crate) async fn start(setup: Setup<'_>, count: usize) -> Result<Self> {
        ensure!(count > 0, "a cluster needs nodes");
        fs::create_dir_all(setup.data)?;
        if count > 1 {
            make_keys(setup).await?;
        }
        let (mut started, mut seeds) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let mut process = spawn(setup, number, count, &seeds)?;
            if count > 1 {
                let said = process.said("gossip", |said: &Said| said.first("gossip").is_some()).await?;
                seeds.extend(said.first("gossip").map(str::to_owned));
            }
            started.push(process);
        }
        let mut nodes = Vec::new();
        for process in started {
            nodes.push(Server::ready(process).await?);
        }
        let pids = nodes.iter().map(|node| node.process.pid()).collect();
        Ok(Self { nodes, pids })
    }

    /// Of each node, in order.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> + Clone {
        self.nodes.iter().map(|node| &node.endpoint)
    }

    /// The endpoint's path, the same at all.
    pub(crate) fn path(&self) -> &str {
        &self.nodes[0].endpoint.path
    }

    /// Calls that arrive at node `at`, counted from 0, of sessions that node `owner` has.
    pub(crate) fn place(&self, at: usize, owner: usize) -> Place {
        let address = |node: usize| self.nodes[node].endpoint.address;
        Place { address: address(at), owner: Some(Owner { address: address(owner), name: name(owner + 1) }) }
    }

    /// Every place of calls that are local, or of such that are not.
    pub(crate) fn places(&self, way: Way) -> Vec<Place> {
        let count = self.nodes.len();
        match way {
            Way::Local => (0..count).map(|node| self.place(node, node)).collect(),
            // Node by node, so that few connections, too, arrive at all nodes alike.
            Way::Forwarded => (1..count)
                .flat_map(|step| (0..count).map(move |node| (node, (node + step) % count)))
                .map(|(at, owner)| self.place(at, owner))
                .collect(),
        }
    }

    /// Leaves the nodes alone for `idle`, and measures what that costs; then puts `load` on them.
    pub(crate) async fn measure(&self, idle: std::time::Duration, load: &Load) -> Result<Net> {
        let (begun, before) = (tokio::time::Instant::now(), self.each()?);
        tokio::time::sleep(idle).await;
        let seconds = begun.elapsed().as_secs_f64();
        let used = self.each()?.into_iter().zip(before).map(|(now, then)| now.since(then).clock.as_secs_f64());
        Ok(Net { idle_cores: used.map(|used| used / seconds).collect(), sample: load.sample(Cores::Any).await? })
    }

    fn each(&self) -> Result<Vec<CpuTime>> {
        Ok(self.pids.iter().map(|&pid| CpuTime::of(&[pid])).collect::<Result<_, _>>()?)
    }

    /// Whether all nodes still run.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        Ok(self.nodes.iter_mut().try_for_each(|node| node.process.check_alive())?)
    }

    /// Ends all nodes at once, as dropping it does: they have nobody to hand over to.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.check_alive()
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

/// Two replicas can decide nothing once one of them is lost: then only the first has a vote.
fn voters(count: usize) -> usize {
    if count < REPLICAS_MAX { 1 } else { REPLICAS_MAX }
}

fn keys(setup: Setup<'_>) -> PathBuf {
    setup.folder.join("keys")
}

async fn make_keys(setup: Setup<'_>) -> Result<()> {
    let keys = keys(setup);
    if keys.exists() {
        return Ok(());
    }
    let made = command(setup.gateway, Cores::Any).args(["keys", "--out"]).arg(keys).output().await?;
    ensure!(made.status.success(), "no keys: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn spawn(setup: Setup<'_>, number: usize, count: usize, seeds: &[String]) -> Result<Process> {
    let name = name(number);
    let file = setup.folder.join(format!("{name}.yaml"));
    // JSON is YAML.
    fs::write(&file, configuration(setup, number, count, seeds).to_string()).context("a node's configuration")?;
    let mut run = command(setup.gateway, Cores::Any);
    run.args(["serve", "--with-parent", "--config"]).arg(&file);
    Ok(Process::start(&name, run, &setup.folder.join(format!("{name}.stderr")))?)
}

fn configuration(setup: Setup<'_>, number: usize, count: usize, seeds: &[String]) -> Value {
    let (name, voters) = (name(number), voters(count));
    let upstream = Endpoint { path: path_of(&name), ..setup.upstream.clone() };
    let mut all = json!({
        "listen": [{"address": ANY}],
        "data_dir": setup.data.join(&name),
        "upstreams": [{"name": "bench", "url": upstream.url(), "era": "legacy", "sessions": "per_client"}],
    });
    if count > 1 {
        let roles: &[&str] = if number <= REPLICAS_MAX { &["edge", "owner", "registry"] } else { &["edge", "owner"] };
        all["cluster"] = json!({
            "name": "bench", "node": name, "roles": roles, "link": ANY, "gossip": ANY, "seeds": seeds,
            "voters": (1..=voters).map(self::name).collect::<Vec<_>>(), "keys": keys(setup),
        });
    }
    all
}
