//! An announcement on its way to the streams that want it: a few at a time, so that the hub is never held for long and
//! what they wake has its turn. Whoever subscribes meanwhile may hear of it too.

use super::text::{Texts, UPDATED};
use super::{Changed, Hub, State, Subscriber, Wanted};
use crate::lists::ListKind;
use crate::stream::{Noticed, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Streams that get a notice in one step, and subscribers that are looked at for it. A step wakes a task for each of
/// them: with many more, a call that comes meanwhile would wait behind all of these.
const STREAMS: usize = 32;
const LOOKED_AT: usize = 512;

/// Notices to the streams of a node, since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announced {
    /// Notices that streams took.
    pub delivered: u64,
    /// Of these, those that took the place of an unread one of the same subject.
    pub coalesced: u64,
    /// Notices that had to go because their client does not read.
    pub dropped: u64,
}

/// [`Announced`], as it grows.
#[derive(Debug, Default)]
pub(super) struct Told {
    delivered: AtomicU64,
    coalesced: AtomicU64,
    dropped: AtomicU64,
}

/// How far an announcement has come.
pub(super) struct Walk {
    site: usize,
    what: What,
    /// The subscriber that was looked at last.
    after: Option<(u64, Arc<str>)>,
    texts: Texts,
}

enum What {
    /// A resource that somebody subscribed to.
    Resource(Arc<str>),
    /// What is perhaps a part of a subscribed resource: it goes to all subscribers of that upstream (BRIDGE.md 10).
    Part(Arc<str>),
    /// Every subscribed resource. With the topic that is being told.
    All(Option<Arc<str>>),
    /// A kind of list, by the method of its notice.
    List(&'static str),
}

/// A notice on its way to one stream.
struct Delivery {
    stream: Arc<Stream>,
    /// The URI that its client knows; empty for lists.
    known: Arc<str>,
    subscriber: Arc<Subscriber>,
}

impl Walk {
    /// Begins to tell that a resource changed; or that all did.
    pub(super) fn of(site: usize, changed: Option<(Arc<str>, Changed)>) -> Self {
        let what = match changed {
            None => What::All(None),
            Some((uri, Changed::Resource)) => What::Resource(uri),
            Some((uri, Changed::Part)) => What::Part(uri),
        };
        Self::new(site, what)
    }

    fn new(site: usize, what: What) -> Self {
        let method = if let What::List(method) = what { method } else { UPDATED };
        Self { site, what, after: None, texts: Texts::new(method) }
    }

    /// Whether it tells of this resource; or of all.
    pub(super) fn is_of(&self, uri: Option<&str>) -> bool {
        match &self.what {
            What::Resource(of) | What::Part(of) => Some(&**of) == uri,
            What::All(_) => uri.is_none(),
            What::List(_) => false,
        }
    }
}

impl Hub {
    /// What that is of which an upstream says now that it changed.
    pub(crate) fn changed(&self, site: usize, uri: &str) -> Changed {
        let is_topic = self.state.lock().topics.get(&site).is_some_and(|topics| topics.contains_key(uri));
        if is_topic { Changed::Resource } else { Changed::Part }
    }

    /// Tells the next few; false when nobody is left.
    pub(super) fn step(&self, walk: &mut Walk) -> bool {
        let (few, more) = self.state.lock().next_of(walk);
        let mut sum = Announced::default();
        for Delivery { stream, known, subscriber } in few {
            let text = walk.texts.of(&known, subscriber.listen_id.as_ref());
            sum.add(match &walk.what {
                What::List(method) => stream.notice(*method, text),
                _ => stream.notice(known, text),
            });
        }
        self.told.add(&sum);
        more
    }

    async fn walk(&self, mut walk: Walk) {
        while self.step(&mut walk) {
            tokio::task::yield_now().await;
        }
    }

    /// Tells everybody concerned that lists of an upstream changed.
    pub(crate) async fn lists_changed(&self, site: usize, kinds: &[ListKind]) {
        let mut methods: Vec<&'static str> = kinds.iter().map(|kind| kind.changed()).collect();
        methods.sort_unstable();
        methods.dedup();
        for method in methods {
            {
                let mut state = self.state.lock();
                state.changes += 1;
                let change = state.changes;
                state.changed.insert((site, method), change);
            }
            self.walk(Walk::new(site, What::List(method))).await;
        }
    }

    /// Tells one subscriber that what its client knows by this URI may have changed.
    pub(crate) fn updated_for(&self, id: u64, known: &Arc<str>) {
        let subscriber = self.state.lock().subscribers.get(&id).map(|member| member.subscriber.clone());
        let Some(subscriber) = subscriber else { return };
        let Some(stream) = subscriber.stream.upgrade() else { return };
        let text = Texts::new(UPDATED).of(known, subscriber.listen_id.as_ref());
        let mut sum = Announced::default();
        sum.add(stream.notice(known.clone(), text));
        self.told.add(&sum);
    }

