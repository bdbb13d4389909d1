//! A legacy session while it is used on this node: its calls in flight, streams, questions and upstream sessions.
//!
//! The registry holds what must survive; everything here can be built again from the record.

mod hear;
mod moving;
mod parts;
mod questions;
mod streams;
mod upstreams;

use crate::call::Plan;
use crate::copy::SessionCopy;
use crate::finish::{Back, Said};
use crate::gate::Gate;
use crate::view::View;
use enfilade_mcp::{Id, Version};
use enfilade_registry::{Facts, SessionId, SessionRecord, Writer};
pub(crate) use hear::send;
use parking_lot::Mutex;
use parts::Parts;
pub(crate) use parts::UnderWay;
use questions::{Question, Questions};
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use streams::Streams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A session that is in use.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) version: Version,
    pub(crate) view: Arc<View>,
    pub(crate) facts: Facts,
    /// What each of its effects passes.
    pub(crate) gate: Arc<Gate>,
    writer: Arc<dyn Writer>,
    tasks: TaskTracker,
    parts: OnceLock<Box<Parts>>,
    /// The first change of lists that its client must hear of ([`crate::topics::Hub::next_change`]); 0 when it is to look
    /// at all lists again.
    heard: AtomicU64,
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
        // First: who finds that a session has no calls left finds none counted either.
        if let Some(plan) = self.call.plan.get() {
            plan.counted.end();
        }
        let mut calls = self.live.parts().calls.lock();
        // One that took its place stays.
        if let Some((id, call)) = calls.remove_entry(&self.id)
            && !Arc::ptr_eq(&call.plan, &self.call.plan)
        {
            calls.insert(id, call);
        }
        if calls.is_empty() {
            // A session that waits keeps no room for calls.
            calls.shrink_to_fit();
        }
        drop(calls);
        if let Some(plan) = self.call.plan.get() {
            self.live.questions().end_of(plan.upstream_id);
        }
        self.live.gate.nudge();
    }
}

impl Live {
    /// A session that is taken up, with what this node holds of its streams from when it was the slot's second.
    pub(crate) fn new(
        record: &SessionRecord,
        view: Arc<View>,
        writer: Arc<dyn Writer>,
        tasks: TaskTracker,
        gate: Arc<Gate>,
        (copy, back): (Option<SessionCopy>, Option<Arc<Back>>),
    ) -> Arc<Self> {
        let version = Version::parse(record.facts().version()).unwrap_or(Version::LEGACY_LATEST);
        let live = Arc::new(Self {
            id: record.id,
            version,
            parts: OnceLock::new(),
            heard: AtomicU64::new(view.sites[0].hub.next_change()),
            used: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            view,
            facts: record.facts().clone(),
            gate,
            writer,
            tasks,
        });
        if let Some(copy) = copy {
            let (streams, general) = Streams::restored(version, live.gate.clone(), copy);
            let parts = Parts::new(&live, streams, back);
            // Nobody else has the session yet.
            let _ = live.parts.set(Box::new(parts));
            if let Some(general) = general {
                live.joined(Some(general));
            }
        }
        live
    }

    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(crate) fn idle(&self) -> Duration {
        self.used.lock().elapsed()
    }

    /// True while calls are in flight or the client reads a stream.
    pub(crate) fn is_busy(&self) -> bool {
        self.made().is_some_and(|parts| !parts.calls.lock().is_empty()) || self.is_heard()
    }

    /// Notes a request.
    ///
    /// # Errors
    /// Its id is in use, or there are too many.
    pub(crate) fn enter(self: &Arc<Self>, id: &Id, most: usize) -> Result<Entered, &'static str> {
        let mut calls = self.parts().calls.lock();
        if calls.len() >= most {
            return Err("too many requests of this session are in flight; wait for answers");
        }
        let Entry::Vacant(free) = calls.entry(id.clone()) else {
            return Err("a request with this id is in flight already; use another id");
        };
        let call = free.insert(InFlight::new(None)).clone();
        Ok(Entered { live: self.clone(), id: id.clone(), call })
    }

    /// The client does not want the answer to `id` any more.
    pub(crate) fn cancel(&self, id: &Id) {
        let call = self.parts().calls.lock().get(id).cloned();
        match call {
            Some(InFlight { foreign: Some(_), .. }) => self.aside(Said::Cancel(id.as_json().into())),
            Some(call) => call.cancelled.cancel(),
            None => {}
        }
    }

    /// The same request comes again, because the edge lost the first: whatever that still does, nobody waits for it.
    pub(crate) fn supersede(&self, id: &Id) {
        self.cancel(id);
        self.parts().calls.lock().remove(id);
    }

    /// A call that is in flight, by a property of its plan.
    fn call(&self, is_it: impl Fn(&Plan) -> bool) -> Option<Arc<Plan>> {
        self.parts().calls.lock().values().filter_map(|call| call.plan.get()).find(|plan| is_it(plan)).cloned()
    }

    /// The call that is in flight at an upstream, when it is the only one.
    fn only_call(&self, at: usize) -> Option<Arc<Plan>> {
        let calls = self.parts().calls.lock();
        let mut there = calls.values().filter_map(|call| call.plan.get()).filter(|plan| plan.at == at);
        let only = there.next()?;
        there.next().is_none().then(|| only.clone())
    }

    /// The calls in flight; a batch is one more than its calls.
    pub(crate) fn in_flight(&self) -> usize {
        self.made().map_or(0, |parts| parts.calls.lock().len() + parts.batches.load(Ordering::Acquire) as usize)
    }

    /// What was announced before the session was taken up is not known here: its client is to look again.
    pub(crate) fn announce_gap(&self) {
        for uri in self.facts.subscriptions() {
            self.updated(uri);
        }
        self.announce_lists();
    }

    /// Ends what is here but leaves the session's record, and its sessions at HTTP upstreams, to be taken up again. A
    /// second is told nothing: what is open stays open there.
    pub(crate) fn suspend(&self) {
        self.gate.silence();
        self.ended.store(true, Ordering::Release);
        if let Some(parts) = self.made() {
            parts.calls.lock().values().for_each(|call| call.cancelled.cancel());
            parts.streams.finish();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        // There are very many; what one needs that is used is made then.
        assert!(size_of::<Live>() <= 160, "{} bytes", size_of::<Live>());
        assert!(size_of::<Gate>() <= 112, "{} bytes", size_of::<Gate>());
        assert!(size_of::<Parts>() <= 368, "{} bytes", size_of::<Parts>());
        assert!(size_of::<upstreams::Binding>() <= 80, "{} bytes", size_of::<upstreams::Binding>());
    }
}
