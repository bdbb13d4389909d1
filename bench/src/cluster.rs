//! The gateway as several nodes before the light upstream, which is what the comparisons within a cluster run on.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::cpu;
use crate::process::{Cores, Endpoint, Server, TempDir, command};

/// Running nodes, their parent process, and the upstream.
pub(crate) struct Cluster {
    pub(crate) upstream: Server,
    pub(crate) gateway: Server,
    /// Of each node, in order.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The nodes' processes.
    pub(crate) pids: Vec<i32>,
}

impl Cluster {
    /// Starts `nodes` nodes that keep their data below `data`.
    pub(crate) async fn start(gateway: &Path, nodes: usize, data: &Path, folder: &TempDir) -> Result<Self> {
        let mut upstream = command(std::env::current_exe()?, Cores::Any);
        upstream.arg("upstream");
        let mut upstream = Server::start("upstream", upstream, folder.path())?;
        let url = upstream.ready().await?.url();
        let configuration = folder.path().join("gateway.yaml");
        let text = format!("upstreams:\n  - name: bench\n    url: {url}\n    era: legacy\n    sessions: per_client\n");
        fs::write(&configuration, text)?;
        let mut run = command(gateway, Cores::Any);
        run.args(["up", "--nodes", &nodes.to_string(), "--listen", "127.0.0.1:0", "--config"]).arg(&configuration);
        run.arg("--data-dir").arg(data);
        let mut gateway = Server::start("gateway", run, folder.path())?;
        let endpoints = gateway.all_ready(nodes).await?;
        let pids = if nodes == 1 { vec![gateway.pid()] } else { cpu::children(gateway.pid())? };
        ensure!(pids.len() == nodes, "the gateway runs {} processes instead of {nodes}", pids.len());
        Ok(Self { upstream, gateway, endpoints, pids })
    }

    /// Ends the nodes, then the upstream.
    pub(crate) async fn stop(self) -> Result<()> {
        self.gateway.stop().await?;
        self.upstream.stop().await
    }
}
