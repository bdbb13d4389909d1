//! The two proxies under comparison: their configuration and their start.
//!
//! nginx is set up as a careful operator would for this job: keep-alive on both sides without request limits, no
//! access log, buffering as by default. It gets as many workers as the gateway has runtime threads (one per core it
//! may use), so that both can use the same cores; `--nginx-workers 1` gives the other reading.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use enfilade_process::{Process, children};
use tokio::time::timeout;

use crate::cli::UpstreamEra;
use crate::process::{Cores, Endpoint, Server, command};
use crate::wire::Era;

/// Longest time for nginx to begin to serve.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy, and the processes whose CPU is its own.
pub(crate) struct Proxy {
    pub(crate) server: Server,
    pub(crate) pids: Vec<i32>,
}

/// Finds nginx, or says how to get it.
pub(crate) fn find_nginx(wanted: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = wanted {
        return Ok(path.to_owned());
    }
    // Debian keeps it in /usr/sbin, which an ordinary user's PATH lacks.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|folder| folder.join("nginx"));
    match candidates.find(|candidate| candidate.is_file()) {
        Some(nginx) => Ok(nginx),
        None => bail!("nginx is missing; install it with: apt-get install nginx-light"),
    }
}

/// Starts nginx in front of `upstream`.
pub(crate) async fn start_nginx(
    nginx: &Path,
    workers: usize,
    upstream: &Endpoint,
    folder: &Path,
    cores: Cores,
) -> Result<Proxy> {
    let address = free_address()?;
    let configuration = folder.join("nginx.conf");
    fs::write(&configuration, nginx_conf(workers, address, upstream.address, folder))?;
    let mut run = command(nginx, cores);
    run.arg("-p").arg(folder).arg("-c").arg(&configuration);
    let mut process = Process::start("nginx", run, &folder.join("nginx.stderr"))?;
    accepts(&mut process, address).await?;
    let pids = nginx_pids(process.pid(), workers).await?;
    let endpoint = Endpoint { address, path: upstream.path.clone() };
    Ok(Proxy { server: Server { process, endpoint }, pids })
}

/// Waits until something accepts at `address`: nginx prints nothing.
async fn accepts(process: &mut Process, address: SocketAddr) -> Result<()> {
    let accepted = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            process.check_alive()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    timeout(PATIENCE, accepted).await.with_context(|| format!("nginx does not serve within {PATIENCE:?}"))?
}

/// nginx can neither take a listening socket from us nor report the port it was given, so one is chosen here and
/// let go again. If another process takes it in between, nginx says so and the run fails.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn nginx_conf(workers: usize, listen: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes {workers};
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream mcp {{
    server {upstream};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://mcp;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

/// Master and workers, once all workers are there.
async fn nginx_pids(master: i32, workers: usize) -> Result<Vec<i32>> {
    let all = async {
        loop {
            let mut pids = children(master)?;
            if pids.len() >= workers {
                pids.push(master);
                return Ok(pids);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.context("nginx's workers did not start")?
}

/// Starts the gateway with one upstream. Only JSON over HTTP is measured, so it has no child processes to charge.
pub(crate) async fn start_gateway(
    gateway: &Path,
    client: Era,
    upstream_era: UpstreamEra,
    upstream: &Endpoint,
    folder: &Path,
    cores: Cores,
) -> Result<Proxy> {
    let configuration = folder.join(format!("gateway-{client}.yaml"));
    fs::write(&configuration, gateway_yaml(client, upstream_era, upstream))?;
    let data = folder.join(format!("gateway-{client}-data"));
    fs::create_dir(&data)?;
    let mut run = command(gateway, cores);
    run.args(["up", "--nodes", "1", "--config"]).arg(&configuration).arg("--data-dir").arg(&data);
    run.arg("--listen").arg("127.0.0.1:0");
    let server = Server::start("gateway", run, folder).await?;
    let pids = vec![server.process.pid()];
    Ok(Proxy { server, pids })
}

fn gateway_yaml(client: Era, upstream_era: UpstreamEra, upstream: &Endpoint) -> String {
    let era = match (upstream_era, client) {
        (UpstreamEra::Auto, _) => "auto",
        (UpstreamEra::Legacy, _) | (UpstreamEra::Match, Era::Legacy) => "legacy",
        (UpstreamEra::Modern, _) | (UpstreamEra::Match, Era::Modern) => "modern",
    };
    format!("upstreams:\n  - name: bench\n    url: {}\n    era: {era}\n    sessions: per_client\n", upstream.url())
}
