//! Resources of one upstream that changed and of which nobody was told yet: each once, however often the upstream says
//! so meanwhile. When there are too many, all that is subscribed to counts as changed: nothing is lost silently.

use super::Hub;
use super::walk::Walk;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
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

#[derive(Debug, Default)]
struct State {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
    bytes: usize,
    /// There was no room: everything may have changed.
    all: bool,
}

impl Updates {
    /// The upstream said that this changed.
    pub(crate) fn put(&self, uri: &str) {
        self.state.lock().put(uri);
        self.some.notify_one();
    }

    /// Tells subscribers, a few at a time, so that calls and other announcements go on meanwhile. Runs for ever.
    pub(crate) async fn announce(&self, hub: &Hub, site: usize) {
        let mut walks: VecDeque<Walk> = VecDeque::new();
        loop {
            while walks.len() < WALKS_MAX
                && let Some(next) = self.state.lock().take(|uri| walks.iter().any(|walk| walk.is_of(uri)))
            {
                walks.push_back(hub.walk_of(site, next.as_deref()));
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
    fn put(&mut self, uri: &str) {
        if self.all || self.known.contains(uri) {
            return;
        }
        if self.order.len() >= URIS_MAX || self.bytes + uri.len() > BYTES_MAX {
            *self = Self { all: true, ..Self::default() };
            return;
        }
        let uri: Arc<str> = uri.into();
        self.bytes += uri.len();
        self.known.insert(uri.clone());
        self.order.push_back(uri);
    }

    /// The first whose announcement is not under way, or else none of them in particular: all.
    fn take(&mut self, is_under_way: impl Fn(&str) -> bool) -> Option<Option<Arc<str>>> {
        if std::mem::take(&mut self.all) {
            return Some(None);
        }
        let at = self.order.iter().position(|uri| !is_under_way(uri))?;
        let uri = self.order.remove(at)?;
        self.known.remove(&uri);
        self.bytes -= uri.len();
        Some(Some(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(state: &mut State) -> Vec<Option<String>> {
        std::iter::from_fn(|| state.take(|_| false)).map(|uri| uri.map(|uri| uri.as_ref().to_owned())).collect()
    }

    #[test]
    fn beyond_the_bounds_everything_counts_as_changed() {
        let mut state = State::default();
        (0..URIS_MAX).for_each(|n| state.put(&n.to_string()));
        state.put("0");
        assert_eq!(taken(&mut state).len(), URIS_MAX);
        (0..=URIS_MAX).for_each(|n| state.put(&n.to_string()));
        assert_eq!(taken(&mut state), [None]);
        state.put(&"x".repeat(BYTES_MAX + 1));
        state.put("a");
        assert_eq!(taken(&mut state), [None]);
        state.put("a");
        assert_eq!((taken(&mut state), state.bytes), (vec![Some("a".to_owned())], 0));
    }

    #[test]
    fn one_that_is_under_way_waits_and_holds_up_no_other() {
        let mut state = State::default();
        ["a", "b", "a"].iter().for_each(|uri| state.put(uri));
        assert_eq!(state.take(|uri| uri == "a").flatten().as_deref(), Some("b"));
        assert_eq!(state.take(|uri| uri == "a"), None);
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
                    state.put(&uri);
                    if !due.contains(&uri) {
                        due.push(uri);
                    }
                } else if let Some(taken) = state.take(|_| false) {
                    let first = due.remove(0);
                    prop_assert_eq!(taken.as_deref(), Some(first.as_str()));
                } else {
                    prop_assert!(due.is_empty());
                }
            }
            prop_assert_eq!(state.bytes, due.iter().map(String::len).sum::<usize>());
        }
    }
}
