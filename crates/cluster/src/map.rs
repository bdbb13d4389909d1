//! Who owns which slot, as this node's replica of the registry says: one snapshot, shared by all who route.

use enfilade_registry::{Fence, Members, NodeId, Run, Slot, SlotRecord, SlotTable};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The slot table and the members at one version.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) slots: Arc<SlotTable>,
    pub(crate) members: Arc<Members>,
}

impl Map {
    /// Who serves the slot, and under which term.
    pub(crate) fn owner(&self, slot: Slot) -> Option<(Run, Fence)> {
        let record = self.record(slot);
        record.owner.map(|run| (run, Fence { slot, term: record.term }))
    }

    pub(crate) fn record(&self, slot: Slot) -> &SlotRecord {
        self.slots.get(slot)
    }

    /// True when `run` may no longer answer under `fence`: another term has begun, and it is not the node that
    /// finishes the calls of a planned move.
    pub(crate) fn is_over(&self, fence: Fence, run: Run) -> bool {
        let record = self.record(fence.slot);
        record.term > fence.term && record.second != Some(run)
    }

    /// Nodes that may own slots: each takes what needs none.
    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.members.owners().filter(|run| !self.members.is_draining(run.node)).map(|run| run.node)
    }
}

/// Resolves when `run` may no longer answer under `fence`.
pub(crate) async fn superseded(mut map: watch::Receiver<Arc<Map>>, fence: Fence, run: Run) {
    // A sender that is gone means that this node stops: its streams end with it.
    let _ = map.wait_for(|map| map.is_over(fence, run)).await;
}

/// What every node has to do at present, as gossip says.
#[derive(Debug, Default)]
pub(crate) struct Loads(RwLock<HashMap<NodeId, u32>>);

/// Above this many hundredths of the mean a node mints elsewhere.
const OVER_MEAN_PERCENT: u64 = 120;

impl Loads {
    pub(crate) fn set(&self, loads: HashMap<NodeId, u32>) {
        *self.0.write() = loads;
    }

    /// The load of `node`; one that nothing is known of has none.
    pub(crate) fn of(&self, node: NodeId) -> u32 {
        self.0.read().get(&node).copied().unwrap_or(0)
    }

    /// True when `node` does more than its share.
    pub(crate) fn is_over(&self, node: NodeId) -> bool {
        let loads = self.0.read();
        let (own, count) = (loads.get(&node).copied().unwrap_or(0), loads.len() as u64);
        let sum: u64 = loads.values().map(|load| u64::from(*load)).sum();
        count > 1 && u64::from(own) * count * 100 > sum * OVER_MEAN_PERCENT
    }

    /// The lighter of two that `random` picks among `nodes`.
    pub(crate) fn lighter(&self, nodes: &[NodeId], random: u64) -> Option<NodeId> {
        let pick = |random: u32| nodes.get(random as usize % nodes.len().max(1)).copied();
        let (first, second) = (pick(random as u32)?, pick((random >> 32) as u32)?);
        Some(if self.of(second) < self.of(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_choose_the_lighter_and_know_who_does_too_much() {
        let loads = Loads::default();
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        assert!(!loads.is_over(NodeId(1)), "alone, or nothing known");
        loads.set([(NodeId(1), 100), (NodeId(2), 100), (NodeId(3), 160)].into());
        assert!(loads.is_over(NodeId(3)) && !loads.is_over(NodeId(1)), "133 % of the mean, and 83 %");
        assert_eq!(loads.lighter(&nodes, (2 << 32) | 1), Some(NodeId(2)));
        assert_eq!(loads.lighter(&nodes, (1 << 32) | 2), Some(NodeId(2)));
        assert_eq!(loads.lighter(&[], 7), None);
    }
}
