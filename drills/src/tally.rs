//! Counts outcomes, and holds them against what the witness saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::client::Outcome;
use crate::ledger::Ledger;

/// Examples of each kind of fault that are kept for the report.
const EXAMPLES_MAX: usize = 3;

/// What happened to calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) results: u64,
    pub(crate) unknown: u64,
    /// Refused, or an error that says "not executed".
    pub(crate) refused: u64,
    pub(crate) errors: u64,
    pub(crate) broken: u64,
    /// Broken, and the rest of the stream is not kept.
    pub(crate) gone: u64,
    pub(crate) not_sent: u64,
    pub(crate) lost: u64,
    /// Executed too often, after its outcome, or although it was said not to be; a strange answer; silence.
    pub(crate) wrong: u64,
    /// Calls that may run again and did.
    pub(crate) replayed: u64,
    /// Calls that began to run after the client had its outcome.
    pub(crate) late: u64,
    examples: BTreeMap<&'static str, Vec<String>>,
}

impl Counts {
    fn example(&mut self, kind: &'static str, text: String) {
        let examples = self.examples.entry(kind).or_default();
        if examples.len() < EXAMPLES_MAX && !examples.contains(&text) {
            examples.push(text);
        }
    }

    /// A few of each kind of what went wrong.
    pub(crate) fn examples(&self) -> impl Iterator<Item = String> + '_ {
        self.examples.iter().flat_map(|(kind, texts)| texts.iter().map(move |text| format!("{kind}: {text}")))
    }

    fn outcome(&mut self, outcome: &Outcome) {
        self.calls += 1;
        match outcome {
            Outcome::Result => self.results += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Refused(text) | Outcome::Again(text) => {
                self.refused += 1;
                self.example("refused", text.clone());
            }
            Outcome::Error(text) => {
                self.errors += 1;
                self.example("error", text.clone());
            }
            Outcome::Lost(text) => {
                self.lost += 1;
                self.example("lost", text.clone());
            }
            Outcome::Broken(text) => {
                self.broken += 1;
                self.example("broken", text.clone());
            }
            Outcome::Gone(text) => {
                self.gone += 1;
                self.example("gone", text.clone());
            }
            Outcome::Wrong(text) => self.fault(text.clone()),
            Outcome::NotSent(text) => {
                self.not_sent += 1;
                self.example("not sent", text.clone());
            }
        }
    }

    fn fault(&mut self, text: String) {
        self.wrong += 1;
        self.example("wrong", text);
    }
}

/// Counts that tasks share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    /// Calls that were begun, where they are counted.
    begun: u64,
    /// Calls whose executions are looked at again in the end: they may still be executed, wrongly.
    ended: Vec<(u64, bool, Expect)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Executed,
    NotExecuted,
    /// Nobody knows: a write that was on its way may even arrive later.
    Unknown,
    Either,
}

impl Tally {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An outcome of a request that leaves no trace at the witness.
    pub(crate) fn add(&self, outcome: &Outcome) {
        self.with(|inner| inner.counts.outcome(outcome));
    }

    /// A call begins, of which an outcome must be heard.
    pub(crate) fn begin(&self) {
        self.with(|inner| inner.begun += 1);
    }

    /// The one outcome of a call.
    pub(crate) fn call(&self, ledger: &Ledger, call: u64, is_safe: bool, outcome: &Outcome) {
        // A request whose client is gone may still be on its way; every other outcome is final.
        if !matches!(outcome, Outcome::Broken(_) | Outcome::Gone(_)) {
            ledger.close(call);
        }
        let expect = match outcome {
            Outcome::Unknown => Expect::Unknown,
            Outcome::Result => Expect::Executed,
            Outcome::Refused(_) | Outcome::NotSent(_) => Expect::NotExecuted,
            // Safe calls may be sent again although they were executed.
            Outcome::Again(_) if !is_safe => Expect::NotExecuted,
            _ => Expect::Either,
        };
        self.with(|inner| {
            inner.counts.outcome(outcome);
            inner.ended.push((call, is_safe, expect));
        });
    }

    /// How many outcomes there were until now, and how many of them were no results.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        self.with(|inner| (inner.counts.calls, inner.counts.calls - inner.counts.results))
    }

    /// The counts, with the witness heard.
    pub(crate) fn settle(&self, ledger: &Ledger) -> Counts {
        self.with(|inner| {
            let (begun, ended) = (inner.begun, inner.ended.len() as u64);
            if begun > ended {
                inner.counts.fault(format!("{} of {begun} calls have no outcome", begun - ended));
            }
            for (call, is_safe, expect) in std::mem::take(&mut inner.ended) {
                let seen = ledger.seen(call);
                let most = if is_safe { 2 } else { 1 };
                if seen.executions > most {
                    inner.counts.fault(format!("call {call} ran {} times", seen.executions));
                }
                inner.counts.late += u64::from(seen.late > 0);
                if seen.late > 0 && expect != Expect::Unknown {
                    inner.counts.fault(format!("call {call} ran after its outcome"));
                }
                if expect == Expect::NotExecuted && seen.executions > 0 {
                    inner.counts.fault(format!("call {call} ran although it was refused"));
                }
                if expect == Expect::Executed && seen.executions == 0 {
                    inner.counts.fault(format!("call {call} has a result and never ran"));
                }
                inner.counts.replayed += u64::from(is_safe && seen.executions == 2);
            }
            inner.counts.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(is_safe: bool, executions: u32, outcome: &Outcome, afterwards: u32) -> Counts {
        let (tally, ledger) = (Tally::default(), Ledger::default());
        (0..executions).for_each(|_| drop(ledger.begin(1)));
        tally.call(&ledger, 1, is_safe, outcome);
        (0..afterwards).for_each(|_| drop(ledger.begin(1)));
        tally.settle(&ledger)
    }

    #[test]
    fn the_witness_has_the_last_word() {
        let again = Outcome::Again("no".to_owned());
        assert_eq!(settled(false, 1, &Outcome::Result, 0).wrong, 0);
        assert_eq!(settled(false, 2, &Outcome::Result, 0).wrong, 1);
        assert_eq!(
            settled(true, 2, &Outcome::Result, 0),
            Counts { calls: 1, results: 1, replayed: 1, ..Counts::default() }
        );
        assert_eq!(settled(true, 3, &Outcome::Result, 0).wrong, 1);
        assert_eq!(settled(false, 0, &Outcome::Result, 0).wrong, 1);
        assert_eq!(settled(false, 0, &Outcome::Unknown, 0).wrong, 0);
        assert_eq!(settled(false, 1, &Outcome::Unknown, 0).wrong, 0);
        let late = settled(false, 0, &Outcome::Unknown, 1);
        assert_eq!((late.wrong, late.late), (0, 1), "on its way when its owner was lost");
        assert_eq!(settled(false, 1, &Outcome::Unknown, 1).wrong, 1, "twice");
        assert_eq!(settled(true, 1, &Outcome::Result, 1).wrong, 1, "safe, but its outcome was final");
        assert_eq!(settled(false, 0, &Outcome::Broken(String::new()), 1).wrong, 0, "its client is gone, it is not");
        assert_eq!(settled(false, 1, &Outcome::Refused(String::new()), 0).wrong, 1);
        assert_eq!(settled(false, 1, &again, 0).wrong, 1);
        assert_eq!(settled(true, 1, &again, 0).wrong, 0);
    }

    #[test]
    fn a_call_without_an_outcome_is_wrong() {
        let (tally, ledger) = (Tally::default(), Ledger::default());
        tally.begin();
        assert_eq!(tally.settle(&ledger).wrong, 1);
    }
}
