//! Who owns which slot, as this node's replica of the registry says: one snapshot, shared by all who route.

use enfilade_registry::{Fence, Members, NodeId, Origin, Run, SLOTS, Slot, SlotRecord, SlotTable};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

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
        // A node that drains is no second for long.
        let finishes = || self.was_just_moved(fence) && self.members.is_draining(run.node);
        record.term > fence.term && record.second != Some(run) && !finishes()
    }

    /// True when a planned move is all that happened to the slot since `fence`: what its owner of then has answered, it
    /// has answered before it handed over, however late that comes.
    pub(crate) fn was_just_moved(&self, fence: Fence) -> bool {
        let record = self.record(fence.slot);
        record.term.0 == fence.term.0 + 1 && matches!(record.origin, Origin::Move(_))
    }

    /// True when the slot went to its present owner by a planned move, after `fence`.
    pub(crate) fn was_moved(&self, fence: Fence) -> bool {
        let record = self.record(fence.slot);
        record.term > fence.term && matches!(record.origin, Origin::Move(_))
    }

    /// Nodes that may own slots: each takes what needs none.
    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.members.owners().filter(|run| !self.members.is_draining(run.node)).map(|run| run.node)
    }
}

/// The present map, for who looks and for who waits.
pub(crate) struct Maps {
    map: watch::Sender<Arc<Map>>,
    /// One per slot, so that who waits for one slot does not hear of all others.
    changed: Box<[Notify]>,
}

impl Maps {
    pub(crate) fn new(map: Map) -> Self {
        let changed = (0..SLOTS).map(|_| Notify::new()).collect();
        Self { map: watch::Sender::new(Arc::new(map)), changed }
    }

    pub(crate) fn now(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// Who serves the slot now, and under which term.
    pub(crate) fn owner(&self, slot: Slot) -> Option<(Run, Fence)> {
        self.map.borrow().owner(slot)
    }

    /// Every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// From now on this is the map.
    pub(crate) fn publish(&self, map: Arc<Map>) {
        let before = self.map.send_replace(map.clone());
        for ((old, new), changed) in before.slots.records().iter().zip(map.slots.records()).zip(&self.changed) {
            if old != new {
                changed.notify_waiters();
            }
        }
    }

    /// Resolves when `run` may no longer answer under `fence`.
    pub(crate) async fn superseded(&self, fence: Fence, run: Run) {
        let changed = &self.changed[usize::from(fence.slot.get())];
        loop {
            let next = changed.notified();
            tokio::pin!(next);
            // What changes from here on is heard.
            next.as_mut().enable();
            if self.map.borrow().is_over(fence, run) {
                return;
            }
            next.await;
        }
    }
}

/// What every node has to do at present, as gossip says.
#[derive(Debug, Default)]
pub(crate) struct Loads(RwLock<HashMap<NodeId, u32>>);

/// Above this many hundredths of the mean a node mints elsewhere.
const OVER_MEAN_PERCENT: u64 = 120;
/// With fewer calls in flight it does not, whatever the mean: a session that is elsewhere costs a link with each call.
const BUSY_CALLS_MIN: u32 = 32;

impl Loads {
    pub(crate) fn set(&self, loads: HashMap<NodeId, u32>) {
        *self.0.write() = loads;
    }

    /// The load of `node`; one that nothing is known of has none.
    pub(crate) fn of(&self, node: NodeId) -> u32 {
        self.0.read().get(&node).copied().unwrap_or(0)
    }

    /// True when `node` is busy and does more than its share.
    pub(crate) fn is_over(&self, node: NodeId) -> bool {
        let loads = self.0.read();
        let (own, count) = (loads.get(&node).copied().unwrap_or(0), loads.len() as u64);
        let sum: u64 = loads.values().map(|load| u64::from(*load)).sum();
        count > 1 && own >= BUSY_CALLS_MIN && u64::from(own) * count * 100 > sum * OVER_MEAN_PERCENT
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
    use enfilade_registry::{Command, Generation, MemoryRegistry, Reader, Roles, Term};
    use futures::FutureExt;

    #[tokio::test]
    async fn an_owner_is_superseded_by_a_take_and_not_by_its_own_move() {
        let registry = MemoryRegistry::new();
        let run = |node| Run { node: NodeId(node), generation: Generation(1) };
        for node in 1..=2 {
            let (name, link) = (node.to_string().into(), "127.0.0.1:1".into());
            let command = Command::Register { run: run(node), name, link, roles: Roles::ALL, formats: 1 };
            registry.apply(&command).expect("registered");
        }
        let map = || Map { slots: registry.slot_table(), members: registry.members() };
        registry.apply(&Command::Assign { live: vec![run(1)] }).expect("assigned");
        let maps = Arc::new(Maps::new(map()));
        let fence = Fence { slot: Slot::new(3).expect("a slot"), term: Term(1) };
        let mut waiting = Box::pin(maps.superseded(fence, run(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        registry.apply(&Command::Move { slots: vec![(fence.slot, fence.term)], to: run(2) }).expect("moves");
        let id = map().record(fence.slot).moving.expect("it moves").id;
        registry.apply(&Command::Done { moves: vec![(fence.slot, id)] }).expect("done");
        maps.publish(Arc::new(map()));
        assert!(waiting.as_mut().now_or_never().is_none(), "it finishes what it began");
        assert!(map().was_just_moved(fence) && map().was_moved(fence));
        let take = Command::Take { lost: run(1), live: vec![run(2)], epoch: 0, upto: u64::MAX };
        registry.apply(&take).expect("taken");
        maps.publish(Arc::new(map()));
        assert!(waiting.as_mut().now_or_never().is_some());
        assert_eq!(maps.now().owner(fence.slot), Some((run(2), Fence { term: Term(2), ..fence })));
    }

    #[test]
    fn loads_choose_the_lighter_and_know_who_does_too_much() {
        let loads = Loads::default();
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        assert!(!loads.is_over(NodeId(1)), "alone, or nothing known");
        loads.set([(NodeId(1), 100), (NodeId(2), 100), (NodeId(3), 160)].into());
        assert!(loads.is_over(NodeId(3)) && !loads.is_over(NodeId(1)), "133 % of the mean, and 83 %");
        loads.set([(NodeId(1), 0), (NodeId(2), 0), (NodeId(3), 31)].into());
        assert!(!loads.is_over(NodeId(3)), "more than its share, but not much");
        loads.set([(NodeId(1), 100), (NodeId(2), 100), (NodeId(3), 160)].into());
        assert_eq!(loads.lighter(&nodes, (2 << 32) | 1), Some(NodeId(2)));
        assert_eq!(loads.lighter(&nodes, (1 << 32) | 2), Some(NodeId(2)));
        assert_eq!(loads.lighter(&[], 7), None);
    }
}
