//! A legacy session while it is used on this node: its calls in flight, streams, questions and upstream sessions.
//!
//! The registry holds what must survive; everything here can be built again from the record.

mod hear;
mod moving;
mod questions;
mod streams;
mod upstreams;

use crate::call::Plan;
use crate::copy::SessionCopy;
use crate::finish::{Back, Said};
use crate::gate::Gate;
use crate::lists::ListKind;
use crate::stream::Stream;
use crate::topics::{Registration, Subscriber, notification};
use crate::view::View;
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::{Id, Version};
use enfilade_registry::{SessionId, SessionRecord, Writer};
pub(crate) use hear::send;
use parking_lot::Mutex;
use questions::{Question, Questions};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use streams::Streams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upstreams::Binding;

/// A session that is in use.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) version: Version,
    pub(crate) view: Arc<View>,
    pub(crate) record: Arc<SessionRecord>,
    /// What each of its effects passes.
    pub(crate) gate: Arc<Gate>,
    writer: Arc<dyn Writer>,
    tasks: TaskTracker,
    bindings: Vec<Binding>,
    pub(crate) streams: Streams,
    pub(crate) questions: Questions,
    calls: Mutex<HashMap<Id, InFlight>>,
    /// Batches under way: their calls share a stream, and are not handed over.
    pub(crate) batches: Arc<AtomicUsize>,
    /// To the former owner, which finishes calls that came with a move.
    back: Option<Arc<Back>>,
    /// Streams of those calls.
    came: Vec<u64>,
    pub(crate) log_level: Mutex<Option<Arc<str>>>,
    /// What the client declared that it can do.
    pub(crate) scope: Scope,
    /// Resources that the client watches through its own upstream sessions, by the URIs that it knows.
    watched: Mutex<BTreeSet<Arc<str>>>,
    registration: Registration,
    used: Mutex<Instant>,
    ended: AtomicBool,
}

/// A request of the client from its arrival to its end.
#[derive(Clone)]
struct InFlight {
    cancelled: CancellationToken,
    /// Known once its way is.
    plan: Arc<OnceLock<Arc<Plan>>>,
    /// It has a stream with numbers: another node can go on with that.
    streams: Arc<AtomicBool>,
    /// The stream of a call that another node finishes.
    foreign: Option<u64>,
}

impl InFlight {
    fn new(foreign: Option<u64>) -> Self {
        Self { cancelled: CancellationToken::new(), plan: Arc::default(), streams: Arc::default(), foreign }
    }
}

/// Takes a request off its session when it ends, however it ends.
pub(crate) struct Entered {
    live: Arc<Live>,
    id: Id,
    call: InFlight,
}

impl Entered {
    /// Cancelled when the client does not want the answer any more.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.call.cancelled
    }

    /// The request's way is known.
    pub(crate) fn planned(&self, plan: &Arc<Plan>) {
        let _ = self.call.plan.set(plan.clone());
    }

    /// The request has a stream with numbers from now on.
    pub(crate) fn streams(&self) {
        self.call.streams.store(true, Ordering::Release);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut calls = self.live.calls.lock();
        // One that took its place stays.
        if calls.get(&self.id).is_some_and(|call| Arc::ptr_eq(&call.plan, &self.call.plan)) {
            calls.remove(&self.id);
        }
        drop(calls);
        if let Some(plan) = self.call.plan.get() {
            self.live.questions.end_of(plan.upstream_id);
        }
        self.live.gate.nudge();
    }
}

impl Live {
    /// A session that is taken up, with what this node holds of its streams from when it was the slot's second.
    pub(crate) fn new(
        record: Arc<SessionRecord>,
        view: Arc<View>,
        writer: Arc<dyn Writer>,
        tasks: TaskTracker,
        gate: Arc<Gate>,
        (copy, back): (Option<SessionCopy>, Option<Arc<Back>>),
    ) -> Arc<Self> {
        let version = Version::parse(&record.version).unwrap_or(Version::LEGACY_LATEST);
        let streams = match copy {
            Some(copy) => Streams::restored(version, gate.clone(), copy),
            None => Streams::new(version, gate.clone()),
        };
        let subscriber = Subscriber {
            stream: Arc::downgrade(streams.general()),
            sites: view.indexes.clone(),
            lists: ListKind::ALL.to_vec(),
            listen_id: None,
        };
        let hub = view.sites[0].hub.clone();
        Arc::new(Self {
            id: record.id,
            version,
            bindings: view.sites.iter().map(|_| Binding::default()).collect(),
            questions: Questions::default(),
            calls: Mutex::new(if back.is_some() { moving::foreign(&streams) } else { HashMap::new() }),
            batches: Arc::default(),
            came: back.iter().flat_map(|_| streams.unfinished()).map(|stream| stream.id()).collect(),
            back,
            log_level: Mutex::new(record.log_level.clone()),
            scope: Scope::of(&record.capabilities),
            watched: Mutex::new(record.subscriptions.iter().cloned().collect()),
            registration: hub.register(subscriber),
            used: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            streams,
            view,
            record,
            gate,
            writer,
            tasks,
        })
    }

