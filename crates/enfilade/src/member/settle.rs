//! How a node with an empty data directory comes to a registry: it founds one with others, or joins one. Pure.
//!
//! Rule: a cluster is founded once. All voters that the configuration names must be there, none may have a registry, each
//! must see all others, and nobody in sight may belong to a cluster; then the one with the lowest id proposes.
//! Whoever sees a founded cluster joins that, whatever the configuration says.

use enfilade_membership::{Alive, Roster};
use enfilade_registry::NodeId;

/// What a node without a registry does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is not its turn; the text says what is waited for.
    Wait(String),
    /// Founds the registry with these voters, itself among them, if all agree.
    Propose(Vec<NodeId>),
    /// Asks this node to be taken in.
    Join(NodeId),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Me<'a> {
    pub(super) node: NodeId,
    pub(super) name: &'a str,
    /// The names of the nodes that found the cluster.
    pub(super) voters: &'a [String],
}

/// The next step of `me`, which sees this roster and has links to `connected`.
pub(super) fn next(me: Me<'_>, roster: &Roster, connected: &[NodeId]) -> Step {
    if let Some(host) = founded(me, roster) {
        return Step::Join(host);
    }
    let nodes = match founders(me, roster, connected) {
        Ok(nodes) => nodes,
        Err(reason) => return Step::Wait(reason),
    };
    match nodes.first() {
        Some(first) if *first == me.node => Step::Propose(nodes),
        _ => Step::Wait("for the voter with the lowest id to found the cluster".to_owned()),
    }
}

/// Whether `me` agrees that these nodes found a cluster.
pub(super) fn agrees(me: Me<'_>, roster: &Roster, connected: &[NodeId], nodes: &[NodeId]) -> bool {
    founded(me, roster).is_none() && founders(me, roster, connected).is_ok_and(|own| own == nodes)
}

/// The node to ask when there is a cluster: its leader if one is known, else anybody who belongs to it.
fn founded(me: Me<'_>, roster: &Roster) -> Option<NodeId> {
    let others = roster.members().iter().filter(|alive| alive.identity.run.node != me.node);
    let hints = others.filter_map(|alive| Some((alive.identity.run.node, alive.hint.as_ref()?)));
    let belonging: Vec<_> = hints.filter(|(_, hint)| hint.initialised.is_some()).collect();
    let leader = belonging.iter().filter_map(|(_, hint)| hint.leader).max_by_key(|(term, _)| *term);
    let leader = leader.map(|(_, node)| node).filter(|node| roster.get(*node).is_some() && *node != me.node);
    leader.or(belonging.first().map(|(node, _)| *node))
}

/// The ids of all voters, in order, if each is there once, has said that it has no registry, and has a link to us.
fn founders(me: Me<'_>, roster: &Roster, connected: &[NodeId]) -> Result<Vec<NodeId>, String> {
    if !me.voters.iter().any(|voter| voter == me.name) {
        return Err("for a cluster to join".to_owned());
    }
    let mut nodes = Vec::new();
    for voter in me.voters {
        let named: Vec<&Alive> = roster.members().iter().filter(|alive| alive.identity.name == *voter).collect();
        let node = match named.as_slice() {
            [] => return Err(format!("for {voter}")),
            [alive] => alive.identity.run.node,
            _ => return Err(format!("for {voter}, which several nodes call themselves, to be one")),
        };
        if node != me.node && (named.iter().any(|alive| alive.hint.is_none()) || !connected.contains(&node)) {
            return Err(format!("for a link to {voter}"));
        }
        nodes.push(node);
    }
    nodes.sort_unstable();
    Ok(nodes)
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
