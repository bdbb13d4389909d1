//! The invariants, checked as things happen. The first one that falls ends the run.

use std::collections::BTreeMap;
use std::fmt;

use enfilade_registry::{Run, Slot, Term};

use crate::call::{Call, CallId, EventId};
use crate::clock::Micros;
use crate::ctx::Ctx;
use crate::event::{Event, Sent};
use crate::node::index_of;

/// What must hold after every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Effects that are accepted for a slot have terms that never fall.
    TermsNeverFall,
    /// One owner acts per slot and term.
    OneOwner,
    /// An unsafe call runs at most once, as its upstream saw it.
    UnsafeOnce,
    /// A safe call runs at most twice.
    SafeTwice,
    /// What was refused as "not executed" did not run.
    RefusedDidNotRun,
    /// Every event that a client has is at the owner or at the in-sync second.
    EventsKept,
    /// A client gets the events of a stream in order, each once.
    EventsInOrder,
    /// Each call ends in exactly one outcome.
    OneOutcome,
    /// With faults ended every slot serves within 10 s.
    ServesAgain,
    /// The registry's histories are linearizable.
    Linearizable,
    /// Replicas that applied the same entries are alike.
    ReplicasAgree,
}

impl Invariant {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::TermsNeverFall => "terms never fall",
            Invariant::OneOwner => "one owner per slot and term",
            Invariant::UnsafeOnce => "unsafe executions <= 1",
            Invariant::SafeTwice => "safe executions <= 2",
            Invariant::RefusedDidNotRun => "what was refused did not run",
            Invariant::EventsKept => "acknowledged events are kept",
            Invariant::EventsInOrder => "events in order, each once",
            Invariant::OneOutcome => "one outcome per call",
            Invariant::ServesAgain => "every slot serves again",
            Invariant::Linearizable => "the registry is linearizable",
            Invariant::ReplicasAgree => "replicas agree",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An invariant that fell.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// When, in microseconds of the world.
    pub at_us: Micros,
}

#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) violation: Option<Violation>,
    /// The highest term under which an effect was made for each slot.
    acted: BTreeMap<Slot, Term>,
    /// Who acted.
    owners: BTreeMap<(Slot, Term), Run>,
    /// The highest term that each process accepted for each slot.
    accepted: BTreeMap<(usize, u64, Slot), Term>,
    /// Events that clients have, and what they say.
    pub(crate) delivered: BTreeMap<Slot, BTreeMap<EventId, u32>>,
    /// Before this term the events of a slot were lost, as the gap rule says.
    pub(crate) gaps: BTreeMap<Slot, Term>,
    /// The digest after each applied entry.
    digests: BTreeMap<u64, u64>,
    outcomes: BTreeMap<CallId, u32>,
    /// The highest index that any replica has applied.
    pub(crate) committed: u64,
    /// When the guard was asked that the present effect passed.
    pub(crate) guard_at: Micros,
}

impl Ctx {
    /// Notes that an invariant fell.
    pub(crate) fn violated(&mut self, invariant: Invariant, what: fmt::Arguments<'_>) {
        if self.checks.violation.is_none() {
            let what = what.to_string();
            self.line(format_args!("VIOLATION {invariant}: {what}"));
            self.checks.violation = Some(Violation { invariant, what, at_us: self.now });
        }
    }

    /// A process passed its guard and has an effect for a slot.
    pub(crate) fn acts(&mut self, slot: Slot, term: Term, run: Run) {
        if self.checks.guard_at > self.now {
            let at = self.checks.guard_at;
            let from = Sent { at, ..self.sent(index_of(run.node)) };
            self.queue.push(at, Event::Acted { from, slot, term, run });
        } else {
            self.acted(slot, term, run);
        }
    }

    pub(crate) fn acted(&mut self, slot: Slot, term: Term, run: Run) {
        let highest = self.checks.acted.entry(slot).or_insert(term);
        let before = *highest;
        *highest = before.max(term);
        if term < before {
            self.violated(
                Invariant::TermsNeverFall,
                format_args!("{run} acts for slot {slot} in term {} after an effect in term {}", term.0, before.0),
            );
        }
        let owner = *self.checks.owners.entry((slot, term)).or_insert(run);
        if owner != run {
            self.violated(
                Invariant::OneOwner,
                format_args!("{owner} and {run} both act for slot {slot} in term {}", term.0),
            );
        }
    }

    /// A process accepts an effect that somebody else made under a term.
    pub(crate) fn accepts(&mut self, node: usize, slot: Slot, term: Term) {
        let key = (node, self.lives[node], slot);
        let highest = self.checks.accepted.entry(key).or_insert(term);
        let before = *highest;
        *highest = before.max(term);
        if term < before {
            self.violated(
                Invariant::TermsNeverFall,
                format_args!("n{node} accepts an effect for slot {slot} of term {} after term {}", term.0, before.0),
            );
        }
    }

    /// A process learned of a term of a slot: from here on it accepts no lower one.
    pub(crate) fn learns(&mut self, node: usize, slot: Slot, term: Term) {
        let key = (node, self.lives[node], slot);
        let highest = self.checks.accepted.entry(key).or_insert(term);
        *highest = (*highest).max(term);
    }

    /// A call ended for its client.
    pub(crate) fn ended(&mut self, call: Call, not_executed: bool) {
        let outcomes = self.checks.outcomes.entry(call.id).or_default();
        *outcomes += 1;
        if *outcomes > 1 {
            self.violated(Invariant::OneOutcome, format_args!("{call} ended more than once"));
        }
        let executions = self.upstream.executions(call.id);
        if not_executed && executions > 0 {
            self.violated(
                Invariant::RefusedDidNotRun,
                format_args!("{call} was refused as not executed and ran {executions} times"),
            );
        }
    }

    /// A client has an event: from now on it must be kept.
    pub(crate) fn delivered(&mut self, slot: Slot, event: EventId, number: u32) {
        if self.checks.gaps.get(&slot).is_none_or(|gap| event.term >= *gap) {
            self.checks.delivered.entry(slot).or_default().insert(event, number);
        }
    }

    /// All processes that had the events of a slot are gone, or it was taken from them: nothing is promised of events
    /// before this term.
    pub(crate) fn gap(&mut self, slot: Slot, term: Term) {
        self.checks.delivered.remove(&slot);
        self.checks.gaps.insert(slot, term);
    }

    /// A replica applied the entry at an index.
    pub(crate) fn applied(&mut self, node: usize, index: u64, digest: u64) {
        let first = *self.checks.digests.entry(index).or_insert(digest);
        if first != digest {
            self.violated(Invariant::ReplicasAgree, format_args!("n{node} differs after index {index}"));
        }
    }
}
