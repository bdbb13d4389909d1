//! Who wants to hear of what: changed lists and updated resources, from upstreams to the streams of this node.
//!
//! One upstream subscription serves every subscriber of a resource; it begins with the first and ends with the last.

use crate::lists::ListKind;
use crate::stream::Stream;
use bytes::Bytes;
use enfilade_mcp::json;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use tokio::sync::watch;

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
    pub(crate) listen_id: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    subscribers: BTreeMap<u64, Subscriber>,
    topics: HashMap<Topic, Wanted>,
}

/// What the upstream said to a subscription; none as long as it said nothing.
type Verdict = Option<Result<(), String>>;

#[derive(Debug, Default)]
struct Wanted {
    /// Who wants it, and under which URI that client knows it.
    by: BTreeMap<u64, Arc<str>>,
    verdict: watch::Sender<Verdict>,
}

/// All subscribers of this node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

/// Keeps a subscriber registered; dropping it ends all its subscriptions.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    pub(crate) id: u64,
}

impl Hub {
    pub(crate) fn register(self: &Arc<Self>, subscriber: Subscriber) -> Registration {
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        state.subscribers.insert(id, subscriber);
        Registration { hub: self.clone(), id }
    }

    /// Adds a subscriber to a topic and gives what resolves once the upstream confirmed or refused it.
    pub(crate) fn subscribe(&self, id: u64, topic: Topic, as_known: Arc<str>) -> watch::Receiver<Verdict> {
        let mut state = self.state.lock();
        let wanted = state.topics.entry(topic).or_default();
        wanted.by.insert(id, as_known);
        wanted.verdict.subscribe()
    }

    /// Takes a subscriber off a topic.
    pub(crate) fn unsubscribe(&self, id: u64, topic: &Topic) {
        let mut state = self.state.lock();
        let Some(wanted) = state.topics.get_mut(topic) else { return };
        wanted.by.remove(&id);
        if wanted.by.is_empty() {
            state.topics.remove(topic);
        }
    }

    /// The upstream confirmed a subscription, or refused it with a reason.
    pub(crate) fn confirm(&self, site: usize, uri: &Arc<str>, refused: Option<String>) {
        if let Some(wanted) = self.state.lock().topics.get(&(site, uri.clone())) {
            wanted.verdict.send_replace(Some(refused.map_or(Ok(()), Err)));
        }
    }

    /// The URIs of one upstream that somebody wants.
    pub(crate) fn wanted(&self, site: usize) -> BTreeSet<Arc<str>> {
        let state = self.state.lock();
        state.topics.keys().filter(|(of, _)| *of == site).map(|(_, uri)| uri.clone()).collect()
    }

    /// Wanted URIs of one upstream of which it is not known yet whether the upstream watches them.
    pub(crate) fn unconfirmed(&self, site: usize) -> BTreeSet<Arc<str>> {
        let state = self.state.lock();
        let waits = |(topic, wanted): &(&Topic, &Wanted)| topic.0 == site && wanted.verdict.borrow().is_none();
        state.topics.iter().filter(waits).map(|((_, uri), _)| uri.clone()).collect()
    }

    /// Tells everybody concerned that lists of an upstream changed.
    pub(crate) fn lists_changed(&self, site: usize, kinds: &[ListKind]) {
        let state = self.state.lock();
        let mut methods: Vec<&'static str> = kinds.iter().map(|kind| kind.changed()).collect();
        methods.dedup();
        for subscriber in state.subscribers.values().filter(|s| s.sites.contains(&site)) {
            let Some(stream) = subscriber.stream.upgrade() else { continue };
            for method in &methods {
                if subscriber.lists.iter().any(|kind| kind.changed() == *method) {
                    stream.notice(method, notification(method, "", subscriber.listen_id.as_deref()));
                }
            }
        }
    }

    /// Tells the subscribers of a resource that it changed. An update of something that nobody subscribed to by that
    /// URI may be a part of a subscribed resource: it goes to all subscribers of that upstream (BRIDGE.md 10).
    pub(crate) fn updated(&self, site: usize, uri: &str) {
        let state = self.state.lock();
        let exact = (site, Arc::from(uri));
        let alone = state.topics.contains_key(&exact);
        let concerned = state.topics.iter().filter(|(topic, _)| topic.0 == site && (!alone || **topic == exact));
        for (topic, wanted) in concerned {
            for (id, as_known) in &wanted.by {
                let Some(subscriber) = state.subscribers.get(id) else { continue };
                let Some(stream) = subscriber.stream.upgrade() else { continue };
                // A client that knows the resource by a qualified URI gets its parts qualified in the same way.
                let known = format!("{}{uri}", as_known.strip_suffix(&*topic.1).unwrap_or_default());
                let members = format!("\"uri\":{}", json::quote(&known));
                let method = "notifications/resources/updated";
                stream.notice(&known, notification(method, &members, subscriber.listen_id.as_deref()));
            }
        }
    }

    /// After a gap in what an upstream says, everything may have changed.
    pub(crate) fn gap(&self, site: usize) {
        self.wanted(site).iter().for_each(|uri| self.updated(site, uri));
    }

    /// Number of subscribers and topics.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.subscribers.len(), state.topics.len())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        state.subscribers.remove(&self.id);
        let id = self.id;
        state.topics.retain(|_, wanted| {
            wanted.by.remove(&id);
            !wanted.by.is_empty()
        });
    }
}

/// A notification, with the id of the listen request where there is one.
pub(crate) fn notification(method: &str, members: &str, listen_id: Option<&str>) -> Bytes {
    let params = match listen_id {
        Some(id) => {
            let comma = if members.is_empty() { "" } else { "," };
            format!(r#","params":{{{members}{comma}"_meta":{{"{}":{id}}}}}"#, enfilade_mcp::meta::SUBSCRIPTION_ID)
        }
        None if members.is_empty() => String::new(),
        None => format!(r#","params":{{{members}}}"#),
    };
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#).into()
}
