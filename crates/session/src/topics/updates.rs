//! Resources of one upstream that changed and of which nobody was told yet: each once, however often the upstream says
//! so meanwhile. When there are too many, all that is subscribed to counts as changed: nothing is lost silently.

use super::Hub;
use super::walk::Walk;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Most URIs that wait, and their bytes.
const URIS_MAX: usize = 4096;
const BYTES_MAX: usize = 1024 * 1024;

/// Updates that are announced side by side: one with many subscribers does not hold up the others.
const WALKS_MAX: usize = 16;

/// The updates of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    state: Mutex<State>,
    some: Notify,
}

/// What an upstream says has changed: what that was when it said so, for subscribers come and go before their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Somebody had subscribed to it: they are told.
    Resource,
    /// Nobody had. It may be a part of what somebody subscribed to: all subscribers of that upstream are told.
    Part,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<Arc<str>>,
    /// What each of them was when it changed.
    what: HashMap<Arc<str>, Changed>,
    bytes: usize,
    /// There was no room: everything may have changed.
    all: bool,
}

impl Updates {
    /// The upstream said that this changed.
    pub(crate) fn put(&self, uri: &str, what: Changed) {
        self.state.lock().put(uri, what);
        self.some.notify_one();
    }

    /// Tells subscribers, a few at a time, so that calls and other announcements go on meanwhile. Runs for ever.
    pub(crate) async fn announce(&self, hub: &Hub, site: usize) {
        let mut walks: VecDeque<Walk> = VecDeque::new();
        loop {
            while walks.len() < WALKS_MAX
                && let Some(next) = self.state.lock().take(|uri| walks.iter().any(|walk| walk.is_of(uri)))
            {
                walks.push_back(Walk::of(site, next));
            }
            match walks.pop_front() {
                None => self.some.notified().await,
                Some(mut walk) => {
                    if hub.step(&mut walk) {
                        walks.push_back(walk);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl State {
    fn put(&mut self, uri: &str, what: Changed) {
        if self.all {
            return;
        }
        if let Some(waiting) = self.what.get_mut(uri) {
            if what == Changed::Part {
                *waiting = what;
            }
            return;
        }
        if self.order.len() >= URIS_MAX || self.bytes + uri.len() > BYTES_MAX {
            *self = Self { all: true, ..Self::default() };
            return;
        }
        let uri: Arc<str> = uri.into();
        self.bytes += uri.len();
        self.what.insert(uri.clone(), what);
        self.order.push_back(uri);
    }

    /// The first whose announcement is not under way, or else none of them in particular: all.
    fn take(&mut self, is_under_way: impl Fn(Option<&str>) -> bool) -> Option<Option<(Arc<str>, Changed)>> {
        if self.all && !is_under_way(None) {
            self.all = false;
            return Some(None);
        }
        let at = self.order.iter().position(|uri| !is_under_way(Some(uri)))?;
        let uri = self.order.remove(at)?;
        let what = self.what.remove(&uri).unwrap_or(Changed::Part);
        self.bytes -= uri.len();
        Some(Some((uri, what)))
    }
}

#[cfg(test)]
mod tests {
    use super::Changed::Resource;
    use super::*;
    use proptest::prelude::*;

    fn taken(state: &mut State) -> Vec<Option<String>> {
        std::iter::from_fn(|| state.take(|_| false)).map(|one| one.map(|(uri, _)| uri.as_ref().to_owned())).collect()
    }

    #[test]
    fn what_it_was_when_it_changed_stays_and_all_runs_once_at_a_time() {
        let mut state = State::default();
        state.put("a", Resource);
        state.put("b", Resource);
        state.put("b", Changed::Part);
        state.put("b", Resource);
        assert_eq!(state.take(|_| false), Some(Some(("a".into(), Resource))));
        assert_eq!(state.take(|_| false), Some(Some(("b".into(), Changed::Part))));
        state.all = true;
        assert_eq!(state.take(|uri| uri.is_none()), None);
        assert_eq!(state.take(|_| false), Some(None));
    }

    #[test]
    fn beyond_the_bounds_everything_counts_as_changed() {
        let mut state = State::default();
        (0..URIS_MAX).for_each(|n| state.put(&n.to_string(), Resource));
        state.put("0", Resource);
        assert_eq!(taken(&mut state).len(), URIS_MAX);
        (0..=URIS_MAX).for_each(|n| state.put(&n.to_string(), Resource));
        assert_eq!(taken(&mut state), [None]);
        state.put(&"x".repeat(BYTES_MAX + 1), Resource);
        state.put("a", Resource);
        assert_eq!(taken(&mut state), [None]);
        state.put("a", Resource);
        assert_eq!((taken(&mut state), state.bytes), (vec![Some("a".to_owned())], 0));
    }

    #[test]
    fn one_that_is_under_way_waits_and_holds_up_no_other() {
        let mut state = State::default();
        ["a", "b", "a"].iter().for_each(|uri| state.put(uri, Resource));
        assert_eq!(state.take(|uri| uri == Some("a")), Some(Some(("b".into(), Resource))));
        assert_eq!(state.take(|uri| uri == Some("a")), None);
        assert_eq!(taken(&mut state), [Some("a".to_owned())]);
    }

    proptest! {
        /// Whatever is said and taken in whatever order: what was said is taken after it was said, once.
        #[test]
        fn what_is_put_is_taken_once_after_it_was_last_put(steps in prop::collection::vec((0..6u8, any::<bool>()), 0..60)) {
            let (mut state, mut due) = (State::default(), Vec::new());
            for (uri, take) in steps {
                let uri = uri.to_string();
                if !take {
                    state.put(&uri, Resource);
                    if !due.contains(&uri) {
                        due.push(uri);
                    }
                } else if let Some(taken) = state.take(|_| false) {
                    let first = due.remove(0);
                    prop_assert_eq!(taken, Some((first.as_str().into(), Resource)));
                } else {
                    prop_assert!(due.is_empty());
                }
            }
            prop_assert_eq!(state.bytes, due.iter().map(String::len).sum::<usize>());
        }
    }
}
