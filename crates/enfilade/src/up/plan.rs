//! What each node of `up` is told: the configuration of all, and what differs from node to node. Pure.

use crate::config::{Cluster, Config, Problem, Timing};
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Most nodes that decide; the others follow.
const VOTERS_MAX: usize = 5;

/// A cluster on this machine.
#[derive(Debug)]
pub(super) struct Plan {
    base: Config,
    nodes: usize,
    dir: PathBuf,
}

/// Where a node is, once it has said so. It keeps its addresses when it starts again: others and clients know them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) link: Option<SocketAddr>,
    pub(super) gossip: Option<SocketAddr>,
    pub(super) listen: Vec<SocketAddr>,
}

impl Plan {
    /// `nodes` nodes with this configuration, their state under `dir`.
    ///
    /// # Errors
    /// They cannot all have addresses, or the configuration is for one node only.
    pub(super) fn new(base: Config, nodes: usize, dir: &Path) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if base.cluster.is_some() {
            problems.push("\"cluster\" is for `enfilade serve`: `up` decides it for its nodes".to_owned());
        }
        let plan = Self { base, nodes, dir: dir.to_owned() };
        let mut seen = HashSet::new();
        let listen = plan.base.listen.iter().map(|listen| ("listen", listen.address));
        let firsts: Vec<_> = listen.chain(plan.base.health.map(|address| ("health", address))).collect();
        for (node, (key, first)) in (0..nodes).flat_map(|node| firsts.iter().map(move |first| (node, *first))) {
            match nth(first, node) {
                None => problems.push(format!("{key}: {first} leaves no port for node {}", node + 1)),
                Some(address) if address.port() != 0 && !seen.insert(address) => {
                    problems.push(format!("{key}: {address} is wanted twice: node {} counts up to it", node + 1));
                }
                Some(_) => {}
            }
        }
        if problems.is_empty() { Ok(plan) } else { Err(problems.into_iter().map(Problem::on_command_line).collect()) }
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(super) fn name(&self, node: usize) -> String {
        format!("node-{}", node + 1)
    }

    /// The keys that all have in common.
    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// The file that the node is started with.
    pub(super) fn file(&self, node: usize) -> PathBuf {
        self.dir.join(format!("{}.yaml", self.name(node)))
    }

    /// How many addresses a node announces.
    pub(super) fn urls_of_each(&self) -> usize {
        self.base.listen.len() * self.base.servers.len()
    }

    /// The configuration of one node; `known` is where all of them are or were.
    pub(super) fn config(&self, node: usize, known: &[Addresses]) -> Config {
        let mut config = self.base.clone();
        let own = &known[node];
        for (index, listen) in config.listen.iter_mut().enumerate() {
            let planned = nth(listen.address, node).unwrap_or(listen.address);
            listen.address = own.listen.get(index).copied().unwrap_or(planned);
        }
        config.health = config.health.map(|first| nth(first, node).unwrap_or(first));
        config.data_dir = self.dir.join(self.name(node));
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let others = known.iter().enumerate().filter(|(other, _)| *other != node);
        config.cluster = Some(Cluster {
            node: self.name(node),
            link: own.link.unwrap_or(any),
            gossip: own.gossip.unwrap_or(any),
            seeds: others.filter_map(|(_, known)| known.gossip).map(|seed| seed.to_string()).collect(),
            voters: (0..voters(self.nodes)).map(|voter| self.name(voter)).collect(),
            keys: Some(self.keys()),
            // Nobody waits for a whole cluster as long as for one node of it.
            timing: Timing { drain_ms: self.base.drain_ms.max(1), ..Timing::default() },
            ..Cluster::default()
        });
        config
    }
}

/// The most that make an odd number.
fn voters(nodes: usize) -> usize {
    (nodes - 1 - (nodes - 1) % 2 + 1).min(VOTERS_MAX)
}

/// The address of the node `node`: it counts up from the first's. Port 0 stays: the system chooses.
fn nth(first: SocketAddr, node: usize) -> Option<SocketAddr> {
    let port = match first.port() {
        0 => 0,
        port => port.checked_add(u16::try_from(node).ok()?)?,
    };
    Some(SocketAddr::new(first.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_edge::Listen;

    fn plan(listen: &[&str], nodes: usize) -> Result<Plan, Vec<Problem>> {
        let listen = listen.iter().map(|address| Listen {
            address: address.parse().expect("an address"),
            protocol: enfilade_edge::Protocol::default(),
        });
        Plan::new(Config { listen: listen.collect(), ..Config::default() }, nodes, Path::new("/d"))
    }

    #[test]
    fn an_odd_number_votes() {
        let table = [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5), (16, 5)];
        assert_eq!(table.map(|(nodes, _)| (nodes, voters(nodes))), table);
    }

    #[test]
    fn nodes_count_up_from_the_first_address() {
        let plan = plan(&["127.0.0.1:8808", "[::1]:0"], 3).expect("a plan");
        let known = vec![Addresses::default(); 3];
        let config = plan.config(2, &known);
        let listen: Vec<String> = config.listen.iter().map(|listen| listen.address.to_string()).collect();
        assert_eq!(listen, ["127.0.0.1:8810", "[::1]:0"]);
        assert_eq!(config.data_dir, Path::new("/d/node-3"));
        let cluster = config.cluster.expect("a cluster");
        assert_eq!((cluster.node.as_str(), cluster.voters.len(), cluster.seeds.len()), ("node-3", 3, 0));
    }

    #[test]
    fn a_node_that_starts_again_keeps_its_addresses() {
        let plan = plan(&["127.0.0.1:0"], 2).expect("a plan");
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let known =
            |base: u16| Addresses { link: Some(at(base)), gossip: Some(at(base + 1)), listen: vec![at(base + 2)] };
        let config = plan.config(1, &[known(100), known(200)]);
        assert_eq!(config.listen[0].address, at(202));
        let cluster = config.cluster.expect("a cluster");
        assert_eq!((cluster.link, cluster.gossip), (at(200), at(201)));
        assert_eq!(cluster.seeds, ["127.0.0.1:101"]);
    }

    #[test]
    fn addresses_that_collide_are_refused() {
        for listen in [["127.0.0.1:8808", "127.0.0.1:8809"].as_slice(), &["127.0.0.1:65535"]] {
            let problems = plan(listen, 3).expect_err("a problem");
            assert!(problems[0].to_string().contains("listen"), "{problems:?}");
        }
        let health = Some("127.0.0.1:8807".parse().expect("an address"));
        let config = Config { health, ..Config::default() };
        let problems = Plan::new(config, 3, Path::new("/d")).expect_err("the second asks where the first listens");
        assert!(problems[0].to_string().contains("health"), "{problems:?}");
        assert!(plan(&["127.0.0.1:65535"], 1).is_ok());
    }
}
