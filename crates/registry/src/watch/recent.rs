//! What changed lately at a replica, so that a node that watches it, or comes to it from another replica, gets the
//! difference and not everything. Bounded: whoever lags behind what is kept gets everything.

use std::collections::VecDeque;

use super::Answers;
use crate::{Command, Ended, Outcome, Refusal, Run, SessionId};

/// The changes of the last indexes.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Everything after this index is here.
    after: u64,
    changes: VecDeque<Change>,
    weight: usize,
    weight_max: usize,
}

/// Sessions' worth of changes that are kept: a second or two of many. Each takes some 50 bytes.
const WEIGHT_MAX: usize = 32_768;

impl Default for Recent {
    fn default() -> Recent {
        Recent::new(0, WEIGHT_MAX)
    }
}

/// What one index changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    index: u64,
    pub(super) changed: Vec<SessionId>,
    pub(super) ended: Vec<Ended>,
    /// For whom, if it waits for them.
    pub(super) answers: Option<(Run, Answers)>,
}

impl Change {
    fn weight(&self) -> usize {
        1 + self.changed.len()
            + self.ended.len()
            + self.answers.as_ref().map_or(0, |(_, answers)| answers.results.len())
    }
}

impl Recent {
    /// Nothing changed yet since `index`; keeps about `weight_max` sessions' worth of changes.
    pub(super) fn new(index: u64, weight_max: usize) -> Recent {
        Recent { after: index, changes: VecDeque::new(), weight: 0, weight_max }
    }

    /// The state was replaced by that of `index`: what led there is not known.
    pub fn restart(&mut self, index: u64) {
        *self = Recent::new(index, self.weight_max);
    }

    /// The commands of one index were applied. `origin` waits for the results, unless it applies them itself.
    pub fn applied(
        &mut self,
        index: u64,
        commands: &[Command],
        results: &[Result<Outcome, Refusal>],
        origin: Option<(Run, u64)>,
    ) {
        let done =
            || commands.iter().zip(results).filter_map(|(command, result)| Some((command, result.as_ref().ok()?)));
        let change = Change {
            index,
            changed: done().filter_map(|(command, _)| command.session()).copied().collect(),
            ended: done().flat_map(|(_, outcome)| outcome.ended()).copied().collect(),
            answers: origin.map(|(run, seq)| (run, Answers { seq, results: results.to_vec() })),
        };
        if change.changed.is_empty() && change.ended.is_empty() && change.answers.is_none() {
            return;
        }
        self.weight += change.weight();
        self.changes.push_back(change);
        while self.weight > self.weight_max
            && let Some(oldest) = self.changes.pop_front()
        {
            self.weight -= oldest.weight();
            self.after = oldest.index;
        }
    }

    /// Whether everything after this index is here.
    pub(super) fn covers(&self, index: u64) -> bool {
        index >= self.after
    }

    /// What changed after this index.
    pub(super) fn since(&self, index: u64) -> impl Iterator<Item = &Change> {
        let first = self.changes.partition_point(|change| change.index <= index);
        self.changes.range(first..)
    }
}
