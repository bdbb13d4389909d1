//! The indexes over sessions: by deadline and by principal. Derived from the sessions alone, so
//! snapshots leave them out and `restore` builds them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{SessionId, SessionRecord, Slot};

/// Sessions by the time at which they end unless used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines(BTreeSet<(u64, SessionId)>);

impl Deadlines {
    pub(crate) fn insert(&mut self, record: &SessionRecord) {
        self.0.insert((record.expires_at_ms(), record.id));
    }

    pub(crate) fn remove(&mut self, record: &SessionRecord) {
        self.0.remove(&(record.expires_at_ms(), record.id));
    }

    /// The earliest session whose time is up at `now_ms`.
    pub(crate) fn first_due(&self, now_ms: u64) -> Option<SessionId> {
        self.0.first().filter(|(at_ms, _)| *at_ms <= now_ms).map(|(_, id)| *id)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Sessions by principal. One flat set: a set per principal would cost a tree node for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principals {
    sessions: BTreeSet<(Arc<str>, SessionId)>,
    counts: BTreeMap<Arc<str>, u64>,
}

impl Principals {
    /// The one shared copy of a principal's name, if it has a session.
    pub(crate) fn shared(&self, principal: &str) -> Option<&Arc<str>> {
        self.counts.get_key_value(principal).map(|(shared, _)| shared)
    }

    pub(crate) fn insert(&mut self, record: &SessionRecord) {
        self.sessions.insert((record.principal.clone(), record.id));
        *self.counts.entry(record.principal.clone()).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, record: &SessionRecord) {
        self.sessions.remove(&(record.principal.clone(), record.id));
        if let Some(count) = self.counts.get_mut(&record.principal) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&record.principal);
            }
        }
    }

    pub(crate) fn count_of(&self, principal: &str) -> u64 {
        self.counts.get(principal).copied().unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The sessions of one principal, in the order of ids.
    pub(crate) fn sessions_of<'a>(&'a self, principal: &str) -> impl Iterator<Item = &'a SessionId> + use<'a> {
        let (lowest, highest) = (SessionId::range_of(Slot::MIN).0, SessionId::range_of(Slot::MAX).1);
        self.shared(principal).into_iter().flat_map(move |principal| {
            let range = (principal.clone(), lowest)..=(principal.clone(), highest);
            self.sessions.range(range).map(|(_, id)| id)
        })
    }
}
