//! A node's parts, put together as the binary does it.

use super::disk::Disk;
use super::net::{Cut, CutListener, CutNet};
use super::wait::until;
use enfilade_cluster::{Cluster, Config, Prepared, RaftLinks, Registration, Seen, Switchboard, boottime};
use enfilade_mesh::Mesh;
use enfilade_raft::{OpenError, Raft, Share};
use enfilade_registry::{Generation, NodeId, Roles, Run, SessionKeys, Timing};
use enfilade_runtime::{Limit, Pressure};
use enfilade_session::config::{Limits, PrefixChoice, ServerConfig};
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_upstream::Connector;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[allow(clippy::too_many_arguments, reason = "all that differs between nodes")]
pub(super) async fn compose(
    run: Run,
    roles: Roles,
    timing: Timing,
    dir: PathBuf,
    addresses: Vec<SocketAddr>,
    keys: Arc<SessionKeys>,
    upstream: Arc<str>,
    listener: std::net::TcpListener,
    cut: Cut,
    disk: Disk,
) -> (Cluster, Arc<Node>, Arc<Raft>, (Pressure, Limit)) {
    let link = listener.local_addr().unwrap().to_string();
    let switchboard = Switchboard::new();
    let mut config = enfilade_mesh::Config::new(run);
    config.net = Arc::new(CutNet(cut.clone()));
    listener.set_nonblocking(true).unwrap();
    let listener = CutListener(tokio::net::TcpListener::from_std(listener).unwrap(), cut);
    let mesh = Mesh::start_on(config, Box::new(listener), switchboard.clone()).unwrap();
    let mut raft = enfilade_raft::Config::new(dir, run, Arc::new(RaftLinks(mesh.clone())));
    raft.timing = timing;
    raft.before_write = Some(Arc::new(move || disk.before_write()));
    let opened = until(|| Raft::open(raft.clone()), |opened| !matches!(opened, Err(OpenError::Journal(_)))).await;
    let raft = Arc::new(opened.unwrap());
    switchboard.set_raft(raft.clone());
    let name = format!("node-{}", run.node.0);
    let registration = Registration { name: name.into(), link: link.into(), roles, formats: 1 };
    let pressure = Pressure::default();
    let messages = Limit::of_memory(usize::MAX >> 1, pressure.clone());
    let mut config = Config::new(run, registration, vec!["all".into()]);
    (config.timing, config.messages) = (timing, messages.clone());
    let prepared = Prepared::new(config, mesh, &Share::Replica(raft.clone()), keys.clone(), boottime()).unwrap();
    let server =
        ServerConfig { name: "all".into(), path: "/mcp".into(), prefix: PrefixChoice::Never, upstreams: vec![] };
    let limits = Limits { health_interval_ms: 200, ..Limits::default() };
    let node_config = NodeConfig { servers: vec![server], limits, cursor_secret: vec![1; 32] };
    let upstream = serde_json::from_value(serde_json::json!({"name": "everything", "url": &*upstream})).unwrap();
    let connectors = vec![Connector::new(upstream).unwrap()];
    let registry = Registry { reader: raft.clone(), writer: raft.clone(), keys };
    let node = Node::start(node_config, connectors, registry, prepared.slots(), prepared.copies()).unwrap();
    let cluster = prepared.start(node.clone(), &switchboard);
    let seen = addresses.iter().enumerate().map(|(at, address)| Seen {
        run: Run { node: NodeId(at as u64 + 1), generation: Generation(1) },
        link: address.to_string(),
        load: 0,
    });
    cluster.set_roster(seen.collect());
    (cluster, node, raft, (pressure, messages))
}
