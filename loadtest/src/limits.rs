//! What a run on one machine needs of it, and what to change when that is not there. The rules are pure.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors of a process are never counted on beyond this, however many the host allows: many systems cap them.
const DESCRIPTORS_USED: u64 = 20_000;
/// Descriptors of a node besides its clients' streams: calls, links, upstreams, files.
const NODE_SPARE: u64 = 4_500;
/// Descriptors of a worker besides its streams.
const WORKER_SPARE: u64 = 2_500;
/// Of the gateway and of the generator, for one stream; measured below 12 KB, and the kernel's sockets besides.
const BYTES_PER_STREAM: u64 = 24 << 10;
const BYTES_PER_NODE: u64 = 100 << 20;
/// A burst of connections after a fault waits here.
const BACKLOG_MIN: u64 = 1_024;
/// Streams of a node that dies come to the others.
const NODES_LOST: u64 = 1;

/// How much a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) connections: u64,
    pub(crate) nodes: u64,
    pub(crate) workers: u64,
}

/// What the host has; nothing where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    pub(crate) descriptors: u64,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) ports: Option<u64>,
    pub(crate) backlog: Option<u64>,
    pub(crate) tracked: Option<u64>,
    pub(crate) files: Option<u64>,
}

/// Something that is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    what: &'static str,
    has: u64,
    needs: u64,
    change: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { what, has, needs, change } = self;
        write!(f, "{what}: {has}, but {needs} are needed: {change}")
    }
}

impl Size {
    /// As many nodes and workers as the descriptors of one process need; a node may be lost.
    pub(crate) fn new(connections: u64, descriptors: u64, nodes: Option<u64>, workers: Option<u64>) -> Size {
        let descriptors = descriptors.min(DESCRIPTORS_USED);
        let per_node = descriptors.saturating_sub(NODE_SPARE).max(1);
        let per_worker = descriptors.saturating_sub(WORKER_SPARE).max(1);
        let nodes = nodes.unwrap_or_else(|| (connections.div_ceil(per_node) + NODES_LOST).max(3));
        let workers = workers.unwrap_or_else(|| connections.div_ceil(per_worker).max(2));
        Size { connections, nodes, workers }
    }

    /// Streams of one node after one was lost.
    fn of_a_node(self) -> u64 {
        self.connections.div_ceil(self.nodes.saturating_sub(NODES_LOST).max(1))
    }

    /// What the host does not have.
    pub(crate) fn problems(self, host: &Host) -> Vec<Problem> {
        let mut all = Vec::new();
        let mut need = |what, has: Option<u64>, needs: u64, change: &str| {
            if let Some(has) = has.filter(|has| *has < needs) {
                all.push(Problem { what, has, needs, change: change.to_owned() });
            }
        };
        let of_a_process =
            (self.of_a_node() + NODE_SPARE).max(self.connections.div_ceil(self.workers.max(1)) + WORKER_SPARE);
        let descriptors = "raise it (ulimit -Hn), or give more --nodes and --workers";
        need("descriptors of a process", Some(host.descriptors), of_a_process, descriptors);
        let memory = self.connections * BYTES_PER_STREAM + self.nodes * BYTES_PER_NODE;
        need("bytes of free memory", host.memory_bytes, memory, "free some, or give fewer --connections");
        let ports = "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or give more --nodes and --workers: each has an address of its own";
        // Workers have addresses of their own.
        let of_a_pair = self.of_a_node().div_ceil(self.workers.max(1)) + NODE_SPARE;
        need("ports from one address to another", host.ports, of_a_pair, ports);
        need("net.core.somaxconn", host.backlog, BACKLOG_MIN, "sysctl -w net.core.somaxconn=4096");
        let tracked = "sysctl -w net.netfilter.nf_conntrack_max=…, or do not track connections of the loopback";
        need("net.netfilter.nf_conntrack_max", host.tracked, 2 * self.connections, tracked);
        need("fs.file-max", host.files, 3 * self.connections, "sysctl -w fs.file-max=…");
        all
    }
}

impl Host {
    /// This one.
    pub(crate) fn read() -> Result<Host> {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        Ok(Host {
            descriptors: descriptors()?,
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)),
            ports: fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| range(&text)),
            backlog: number("/proc/sys/net/core/somaxconn"),
            tracked: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            files: number("/proc/sys/fs/file-max"),
        })
    }
}

/// Descriptors that a process of this user may hold.
pub(crate) fn descriptors() -> Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE).context("the limit of descriptors is not known")?.1)
}

/// Takes as many descriptors as are allowed, for this process and all that it starts.
pub(crate) fn raise_descriptors() -> Result<()> {
    let hard = descriptors()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of descriptors")
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

fn range(text: &str) -> Option<u64> {
    let mut ports = text.split_ascii_whitespace().map_while(|port| port.parse::<u64>().ok());
    let (first, last) = (ports.next()?, ports.next()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            descriptors: 20_000,
            memory_bytes: Some(20 << 30),
            ports: Some(28_232),
            backlog: Some(4_096),
            tracked: None,
            files: Some(2_000_000),
        }
    }

    #[test]
    fn a_hundred_thousand_take_eight_nodes_and_six_workers() {
        let size = Size::new(100_000, 20_000, None, None);
        assert!(size.nodes == 8 && size.workers == 6, "{size:?}");
        assert_eq!(size.problems(&host()), []);
        // More descriptors than others have are not counted on.
        assert_eq!(Size::new(100_000, 1 << 20, None, None), size);
        assert_eq!(Size::new(10, 20_000, None, None), Size { connections: 10, nodes: 3, workers: 2 });
    }

    #[test]
    fn each_limit_is_named_with_what_to_change() {
        let size = Size { connections: 100_000, nodes: 3, workers: 2 };
        let poor =
            Host { memory_bytes: Some(1 << 30), backlog: Some(128), tracked: Some(65_536), files: Some(9), ..host() };
        let said: Vec<String> = size.problems(&poor).iter().map(Problem::to_string).collect();
        for (wanted, change) in [
            ("descriptors of a process: 20000, but 54500", "ulimit"),
            ("bytes of free memory", "--connections"),
            ("ports from one address to another: 28232, but 29500", "ip_local_port_range"),
            ("net.core.somaxconn: 128", "sysctl"),
            ("net.netfilter.nf_conntrack_max: 65536, but 200000", "sysctl"),
            ("fs.file-max", "sysctl"),
        ] {
            assert!(said.iter().any(|text| text.starts_with(wanted) && text.contains(change)), "{wanted}: {said:?}");
        }
        assert_eq!(said.len(), 6);
    }

    #[test]
    fn what_the_system_prints_is_read() {
        assert_eq!(range("32768\t60999\n"), Some(28_232));
        assert_eq!(available("MemTotal: 5 kB\nMemAvailable:   1024 kB\n"), Some(1 << 20));
        assert!(Host::read().expect("this host").descriptors > 0);
    }
}
