//! Who wants to hear of what: changed lists and updated resources, from upstreams to the streams of this node.
//!
//! One upstream subscription serves every subscriber of a resource; it begins with the first and ends with the last.

mod text;
mod updates;
mod walk;

use crate::ask::AskError;
use crate::lists::ListKind;
use crate::stream::Stream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use text::notification;
pub(crate) use updates::{Changed, Updates};
pub use walk::Announced;
use walk::Told;

/// A resource of one upstream, by the upstream's own URI.
pub(crate) type Topic = (usize, Arc<str>);

/// One stream that wants notices.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) stream: Weak<Stream>,
    /// The upstreams of its virtual server.
    pub(crate) sites: Arc<[usize]>,
    /// Kinds of lists that it wants.
    pub(crate) lists: Vec<ListKind>,
    /// The id of the `subscriptions/listen` request; none for legacy streams.
    pub(crate) listen_id: Option<Arc<str>>,
}

/// Why nobody will hear of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What became of the question to the upstream.
    Asked(AskError),
    /// Anything else, in words.
    Because(&'static str),
}

/// What the upstream said to a subscription; none as long as it said nothing.
pub(crate) type Verdict = Option<Result<(), Refusal>>;

#[derive(Debug, Default)]
struct State {
    next: u64,
    subscribers: BTreeMap<u64, Member>,
    /// Subscribers that are `subscriptions/listen` requests.
    listens: usize,
    /// Counts changes of lists.
    changes: u64,
    /// The last change of each kind of list of each upstream.
    changed: BTreeMap<(usize, &'static str), u64>,
    /// By upstream and by the upstream's own URI.
    topics: HashMap<usize, BTreeMap<Arc<str>, Wanted>>,
}

#[derive(Debug)]
struct Member {
    subscriber: Arc<Subscriber>,
    /// What it wants, by the URIs that its client knows.
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Who wants it, and under which URI that client knows it.
    by: BTreeMap<(u64, Arc<str>), Arc<Subscriber>>,
    verdict: watch::Sender<Verdict>,
}

/// All subscribers of this node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    closing: CancellationToken,
    /// Woken when a subscriber has gone.
    gone: Notify,
    told: Told,
}

/// Keeps a subscriber registered; dropping it ends all its subscriptions.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    pub(crate) id: u64,
}

impl Hub {
    pub(crate) fn register(self: &Arc<Self>, subscriber: Subscriber) -> Registration {
        self.register_since(subscriber, u64::MAX).0
    }

    /// As [`Hub::register`] for one that wanted to hear from that change on ([`Hub::next_change`]): with the methods of
    /// the notices that it missed, each once.
    pub(crate) fn register_since(
        self: &Arc<Self>,
        subscriber: Subscriber,
        since: u64,
    ) -> (Registration, BTreeSet<&'static str>) {
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        let late = state.changed.iter().filter(|((site, _), at)| **at >= since && subscriber.sites.contains(site));
        let wanted = |method: &&str| subscriber.lists.iter().any(|kind| kind.changed() == *method);
        let missed = late.map(|((_, method), _)| *method).filter(wanted).collect();
        state.listens += usize::from(subscriber.listen_id.is_some());
        state.subscribers.insert(id, Member { subscriber: Arc::new(subscriber), topics: HashMap::new() });
        (Registration { hub: self.clone(), id }, missed)
    }

    /// The number of the next change of a list, from 1.
    pub(crate) fn next_change(&self) -> u64 {
        self.state.lock().changes + 1
    }

    /// Adds a subscriber to a topic and gives what resolves once the upstream confirmed or refused it. A subscriber that
    /// is gone gets a refusal.
    pub(crate) fn subscribe(&self, id: u64, topic: Topic, as_known: Arc<str>) -> watch::Receiver<Verdict> {
        let mut state = self.state.lock();
        // All who want a resource name it by one text, unless their clients know it by another.
        let uri = state.topics.get(&topic.0).and_then(|topics| topics.get_key_value(&topic.1));
        let topic = (topic.0, uri.map_or(topic.1, |(uri, _)| uri.clone()));
        let as_known = if as_known == topic.1 { topic.1.clone() } else { as_known };
        let Some(member) = state.subscribers.get_mut(&id) else {
            return watch::channel(Some(Err(Refusal::Because("the subscriber has ended")))).1;
        };
        let subscriber = member.subscriber.clone();
        let before = member.topics.insert(as_known.clone(), topic.clone());
        if let Some(before) = before.filter(|before| *before != topic) {
            state.take_off(id, &as_known, &before);
        }
        let wanted = state.topics.entry(topic.0).or_default().entry(topic.1).or_default();
        wanted.by.insert((id, as_known), subscriber);
        wanted.verdict.subscribe()
    }

    /// Takes a subscriber off what its client knows by this URI; gives the upstream that is concerned, if any.
    pub(crate) fn unsubscribe(&self, id: u64, as_known: &Arc<str>) -> Option<usize> {
        let mut state = self.state.lock();
        let topic = state.subscribers.get_mut(&id)?.topics.remove(as_known)?;
        state.take_off(id, as_known, &topic);
        Some(topic.0)
    }

    /// The upstream confirmed a subscription, or refused it.
    pub(crate) fn confirm(&self, site: usize, uri: &str, verdict: Result<(), Refusal>) {
        if let Some(wanted) = self.state.lock().topics.get(&site).and_then(|topics| topics.get(uri)) {
            wanted.verdict.send_replace(Some(verdict));
        }
    }

    /// The URIs of one upstream that somebody wants.
    pub(crate) fn wanted(&self, site: usize) -> BTreeSet<Arc<str>> {
        self.chosen(site, |_| true)
    }

    /// Wanted URIs of one upstream of which it is not known yet whether the upstream watches them.
    pub(crate) fn unconfirmed(&self, site: usize) -> BTreeSet<Arc<str>> {
        self.chosen(site, Option::is_none)
    }

    /// Wanted URIs of one upstream that it confirmed.
    pub(crate) fn confirmed(&self, site: usize) -> BTreeSet<Arc<str>> {
        self.chosen(site, |verdict| matches!(verdict, Some(Ok(()))))
    }

    fn chosen(&self, site: usize, good: impl Fn(&Verdict) -> bool) -> BTreeSet<Arc<str>> {
        let state = self.state.lock();
        let topics = state.topics.get(&site).into_iter().flatten();
        topics.filter(|(_, wanted)| good(&wanted.verdict.borrow())).map(|(uri, _)| uri.clone()).collect()
    }

    /// Number of subscribers and topics.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.subscribers.len(), state.topics.values().map(BTreeMap::len).sum())
    }

    /// Every `subscriptions/listen` is to end now; later ones end at once.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Resolves after [`Hub::close`].
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Resolves when no `subscriptions/listen` is left.
    pub(crate) async fn listens_ended(&self) {
        loop {
            let gone = self.gone.notified();
            if self.state.lock().listens == 0 {
                return;
            }
            gone.await;
        }
    }
}

impl State {
    fn take_off(&mut self, id: u64, as_known: &Arc<str>, topic: &Topic) {
        let Some(topics) = self.topics.get_mut(&topic.0) else { return };
        let Some(wanted) = topics.get_mut(&topic.1) else { return };
        wanted.by.remove(&(id, as_known.clone()));
        if wanted.by.is_empty() {
            topics.remove(&topic.1);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        let Some(member) = state.subscribers.remove(&self.id) else { return };
        state.listens -= usize::from(member.subscriber.listen_id.is_some());
        for (as_known, topic) in &member.topics {
            state.take_off(self.id, as_known, topic);
        }
        drop(state);
        self.hub.gone.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