    /// What was announced to streams of this node.
    pub(crate) fn announced(&self) -> Announced {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Announced {
            delivered: of(&self.told.delivered),
            coalesced: of(&self.told.coalesced),
            dropped: of(&self.told.dropped),
        }
    }
}

impl State {
    /// The next few who are to be told, and whether there may be more.
    fn next_of(&self, walk: &mut Walk) -> (Vec<Delivery>, bool) {
        let mut few = Few { deliveries: Vec::with_capacity(STREAMS), looked_at: 0 };
        let Walk { site, what, after, .. } = walk;
        let topics = self.topics.get(site);
        let more = match what {
            What::List(method) => self.few_of_list(*site, method, after, &mut few),
            What::Resource(uri) => {
                topics.and_then(|topics| topics.get(uri)).is_some_and(|wanted| wanted.few(after, &mut few))
            }
            What::All(at) => few_of_all(topics, at, after, &mut few),
            What::Part(uri) => self.few_of_part(*site, uri, after, &mut few),
        };
        (few.deliveries, more)
    }

    fn few_of_list(&self, site: usize, method: &str, after: &mut Option<(u64, Arc<str>)>, few: &mut Few) -> bool {
        let no_uri: Arc<str> = "".into();
        let from = after.take().map_or(Bound::Unbounded, |(id, _)| Bound::Excluded(id));
        for (id, member) in self.subscribers.range((from, Bound::Unbounded)) {
            few.looked_at += 1;
            let Subscriber { sites, lists, .. } = &*member.subscriber;
            if sites.contains(&site) && lists.iter().any(|kind| kind.changed() == method) {
                few.add(&member.subscriber, || no_uri.clone());
            }
            if few.is_full() {
                *after = Some((*id, no_uri));
                return true;
            }
        }
        false
    }

    /// By subscriber: whoever has several topics of the upstream hears of a part once under each name that it has there.
    fn few_of_part(&self, site: usize, uri: &Arc<str>, after: &mut Option<(u64, Arc<str>)>, few: &mut Few) -> bool {
        let from = after.take().map_or(Bound::Unbounded, |(id, _)| Bound::Excluded(id));
        for (id, member) in self.subscribers.range((from, Bound::Unbounded)) {
            few.looked_at += 1 + member.topics.len();
            let there = member.topics.iter().filter(|(_, (at, _))| *at == site);
            let names: BTreeSet<Arc<str>> = there.map(|(as_known, (_, topic))| part(uri, topic, as_known)).collect();
            names.into_iter().for_each(|known| few.add(&member.subscriber, || known));
            if few.is_full() {
                *after = Some((*id, "".into()));
                return true;
            }
        }
        false
    }
}

impl Wanted {
    /// The next few of those who subscribed; false when nobody is left.
    fn few(&self, after: &mut Option<(u64, Arc<str>)>, few: &mut Few) -> bool {
        let from = after.take().map_or(Bound::Unbounded, Bound::Excluded);
        for (key, subscriber) in self.by.range((from, Bound::Unbounded)) {
            few.looked_at += 1;
            few.add(subscriber, || key.1.clone());
            if few.is_full() {
                *after = Some(key.clone());
                return true;
            }
        }
        false
    }
}

/// The next few of the subscribers of all topics; `at` is the topic that is being told.
fn few_of_all(
    topics: Option<&BTreeMap<Arc<str>, Wanted>>,
    at: &mut Option<Arc<str>>,
    after: &mut Option<(u64, Arc<str>)>,
    few: &mut Few,
) -> bool {
    let Some(topics) = topics else { return false };
    let from = at.clone().map_or(Bound::Unbounded, Bound::Included);
    for (topic, wanted) in topics.range((from, Bound::Unbounded)) {
        if at.as_ref() != Some(topic) {
            (*at, *after) = (Some(topic.clone()), None);
        }
        if wanted.few(after, few) {
            return true;
        }
    }
    false
}

/// A client that knows the resource by a qualified URI gets its parts qualified in the same way.
fn part(uri: &Arc<str>, topic: &str, as_known: &Arc<str>) -> Arc<str> {
    match as_known.strip_suffix(topic) {
        None | Some("") => uri.clone(),
        Some(prefix) => format!("{prefix}{uri}").into(),
    }
}

struct Few {
    deliveries: Vec<Delivery>,
    looked_at: usize,
}

impl Few {
    fn add(&mut self, subscriber: &Arc<Subscriber>, known: impl FnOnce() -> Arc<str>) {
        let Some(stream) = subscriber.stream.upgrade() else { return };
        self.deliveries.push(Delivery { stream, known: known(), subscriber: subscriber.clone() });
    }

    fn is_full(&self) -> bool {
        self.deliveries.len() >= STREAMS || self.looked_at >= LOOKED_AT
    }
}

impl Announced {
    fn add(&mut self, noticed: Noticed) {
        self.delivered += u64::from(noticed.waits);
        self.coalesced += u64::from(noticed.coalesced);
        self.dropped += noticed.dropped;
    }
}

impl Told {
    fn add(&self, sum: &Announced) {
        self.delivered.fetch_add(sum.delivered, Ordering::Relaxed);
        self.coalesced.fetch_add(sum.coalesced, Ordering::Relaxed);
        self.dropped.fetch_add(sum.dropped, Ordering::Relaxed);
    }
}
