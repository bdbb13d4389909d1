//! A session whose slot is moved: its calls are made ready, handed over, and gone on with at the new owner.

use super::{InFlight, Live, Streams};
use crate::copy::CopyChange;
use crate::finish::{Back, Outbox, Said};
use bytes::Bytes;
use enfilade_mcp::{Id, json};
use enfilade_registry::NotServed;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// A message that is about to begin a call or a batch: whoever closes its slot waits for it.
pub(crate) struct Beginning(Arc<Live>);

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.parts().beginning.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The calls of streams that came with a move: another node finishes them.
pub(super) fn foreign(streams: &Streams) -> HashMap<Id, InFlight> {
    let mut calls = HashMap::new();
    for stream in streams.unfinished() {
        let ids = stream.unanswered().into_iter().filter_map(|call| Id::from_json(&call.id));
        calls.extend(ids.map(|id| (id, InFlight::new(Some(stream.id())))));
    }
    calls
}

impl Live {
    // ---- at the former owner ----

    /// A message begins a call, which is entered, or a batch, whose stream is opened, before what is returned is dropped.
    ///
    /// # Errors
    /// The slot was closed since it was asked for the session: nothing may begin here.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Beginning, NotServed> {
        self.parts().beginning.fetch_add(1, Ordering::AcqRel);
        let beginning = Beginning(self.clone());
        // Each side writes before it looks: either this finds the slot closed, or who has closed it finds this.
        fence(Ordering::SeqCst);
        self.gate.begins().map(|()| beginning)
    }

    /// Makes a stream of every call; gives how many calls cannot be handed over yet: they have not begun, have none, or
    /// who is to finish them has not begun. The slot is closed.
    pub(crate) fn commit(&self) -> usize {
        fence(Ordering::SeqCst);
        let Some(parts) = self.made() else { return 0 };
        // In this order: what begins is a call, or has its stream, before it is not counted here.
        let mut waiting = parts.beginning.load(Ordering::Acquire) as usize;
        let is_expected = parts.back.as_ref().is_some_and(|back| back.is_expected());
        let calls = parts.calls.lock();
        for call in calls.values() {
            let is_ready = if call.foreign.is_some() { !is_expected } else { call.streams.load(Ordering::Acquire) };
            if is_ready {
                continue;
            }
            if let Some(plan) = call.plan.get() {
                plan.outlet.commit.notify_one();
            }
            waiting += 1;
        }
        waiting
    }

    /// Begins to hold what its calls say, and tells what they have said.
    pub(crate) fn freeze(&self, tell: &impl Fn(CopyChange)) {
        match self.made() {
            Some(parts) => parts.streams.freeze(|| self.gate.hold(), tell),
            None => self.gate.hold(),
        }
    }

    /// The slot is another node's: calls go on here, what they say goes there. Readers end.
    pub(crate) fn leave(&self, outbox: &Arc<Outbox>) {
        self.gate.leave(outbox);
        self.made().iter().for_each(|parts| parts.streams.wake());
        // The new owner hears what upstreams say outside calls.
        self.stop_listening();
    }

    /// Runs something that the node waits for before it ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    // ---- at the new owner ----

    /// Whether it came with the move that has this way back. Its term may be higher by now.
    pub(crate) fn came_with(&self, back: &Arc<Back>) -> bool {
        self.back().is_some_and(|own| Arc::ptr_eq(own, back))
    }

    fn back(&self) -> Option<&Arc<Back>> {
        self.made().and_then(|parts| parts.back.as_ref())
    }

    /// Whether another node finishes calls of this session.
    pub(crate) fn has_foreign(&self) -> bool {
        self.made().is_some_and(|parts| !parts.came.is_empty())
    }

    /// Something for who finishes this session's calls.
    pub(super) fn aside(&self, what: Said) {
        if self.back().is_some_and(|back| !back.say(self.id, what)) {
            tracing::debug!(slot = %self.id.slot(), "what a client said of a call did not reach who finishes it");
        }
    }

    /// A call that another node finishes says something.
    pub(crate) fn foreign_event(&self, stream: u64, data: Bytes, droppable: bool, answers: bool) {
        let stream = if stream == 0 { Some(self.general().clone()) } else { self.streams().of_call(stream) };
        let Some(stream) = stream else { return };
        let taken = match (droppable, answers) {
            (true, _) => stream.send_droppable(data),
            (false, false) => stream.send(data),
            (false, true) => {
                let text = std::str::from_utf8(&data).unwrap_or_default();
                let id = json::get(text, "id").and_then(Id::from_json);
                // In this order: where this node passes it on, the answer is there before the call has ended.
                let taken = stream.send_answer(data);
                if let Some(id) = id {
                    self.foreign_ended(|call, foreign| *call == id && foreign == stream.id());
                }
                taken
            }
        };
        if !taken {
            tracing::debug!(slot = %self.id.slot(), "what another node said of a call came after its end");
        }
    }

    /// A stream of another node's calls is complete.
    pub(crate) fn foreign_closed(&self, id: u64) {
        let stream = self.streams().of_call(id).filter(|stream| !stream.is_done());
        if let Some(stream) = stream {
            self.streams().close(&stream);
        }
        self.foreign_ended(|_, foreign| foreign == id);
    }

    /// Nothing comes any more from who finished calls of this session: what became of those that are left nobody knows.
    pub(crate) fn foreign_over(&self) {
        let (came, streams) = (&self.parts().came, self.streams());
        let came = came.iter().filter_map(|id| streams.of_call(*id));
        came.filter(|stream| !stream.is_done()).for_each(|stream| streams.lose(&stream));
        self.foreign_ended(|_, _| true);
    }

    fn foreign_ended(&self, which: impl Fn(&Id, u64) -> bool) {
        self.parts().calls.lock().retain(|id, call| call.foreign.is_none_or(|stream| !which(id, stream)));
        self.gate.nudge();
    }
}
