//! Who wants to hear of what: changed lists and updated resources, from upstreams to the streams of this node.
//!
//! One upstream subscription serves every subscriber of a resource; it begins with the first and ends with the last.

use crate::ask::AskError;
use crate::lists::ListKind;
use crate::stream::Stream;
use bytes::Bytes;
use enfilade_mcp::json;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

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
    /// Counts changes of lists.
    changes: u64,
    /// The last change of each kind of list of each upstream.
    changed: BTreeMap<(usize, &'static str), u64>,
    /// By upstream and by the upstream's own URI.
    topics: HashMap<usize, BTreeMap<Arc<str>, Wanted>>,
}

#[derive(Debug)]
struct Member {
    subscriber: Subscriber,
    /// What it wants, by the URIs that its client knows.
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Who wants it, and under which URI that client knows it.
    by: BTreeSet<(u64, Arc<str>)>,
    verdict: watch::Sender<Verdict>,
}

/// All subscribers of this node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<State>,
    closing: CancellationToken,
    /// Woken when a subscriber has gone.
    gone: Notify,
}

/// Keeps a subscriber registered; dropping it ends all its subscriptions.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    pub(crate) id: u64,
}

/// A notice on its way to one stream.
struct Delivery {
    stream: Arc<Stream>,
    /// The URI that its client knows; empty for lists.
    known: Arc<str>,
    listen_id: Option<Arc<str>>,
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
        state.subscribers.insert(id, Member { subscriber, topics: HashMap::new() });
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
        let Some(member) = state.subscribers.get_mut(&id) else {
            return watch::channel(Some(Err(Refusal::Because("the subscriber has ended")))).1;
        };
        let before = member.topics.insert(as_known.clone(), topic.clone());
        if let Some(before) = before.filter(|before| *before != topic) {
            state.take_off(id, &as_known, &before);
        }
        let wanted = state.topics.entry(topic.0).or_default().entry(topic.1).or_default();
        wanted.by.insert((id, as_known));
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

    /// Tells everybody concerned that lists of an upstream changed.
    pub(crate) fn lists_changed(&self, site: usize, kinds: &[ListKind]) {
        let mut methods: Vec<&'static str> = kinds.iter().map(|kind| kind.changed()).collect();
        methods.sort_unstable();
        methods.dedup();
        for method in methods {
            let concerned: Vec<Delivery> = {
                let mut state = self.state.lock();
                state.changes += 1;
                let change = state.changes;
                state.changed.insert((site, method), change);
                let wants = |member: &&Member| {
                    member.subscriber.sites.contains(&site)
                        && member.subscriber.lists.iter().any(|kind| kind.changed() == method)
                };
                state.subscribers.values().filter(wants).filter_map(|member| member.delivery(&"".into())).collect()
            };
            deliver(concerned, method, |_| String::new());
        }
    }

    /// Tells the subscribers of a resource that it changed. An update of something that nobody subscribed to by that
    /// URI may be a part of a subscribed resource: it goes to all subscribers of that upstream (BRIDGE.md 10).
    pub(crate) fn updated(&self, site: usize, uri: &str) {
        let concerned: Vec<Delivery> = {
            let state = self.state.lock();
            let Some(topics) = state.topics.get(&site) else { return };
            match topics.get(uri) {
                Some(wanted) => state.subscribers_of(uri, uri, wanted).collect(),
                None => topics.iter().flat_map(|(topic, wanted)| state.subscribers_of(topic, uri, wanted)).collect(),
            }
        };
        deliver(concerned, UPDATED, updated_members);
    }

    /// Tells one subscriber that what its client knows by this URI may have changed.
    pub(crate) fn updated_for(&self, id: u64, known: &Arc<str>) {
        let one = self.state.lock().subscribers.get(&id).and_then(|member| member.delivery(known));
        deliver(one, UPDATED, updated_members);
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
            if self.state.lock().subscribers.values().all(|member| member.subscriber.listen_id.is_none()) {
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

    /// Who subscribed to `topic` and hears of `uri`, which is the same or a part of it.
    fn subscribers_of<'a>(
        &'a self,
        topic: &'a str,
        uri: &'a str,
        wanted: &'a Wanted,
    ) -> impl Iterator<Item = Delivery> + 'a {
        wanted.by.iter().filter_map(move |(id, as_known)| {
            // A client that knows the resource by a qualified URI gets its parts qualified in the same way.
            let known = match as_known.strip_suffix(topic) {
                _ if topic == uri => as_known.clone(),
                prefix => format!("{}{uri}", prefix.unwrap_or_default()).into(),
            };
            self.subscribers.get(id)?.delivery(&known)
        })
    }
}

impl Member {
    fn delivery(&self, known: &Arc<str>) -> Option<Delivery> {
        let stream = self.subscriber.stream.upgrade()?;
        Some(Delivery { stream, known: known.clone(), listen_id: self.subscriber.listen_id.clone() })
    }
}

const UPDATED: &str = "notifications/resources/updated";

fn updated_members(known: &str) -> String {
    format!("\"uri\":{}", json::quote(known))
}

