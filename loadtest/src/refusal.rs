//! Why sessions did not open, in kinds that are few enough to be counted. Additions only: workers send theirs in pieces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::proto;

/// What a node says it has no more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Short {
    Memory,
    /// Of the node or of an address; descriptors too.
    Connections,
}

/// Both, in the order of the wire, from 1 on.
const SHORT: [(Short, &str); 2] = [(Short::Memory, "memory"), (Short::Connections, "connections")];

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    outcome: Outcome,
    short: Option<Short>,
}

/// How often it was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tries that ended so; a session is tried several times.
    pub(crate) tries: u64,
    /// Sessions of the ramp whose last try ended so.
    pub(crate) given_up: u64,
}

/// Counts by kind.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<Kind, Count>);

/// A kind as reports have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotOpen {
    /// `503 (memory)`, `silent`.
    pub(crate) why: String,
    /// Sessions of the ramp that were given up for it.
    pub(crate) given_up: u64,
    /// Tries that ended so, in the whole run.
    pub(crate) tries: u64,
    /// The node said itself that it takes no more: that it is slow, or the generator, is no reason.
    pub(crate) is_said: bool,
}

impl Kind {
    /// From how a try ended, and what is known of why: the beginning of the answer.
    pub(crate) fn of(outcome: Outcome, why: &str) -> Kind {
        let is_refusal = matches!(outcome, Outcome::Refused | Outcome::Limited);
        let named = SHORT.iter().find(|(_, word)| is_refusal && why.contains(word));
        Kind { outcome, short: named.map(|(short, _)| *short) }
    }

    fn text(self) -> String {
        // On a WebSocket there is no status, and the same is meant.
        let outcome = match self.outcome {
            Outcome::Refused => "503",
            Outcome::Limited => "429",
            other => other.name(),
        };
        let word = SHORT.iter().find(|(short, _)| Some(*short) == self.short).map(|(_, word)| word);
        word.map_or_else(|| outcome.to_owned(), |word| format!("{outcome} ({word})"))
    }
}

impl NotOpen {
    /// A node answered, and said no.
    pub(crate) fn is_refusal(&self) -> bool {
        self.why.starts_with("503") || self.why.starts_with("429")
    }
}

impl Refusals {
    pub(crate) fn at(&mut self, kind: Kind) -> &mut Count {
        self.0.entry(kind).or_default()
    }

    /// Everything since the last time, for the coordinator.
    pub(crate) fn take(&mut self) -> Vec<proto::Refusal> {
        let to_wire = |(kind, count): (Kind, Count)| {
            let place = SHORT.iter().zip(1..).find(|((short, _), _)| Some(*short) == kind.short);
            let Count { tries, given_up } = count;
            proto::Refusal { outcome: kind.outcome as u32, short: place.map_or(0, |(_, place)| place), tries, given_up }
        };
        std::mem::take(&mut self.0).into_iter().map(to_wire).collect()
    }

    /// Adds what a worker sent. An outcome that is not known is left out.
    pub(crate) fn put(&mut self, wire: &proto::Refusal) {
        let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| *outcome as u32 == wire.outcome) else { return };
        let short = SHORT.iter().zip(1..).find(|(_, place)| *place == wire.short).map(|((short, _), _)| *short);
        let count = self.at(Kind { outcome, short });
        count.tries += wire.tries;
        count.given_up += wire.given_up;
    }

    /// For the report: the most frequent first.
    pub(crate) fn listed(&self) -> Vec<NotOpen> {
        let one = |(kind, count): (&Kind, &Count)| {
            let Count { tries, given_up } = *count;
            let is_said = kind.short.is_some() || kind.outcome == Outcome::Limited;
            NotOpen { why: kind.text(), given_up, tries, is_said }
        };
        let mut all: Vec<NotOpen> = self.0.iter().map(one).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.given_up, one.tries)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_outcome_and_by_what_is_short() {
        let text = |outcome, why: &str| Kind::of(outcome, why).text();
        let memory = "n1: 503 {\"error\":{\"message\":\"This node has no memory left for another session or stream\"}}";
        assert_eq!(text(Outcome::Refused, memory), "503 (memory)");
        assert_eq!(text(Outcome::Refused, "503 Too many connections; try again"), "503 (connections)");
        assert_eq!(text(Outcome::Refused, "503 Too many requests in flight"), "503");
        assert_eq!(text(Outcome::Limited, "429 Too many connections from this address"), "429 (connections)");
        assert_eq!(text(Outcome::Silent, "no memory of that"), "silent");
    }

    #[test]
    fn what_workers_send_in_pieces_is_added_up() {
        let mut sum = Refusals::default();
        for worker in 1..=3 {
            let mut own = Refusals::default();
            for why in ["no memory", "no memory", "too much to do"] {
                own.at(Kind::of(Outcome::Refused, why)).tries += worker;
            }
            own.at(Kind::of(Outcome::Refused, "no memory")).given_up += 1;
            own.at(Kind::of(Outcome::Unreached, "")).tries += 1;
            own.take().iter().for_each(|one| sum.put(one));
            assert!(own.take().is_empty(), "nothing is sent twice");
        }
        sum.put(&proto::Refusal { outcome: 99, tries: 1, ..Default::default() });
        let not_open = |why: &str, given_up, tries, is_said| NotOpen { why: why.to_owned(), given_up, tries, is_said };
        let wanted =
            [not_open("503 (memory)", 3, 12, true), not_open("503", 0, 6, false), not_open("unreached", 0, 3, false)];
        assert_eq!(sum.listed(), wanted);
    }
}