    pub(crate) fn viewer(self: &Arc<Self>) -> Viewer {
        Viewer { scope: self.scope.clone(), live: Some(self.clone()) }
    }

    pub(crate) fn subscriber_id(&self) -> u64 {
        self.registration.id
    }

    pub(crate) fn general(&self) -> &Arc<Stream> {
        self.streams.general()
    }

    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(crate) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }

    /// True while calls are in flight or the client reads a stream.
    pub(crate) fn is_busy(&self) -> bool {
        !self.calls.lock().is_empty() || self.general().is_attached()
    }

    /// Notes a request.
    ///
    /// # Errors
    /// Its id is in use, or there are too many.
    pub(crate) fn enter(self: &Arc<Self>, id: &Id, most: usize) -> Result<Entered, &'static str> {
        let mut calls = self.calls.lock();
        if calls.len() >= most {
            return Err("too many requests of this session are in flight; wait for answers");
        }
        if calls.contains_key(id) {
            return Err("a request with this id is in flight already; use another id");
        }
        let call = InFlight::new(None);
        calls.insert(id.clone(), call.clone());
        Ok(Entered { live: self.clone(), id: id.clone(), call })
    }

    /// The client does not want the answer to `id` any more.
    pub(crate) fn cancel(&self, id: &Id) {
        let call = self.calls.lock().get(id).cloned();
        match call {
            Some(InFlight { foreign: Some(_), .. }) => self.aside(Said::Cancel(id.as_json().into())),
            Some(call) => call.cancelled.cancel(),
            None => {}
        }
    }

    /// The same request comes again, because the edge lost the first: whatever that still does, nobody waits for it.
    pub(crate) fn supersede(&self, id: &Id) {
        self.cancel(id);
        self.calls.lock().remove(id);
    }

    /// A call that is in flight, by a property of its plan.
    fn call(&self, is_it: impl Fn(&Plan) -> bool) -> Option<Arc<Plan>> {
        self.calls.lock().values().filter_map(|call| call.plan.get()).find(|plan| is_it(plan)).cloned()
    }

    /// The call that is in flight at an upstream, when it is the only one.
    fn only_call(&self, at: usize) -> Option<Arc<Plan>> {
        let calls = self.calls.lock();
        let mut there = calls.values().filter_map(|call| call.plan.get()).filter(|plan| plan.at == at);
        let only = there.next()?;
        there.next().is_none().then(|| only.clone())
    }

    /// The calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.lock().len()
    }

    /// What was announced before the session was taken up is not known here: its client is to look again.
    pub(crate) fn announce_gap(&self) {
        for uri in &self.record.subscriptions {
            self.updated(uri);
        }
        for kind in ListKind::ALL {
            let path = [kind.capability(), "listChanged"];
            let can = self.view.single().and_then(|site| site.up()).is_none_or(|up| up.profile.declares(&path));
            if can {
                self.general().notice(kind.changed(), notification(kind.changed(), "", None));
            }
        }
    }

    /// Ends what is here but leaves the session's record, and its sessions at HTTP upstreams, to be taken up again. A
    /// second is told nothing: what is open stays open there.
    pub(crate) fn suspend(&self) {
        self.gate.silence();
        self.ended.store(true, Ordering::Release);
        self.calls.lock().values().for_each(|call| call.cancelled.cancel());
        self.streams.finish();
    }

    /// The slot is another node's: everything here ends without another word to client, upstream or second.
    pub(crate) fn lose(&self) {
        self.gate.lose();
        self.suspend();
        self.drop_upstreams();
    }

    /// Ends everything that belongs to the session here.
    pub(crate) async fn end(&self) {
        self.gate.end();
        self.suspend();
        self.close_upstreams(|_| true).await;
    }
}