/// Writes a notice into every stream; those that get the same text share it. No lock is held here.
fn deliver(concerned: impl IntoIterator<Item = Delivery>, method: &str, members: impl Fn(&str) -> String) {
    let mut shared: Option<(Arc<str>, Bytes)> = None;
    for Delivery { stream, known, listen_id } in concerned {
        let text = match (&listen_id, &shared) {
            (None, Some((same, text))) if *same == known => text.clone(),
            _ => notification(method, &members(&known), listen_id.as_deref()),
        };
        stream.notice(if known.is_empty() { method } else { &known }, text.clone());
        if listen_id.is_none() {
            shared = Some((known, text));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        let Some(member) = state.subscribers.remove(&self.id) else { return };
        for (as_known, topic) in &member.topics {
            state.take_off(self.id, as_known, topic);
        }
        drop(state);
        self.hub.gone.notify_waiters();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Kind;
    use futures::FutureExt;

    fn member(hub: &Arc<Hub>, listen_id: Option<&str>) -> (Arc<Stream>, Registration) {
        let stream = Stream::new(0, 0, Kind::Ephemeral);
        let registration = hub.register(Subscriber {
            stream: Arc::downgrade(&stream),
            sites: Arc::new([0, 1]),
            lists: vec![ListKind::Tools],
            listen_id: listen_id.map(Into::into),
        });
        (stream, registration)
    }

    fn heard(stream: &Arc<Stream>) -> Vec<String> {
        let mut reader = stream.attach(None).unwrap();
        let mut all = Vec::new();
        while let Some(Some(event)) = reader.next().now_or_never() {
            all.push(String::from_utf8(event.data.to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn two_names_of_one_resource_are_two_subscriptions() {
        let hub = Arc::new(Hub::default());
        let (stream, one) = member(&hub, None);
        let topic: Topic = (1, "x://a".into());
        let (plain, qualified): (Arc<str>, Arc<str>) = ("x://a".into(), "second+x://a".into());
        hub.subscribe(one.id, topic.clone(), plain.clone());
        hub.subscribe(one.id, topic, qualified.clone());
        assert_eq!(hub.counts(), (1, 1));
        assert_eq!(hub.unsubscribe(one.id, &plain), Some(1));
        assert_eq!(hub.unsubscribe(one.id, &plain), None);
        hub.updated(1, "x://a");
        hub.updated(0, "x://a");
        assert_eq!(heard(&stream).len(), 1);
        drop(one);
        assert_eq!(hub.counts(), (0, 0), "nothing is left of a subscriber that is gone");
    }

    #[test]
    fn parts_are_named_as_the_client_knows_the_whole_and_exact_hits_go_to_nobody_else() {
        let hub = Arc::new(Hub::default());
        let ((one, first), (two, second)) = (member(&hub, None), member(&hub, Some("7")));
        hub.subscribe(first.id, (0, "x://a".into()), "main+x://a".into());
        hub.subscribe(second.id, (0, "x://b".into()), "x://b".into());
        hub.updated(0, "x://b");
        hub.updated(0, "x://a/part");
        let uris = |stream| {
            let uri = |text: &String| json::at(text, &["params", "uri"]).map(str::to_owned);
            heard(stream).iter().filter_map(uri).collect::<Vec<_>>()
        };
        assert_eq!(uris(&one), ["\"main+x://a/part\""]);
        assert_eq!(uris(&two), ["\"x://b\"", "\"x://a/part\""]);
    }

    #[test]
    fn a_subscriber_that_has_ended_is_refused_and_leaves_no_topic() {
        let hub = Arc::new(Hub::default());
        let (_stream, gone) = member(&hub, None);
        let id = gone.id;
        drop(gone);
        let verdict = hub.subscribe(id, (0, "x://a".into()), "x://a".into());
        assert!(matches!(*verdict.borrow(), Some(Err(_))));
        assert_eq!(hub.counts(), (0, 0));
    }

    #[test]
    fn who_comes_late_hears_of_the_changes_it_missed_and_of_no_others() {
        let hub = Arc::new(Hub::default());
        hub.lists_changed(0, &[ListKind::Tools]);
        let since = hub.next_change();
        let late = |lists: &[ListKind]| {
            let subscriber =
                Subscriber { stream: Weak::new(), sites: Arc::new([0]), lists: lists.to_vec(), listen_id: None };
            hub.register_since(subscriber, since).1
        };
        assert!(late(&ListKind::ALL).is_empty());
        hub.lists_changed(0, &[ListKind::Resources, ListKind::Templates]);
        hub.lists_changed(0, &[ListKind::Resources]);
        hub.lists_changed(1, &[ListKind::Prompts]);
        assert_eq!(Vec::from_iter(late(&ListKind::ALL)), [ListKind::Resources.changed()]);
        assert!(late(&[ListKind::Tools]).is_empty());
    }

    #[test]
    fn a_verdict_is_remembered_and_a_new_topic_has_none() {
        let hub = Arc::new(Hub::default());
        let (_stream, one) = member(&hub, None);
        let uri: Arc<str> = "x://a".into();
        hub.subscribe(one.id, (0, uri.clone()), uri.clone());
        assert_eq!(hub.unconfirmed(0).len(), 1);
        hub.confirm(0, &uri, Ok(()));
        assert_eq!((hub.unconfirmed(0).len(), hub.confirmed(0).len()), (0, 1));
        hub.unsubscribe(one.id, &uri);
        hub.subscribe(one.id, (0, uri.clone()), uri);
        assert_eq!((hub.unconfirmed(0).len(), hub.confirmed(0).len()), (1, 0));
    }
}
