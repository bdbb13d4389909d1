//! A network of our own: one namespace per node, joined by a bridge, and rules that drop packets between them.
//! Everything is named after this process, and is gone when it is dropped.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// The third number of all addresses.
const SUBNET: u8 = 73;

/// How many there were.
static NETS: AtomicU32 = AtomicU32::new(0);

/// The bridge and the namespaces.
pub(crate) struct Net {
    bridge: String,
    spaces: Vec<String>,
}

impl Net {
    /// A network for `nodes` nodes. Needs root, `ip` and `nft`.
    pub(crate) fn new(nodes: usize) -> Result<Net> {
        ensure!(nix::unistd::geteuid().is_root(), "namespaces need root");
        // The kernel takes its time to forget a name.
        let id = std::process::id() % 10_000 * 10 + NETS.fetch_add(1, Ordering::Relaxed) % 10;
        let mut net = Net { bridge: format!("efd{id}"), spaces: Vec::new() };
        ip(&["link", "add", &net.bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", net.outside()), "dev", &net.bridge])?;
        ip(&["link", "set", &net.bridge, "up"])?;
        for node in 0..nodes {
            net.add(node, id)?;
        }
        Ok(net)
    }

    fn add(&mut self, node: usize, id: u32) -> Result<()> {
        let space = format!("efd{id}-{node}");
        let (near, far) = (format!("ed{id}a{node}"), format!("ed{id}b{node}"));
        ip(&["netns", "add", &space])?;
        self.spaces.push(space.clone());
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far])?;
        ip(&["link", "set", &far, "netns", &space])?;
        ip(&["link", "set", &near, "master", &self.bridge])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", &space, "addr", "add", &format!("{}/24", address(node)), "dev", &far])?;
        ip(&["-n", &space, "link", "set", &far, "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        self.nft(node, "add table ip drill")?;
        self.nft(node, "add chain ip drill input { type filter hook input priority 0 ; }")
    }

    /// The address outside of all nodes: the witness and the clients are there.
    pub(crate) fn outside(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 199, SUBNET, 1)
    }

    /// What is written in front of a node's command.
    pub(crate) fn wrap(&self, node: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.spaces[node]].map(str::to_owned).to_vec()
    }

    /// `to` hears nothing from `from` any more.
    pub(crate) fn deafen(&self, to: usize, from: usize) -> Result<()> {
        self.nft(to, &format!("add rule ip drill input ip saddr {} drop", address(from)))
    }

    /// Neither of these hears any of those, nor the other way round.
    pub(crate) fn part(&self, these: &[usize], those: &[usize]) -> Result<()> {
        for (&one, &two) in these.iter().flat_map(|one| those.iter().map(move |two| (one, two))) {
            self.deafen(one, two)?;
            self.deafen(two, one)?;
        }
        Ok(())
    }

    /// Everybody hears everybody again.
    pub(crate) fn heal(&self) -> Result<()> {
        (0..self.spaces.len()).try_for_each(|node| self.nft(node, "flush chain ip drill input"))
    }

    fn nft(&self, node: usize, rule: &str) -> Result<()> {
        run(Command::new("ip").args(["netns", "exec", &self.spaces[node], "nft", rule]))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What cannot be removed is said by the next run, which has other names.
        for space in &self.spaces {
            let _ = ip(&["netns", "del", space]);
        }
        let _ = ip(&["link", "del", &self.bridge]);
    }
}

/// A node's address.
pub(crate) fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 199, SUBNET, 10 + u8::try_from(node).unwrap_or(u8::MAX - 10))
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
