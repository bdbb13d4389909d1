//! In whose right the upstream was called: nodes say slot and term with each call of a session (`fence_header`), and the
//! order is the one in which the upstream saw them. No node's word is taken for the order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::report::Found;

/// The header that nodes send.
pub(crate) const FENCE: &str = "enfilade-fence";

/// Examples that are kept for the report.
const EXAMPLES_MAX: usize = 3;

/// What the upstream saw of each slot. Shared by all of its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// The highest term of each slot.
    terms: HashMap<u64, u64>,
    calls: u64,
    /// How often a slot came under a higher term.
    changes: u64,
    /// Calls of a lower term than the one before, or without a fence.
    interleaved: u64,
    examples: Vec<String>,
}

impl Effects {
    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call came, with this in its header.
    pub(crate) fn note(&self, fence: Option<&str>) {
        let number = |text: &str| text.parse::<u64>().ok();
        let parts = fence.and_then(|fence| fence.split_once('.'));
        let fence = parts.and_then(|(slot, term)| number(slot).zip(number(term)));
        self.with(|seen| seen.note(fence));
    }

    /// Holds the order against the rule: terms of a slot never fall.
    pub(crate) fn judge(&self, found: &mut Found) {
        self.with(|seen| {
            let Seen { calls, changes, interleaved, .. } = *seen;
            found.notes.push(format!("{calls} calls at the upstream, {changes} of them the first of a higher term"));
            let examples = seen.examples.join("; ");
            found.limit(interleaved == 0, || format!("{interleaved} calls of a term that was over: {examples}"));
        });
    }
}

impl Seen {
    fn note(&mut self, fence: Option<(u64, u64)>) {
        self.calls += 1;
        let wrong = match fence {
            None => "a call without a fence".to_owned(),
            Some((slot, term)) => {
                let highest = self.terms.entry(slot).or_insert(term);
                self.changes += u64::from(term > *highest);
                if term >= *highest {
                    *highest = term;
                    return;
                }
                format!("slot {slot}: term {term} after {highest}")
            }
        };
        self.interleaved += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_term_is_found_and_so_is_a_call_without_one() {
        let effects = Effects::default();
        let judged = || {
            let mut found = Found::new("it");
            effects.judge(&mut found);
            (found.notes, found.failed)
        };
        ["7.3", "8.9", "7.3", "7.5", "8.9"].iter().for_each(|fence| effects.note(Some(fence)));
        assert_eq!(judged(), (vec!["5 calls at the upstream, 1 of them the first of a higher term".into()], vec![]));
        effects.note(Some("7.4"));
        effects.note(None);
        let wrong = "2 calls of a term that was over: slot 7: term 4 after 5; a call without a fence";
        assert_eq!(judged().1, [wrong]);
    }
}
