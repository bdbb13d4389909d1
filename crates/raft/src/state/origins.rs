//! Which batches were applied, by the run that they come from. Part of the replicated state.
//!
//! Rule: a batch is applied once, though it may come to the log several times; and no batch of an earlier run of a
//! node is applied after one of a later run. So nothing comes in behind what was submitted after its answer.

use std::collections::{BTreeMap, BTreeSet};

use enfilade_proto::raft as pb;
use enfilade_registry::{Generation, NodeId, Run};

/// How many batches of a run may be overtaken and still be applied. A node has far fewer under way at once.
const MISSING_MAX: usize = 256;

/// The batches applied, by origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins(BTreeMap<NodeId, Origin>);

/// The batches applied of a node's latest run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Origin {
    generation: Generation,
    /// The highest number applied.
    last: u64,
    /// Lower numbers that did not come yet. Those of batches that were given up stay, until there are too many.
    missing: BTreeSet<u64>,
}

impl Origins {
    /// Notes a batch. False: it is not to be applied.
    pub(super) fn is_first(&mut self, run: Run, seq: u64) -> bool {
        let origin = self.0.entry(run.node).or_default();
        if run.generation < origin.generation {
            return false;
        }
        if run.generation > origin.generation {
            *origin = Origin { generation: run.generation, ..Origin::default() };
        }
        if seq <= origin.last {
            return origin.missing.remove(&seq);
        }
        let from = (origin.last + 1).max(seq.saturating_sub(MISSING_MAX as u64));
        origin.missing.extend(from..seq);
        while origin.missing.len() > MISSING_MAX {
            origin.missing.pop_first();
        }
        origin.last = seq;
        true
    }

    pub(crate) fn to_messages(&self) -> Vec<pb::Origin> {
        let message = |(node, origin): (&NodeId, &Origin)| pb::Origin {
            run: Some(pb::Run { node: node.0, generation: origin.generation.0 }),
            last: origin.last,
            missing: origin.missing.iter().copied().collect(),
        };
        self.0.iter().map(message).collect()
    }

    pub(crate) fn from_messages(messages: Vec<pb::Origin>) -> Option<Origins> {
        let origin = |message: pb::Origin| {
            let run = message.run?;
            let missing = message.missing.into_iter().collect();
            Some((NodeId(run.node), Origin { generation: Generation(run.generation), last: message.last, missing }))
        };
        messages.into_iter().map(origin).collect::<Option<_>>().map(Origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(generation: u64) -> Run {
        Run { node: NodeId(1), generation: Generation(generation) }
    }

    #[test]
    fn a_batch_is_applied_once() {
        let mut origins = Origins::default();
        assert!(origins.is_first(run(1), 1));
        assert!(!origins.is_first(run(1), 1));
        assert!(origins.is_first(run(1), 4), "others may be late");
        assert!(origins.is_first(run(1), 2));
        assert!(!origins.is_first(run(1), 2));
        assert!(!origins.is_first(run(1), 4));
        let other = Run { node: NodeId(2), generation: Generation(1) };
        assert!(origins.is_first(other, 4), "another node counts for itself");
        assert_eq!(Origins::from_messages(origins.to_messages()), Some(origins.clone()));
        assert!(origins.is_first(run(1), 3));
    }

    #[test]
    fn an_earlier_run_is_over() {
        let mut origins = Origins::default();
        assert!(origins.is_first(run(1), 7));
        assert!(origins.is_first(run(2), 1));
        assert!(!origins.is_first(run(1), 8));
        assert!(origins.is_first(run(2), 7));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut origins = Origins::default();
        for seq in (1..100_000).step_by(3) {
            assert!(origins.is_first(run(1), seq));
        }
        assert!(origins.is_first(run(1), u64::MAX));
        assert!(origins.0[&NodeId(1)].missing.len() <= MISSING_MAX);
        assert!(!origins.is_first(run(1), 2), "too late");
        assert!(origins.is_first(run(1), u64::MAX - 1));
    }
}
