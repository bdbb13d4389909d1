//! Which node has how many slots, how many of them have no copy, and for how long each slot that was moved stood still:
//! by what the nodes log.

use std::path::PathBuf;
use std::time::Duration;

use crate::report::Times;

/// How many there are.
pub(crate) const SLOTS: u64 = 4096;

/// What a node logs when slots come to it or go.
const CHANGED: &str = "slots of this node changed";

/// What a node logs when it has slots without a copy, and when it has none any more.
const UNCOPIED: &str = " uncopied=";

/// What a node logs at each start, before it has slots.
const STARTS: &str = "runs the cluster's configuration";

/// What one look of one node says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    gained: u64,
    lost: u64,
    pauses_ms: Vec<u64>,
}

/// Slots as the logs have them, since the nodes were started for the first time.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Of each node, by its number.
    pub(crate) owned: Vec<u64>,
    /// How many of these had no whole copy at a second when the node last said so.
    pub(crate) uncopied: Vec<u64>,
    /// How many came to a node.
    pub(crate) gained: u64,
    /// For how long those that were handed over stood still, in ms and in the order of the logs.
    pub(crate) pauses_ms: Vec<Vec<u64>>,
}

impl Slots {
    /// Reads the logs of all nodes.
    pub(crate) fn read(logs: impl Iterator<Item = PathBuf>) -> Slots {
        let mut slots = Slots::default();
        for log in logs {
            let (mut owned, mut without, mut pauses) = (0, 0, Vec::new());
            for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
                if line.contains(STARTS) {
                    (owned, without) = (0, 0);
                }
                without = uncopied(line).unwrap_or(without);
                let Some(changed) = changed(line) else { continue };
                slots.gained += changed.gained;
                owned = (owned + changed.gained).saturating_sub(changed.lost);
                pauses.extend(changed.pauses_ms);
            }
            slots.owned.push(owned);
            slots.uncopied.push(without);
            slots.pauses_ms.push(pauses);
        }
        slots
    }

    /// Whether these nodes have all slots, and none of them more than one above another.
    pub(crate) fn balanced(&self, nodes: &[usize], all: u64) -> bool {
        let owned = || nodes.iter().filter_map(|node| self.owned.get(*node));
        let (least, most) = (owned().min().copied().unwrap_or(0), owned().max().copied().unwrap_or(0));
        owned().sum::<u64>() == all && most - least <= 1
    }

    /// Whether a second has a whole copy of each slot of these nodes.
    pub(crate) fn copied(&self, nodes: &[usize]) -> bool {
        nodes.iter().all(|node| self.uncopied.get(*node) == Some(&0))
    }

    /// The pauses that came after `before`.
    pub(crate) fn pauses_since(&self, before: &Slots) -> Times {
        let mut times = Times::default();
        for (node, pauses) in self.pauses_ms.iter().enumerate() {
            let known = before.pauses_ms.get(node).map_or(0, Vec::len);
            pauses.iter().skip(known).for_each(|ms| times.add(Duration::from_millis(*ms)));
        }
        times
    }
}

fn uncopied(line: &str) -> Option<u64> {
    line.split_once(UNCOPIED)?.1.split_whitespace().next()?.parse().ok()
}

fn changed(line: &str) -> Option<Changed> {
    let (_, rest) = line.split_once(CHANGED)?;
    let number = |name: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    let list = rest.split_once("pauses_ms=[").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let pauses_ms = list.split(',').filter_map(|ms| ms.trim().parse().ok()).collect();
    Some(Changed { gained: number("gained=")?, lost: number("lost=")?, pauses_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read_and_others_are_not() {
        let line =
            "2026-01-01T00:00:00Z DEBUG enfilade_cluster: slots of this node changed gained=0 lost=2 pauses_ms=[21, 7]";
        assert_eq!(changed(line), Some(Changed { gained: 0, lost: 2, pauses_ms: vec![21, 7] }));
        let line = "INFO slots of this node changed gained=1365 lost=0 pauses_ms=[]";
        assert_eq!(changed(line), Some(Changed { gained: 1365, ..Changed::default() }));
        assert_eq!(changed("INFO slots were handed over count=3"), None);
        assert_eq!(uncopied("DEBUG slots of this node have no whole copy at a second uncopied=12"), Some(12));
        assert_eq!(uncopied(line), None);
    }

    #[test]
    fn a_balance_has_every_slot_once() {
        let slots = |owned: &[u64]| Slots { owned: owned.to_vec(), ..Slots::default() };
        assert!(slots(&[1365, 0, 1366, 1365]).balanced(&[0, 2, 3], 4096));
        assert!(!slots(&[1364, 0, 1367, 1365]).balanced(&[0, 2, 3], 4096), "one has more");
        assert!(!slots(&[1365, 0, 1365, 1365]).balanced(&[0, 2, 3], 4096), "one is on its way");
    }
}
