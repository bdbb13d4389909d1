//! Which nodes a majority cannot reach, and since when.

use std::collections::BTreeMap;

use crate::NodeId;

/// What nodes said lately of whom they cannot reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    reports: BTreeMap<NodeId, (u64, Vec<NodeId>)>,
    cut_since_ms: BTreeMap<NodeId, u64>,
}

impl Reach {
    /// `node` says whom it cannot reach; what is older than `fresh_ms` is forgotten.
    pub(super) fn report(&mut self, now_ms: u64, node: NodeId, unreachable: &[NodeId], fresh_ms: u64) {
        self.reports.insert(node, (now_ms, unreachable.to_vec()));
        self.reports.retain(|_, (at_ms, _)| now_ms.saturating_sub(*at_ms) < fresh_ms);
        let mut against: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (reporter, (_, unreachable)) in &self.reports {
            for node in unreachable.iter().filter(|node| *node != reporter) {
                *against.entry(*node).or_default() += 1;
            }
        }
        // The node in question counts as one that is reached: of two nodes that do not see each other, neither is cut.
        let all = self.reports.len();
        against.retain(|node, count| *count * 2 > all + usize::from(!self.reports.contains_key(node)));
        self.cut_since_ms.retain(|node, _| against.contains_key(node));
        for node in against.keys() {
            self.cut_since_ms.entry(*node).or_insert(now_ms);
        }
    }

    /// Whether a majority has not reached `node` for `after_ms`.
    pub(super) fn is_cut(&self, now_ms: u64, node: NodeId, after_ms: u64) -> bool {
        self.cut_since_ms.get(&node).is_some_and(|since_ms| now_ms.saturating_sub(*since_ms) >= after_ms)
    }
}
