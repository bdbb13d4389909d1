//! What is wrong with the section `cluster`. Pure.

use super::check::{Faults, OwnedStep};
use super::cluster::{Cluster, Role, Timing};
use std::collections::HashSet;

/// Longest name of a node or a cluster: it travels in gossip packets.
const NAME_BYTES_MAX: usize = 63;

/// Numbers of voters that make sense: an even one fails as early as the odd one below it.
const VOTERS: [usize; 3] = [1, 3, 5];

pub(super) fn check(cluster: &Cluster, faults: &mut Faults) {
    names(cluster, faults);
    roles(cluster, faults);
    addresses(cluster, faults);
    voters(cluster, faults);
    timing(&cluster.timing, faults);
    if cluster.keys.is_none() {
        let text = "nodes of a cluster need common keys: make them with `enfilade keys --out DIR`, \
                    and name the folder under \"keys\"";
        faults.add(at("keys"), text);
    }
}

fn at(key: &'static str) -> [OwnedStep; 2] {
    [OwnedStep::Key("cluster"), OwnedStep::Key(key)]
}

fn item(key: &'static str, index: usize) -> [OwnedStep; 3] {
    [OwnedStep::Key("cluster"), OwnedStep::Key(key), OwnedStep::Index(index)]
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good)
}

fn names(cluster: &Cluster, faults: &mut Faults) {
    for (key, name) in [("name", &cluster.name), ("node", &cluster.node)] {
        if !is_name(name) {
            let text = format!("{key} {name:?}: use 1 to {NAME_BYTES_MAX} lower-case letters, digits, '-' and '.'");
            faults.add(at(key), text);
        }
    }
}

fn roles(cluster: &Cluster, faults: &mut Faults) {
    if cluster.roles.is_empty() {
        faults.add(at("roles"), "a node needs at least one role: edge, owner, registry");
    }
    let mut seen = HashSet::new();
    for (index, role) in cluster.roles.iter().enumerate() {
        if !seen.insert(role) {
            faults.add(item("roles", index), "this role is there already");
        }
    }
}

fn addresses(cluster: &Cluster, faults: &mut Faults) {
    for (index, seed) in cluster.seeds.iter().enumerate() {
        if !is_host_port(seed) {
            faults.add(item("seeds", index), format!("{seed:?} is not HOST:PORT"));
        }
    }
    if let Some(link) = cluster.link_advertise.as_ref().filter(|link| !is_host_port(link)) {
        faults.add(at("link_advertise"), format!("{link:?} is not HOST:PORT"));
    }
    if let Some(gossip) = cluster.gossip_advertise.filter(|gossip| gossip.port() == 0 || gossip.ip().is_unspecified()) {
        faults.add(at("gossip_advertise"), format!("{gossip} is no address that others can reach"));
    }
    // Without a name of its own, others would be told 0.0.0.0.
    let told = [
        ("link", cluster.link, "link_advertise", cluster.link_advertise.is_some()),
        ("gossip", cluster.gossip, "gossip_advertise", cluster.gossip_advertise.is_some()),
    ];
    for (key, address, advertise, _) in
        told.iter().filter(|(_, address, _, told)| address.ip().is_unspecified() && !told)
    {
        faults.add(at(key), format!("{address} is every address: say under \"{advertise}\" which one others reach"));
    }
}

/// An IPv6 address stands in brackets.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_is_good = if bracketed { text.parse::<std::net::SocketAddr>().is_ok() } else { is_host(host) };
    host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn voters(cluster: &Cluster, faults: &mut Faults) {
    if !VOTERS.contains(&cluster.voters.len()) {
        let text = format!("name 1, 3 or 5 voters; there are {}", cluster.voters.len());
        faults.add(at("voters"), text);
    }
    let mut seen = HashSet::new();
    for (index, voter) in cluster.voters.iter().enumerate() {
        if !is_name(voter) {
            faults.add(item("voters", index), format!("{voter:?} is not the name of a node"));
        } else if !seen.insert(voter) {
            faults.add(item("voters", index), format!("{voter:?} is there already"));
        }
        if *voter == cluster.node && !cluster.plays(Role::Registry) {
            faults.add(item("voters", index), format!("{voter:?} is this node, which does not have the role registry"));
        }
    }
    if cluster.voters.iter().any(|voter| *voter != cluster.node) && cluster.seeds.is_empty() && !is_first(cluster) {
        faults.add(at("seeds"), "name at least one other node: this one would wait for them alone");
    }
}

/// The first voter may be found by the others.
fn is_first(cluster: &Cluster) -> bool {
    cluster.voters.first() == Some(&cluster.node)
}

fn timing(timing: &Timing, faults: &mut Faults) {
    if let Err(error) = timing.registry().check() {
        faults.add(at("timing"), error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_ports() {
        for good in ["127.0.0.1:1", "[::1]:9", "node-1.cluster.local:65535", "a_b:80"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in ["", "x", ":1", "x:", "x:0", "x:65536", "::1:9", "[::1]", "[x]:1", "a b:1", "http://x:1"] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}
