//! Slots that come and go: what this node takes up, drops, keeps or tells when their owner changes.
//!
//! A planned move costs no call when new messages are refused first (`fence` fails, `holds` stays), until
//! [`Node::commit`] gives 0, and only then the slot is frozen (`holds` pauses, [`Node::freeze`]). Calls under way are
//! finished by the former owner ([`Node::hand_over`]) for the new one ([`Node::foreign`]).

use crate::copy::{CopyChange, CopyEntry};
use crate::finish::{Calls, Finishing, Foreign, Outbox};
use crate::live::Live;
use crate::node::Node;
use enfilade_registry::{Fence, Slot, Term};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

impl Node {
    /// This node owns the slot now: sessions of which it holds a copy are taken up, so that their open calls end and
    /// the next second can be told of them. All others are taken up when they are used. To be called once
    /// [`crate::slots::Slots::fence`] gives the new term.
    pub fn adopt(&self, slot: Slot) {
        let Ok(fence) = self.slots.fence(slot) else { return };
        for record in self.registry.reader.sessions_of_slot(slot) {
            let Some(view) = self.views.iter().find(|view| *view.config.name == **record.server()) else { continue };
            let mut of_slot = self.lives.of(slot);
            if of_slot.get(&record.id).is_some_and(|live| live.gate.term() >= fence.term) {
                continue;
            }
            let Some(copy) = self.copies.restore(&record.id) else { continue };
            let live = self.take_up(&record, view, fence, Some(copy));
            let older = of_slot.insert(live);
            drop(of_slot);
            older.iter().for_each(|older| older.lose());
        }
    }

    /// This node does not own the slot any more, from `term` on: its sessions here end without another word, so that
    /// the new owner goes on with their upstream sessions and streams. To be called after [`crate::slots::Slots`] says
    /// so. Idempotent.
    pub fn release(&self, slot: Slot, term: Term) {
        self.part(slot, term).iter().for_each(|live| live.lose());
    }

    /// The slot stays this node's under a higher term (a move that was aborted): sessions, calls and streams go on. To
    /// be called before [`crate::slots::Slots::fence`] gives the new term, or the sessions are taken up anew.
    pub fn renew(&self, slot: Slot, term: Term) {
        for live in self.lives.of_slot(slot) {
            live.gate.renew(term);
        }
    }

    /// Gives `tell` everything that a copy which begins must know of the slot, in order with what is appended meanwhile.
    /// To be called once what is appended goes there, too: for a new second, the target of a move, or one of them that
    /// missed something and has forgotten the slot. `tell` must not block, nor call into the owner.
    pub fn tell_copy(&self, slot: Slot, tell: &dyn Fn(Fence, CopyEntry)) {
        for live in self.lives.of_slot(slot) {
            live.tell(&|change| live.gate.tell_copy(change, tell));
        }
    }

    /// Everything that another node must know of the slot's streams to go on with them, as of now: for a move, while
    /// the slot is frozen, and for this node's own book when it becomes the slot's second.
    #[must_use]
    pub fn snapshot(&self, slot: Slot) -> Vec<CopyEntry> {
        let entries = Mutex::new(Vec::new());
        for live in self.lives.of_slot(slot) {
            let note = |change: CopyChange| entries.lock().push(CopyEntry { session: live.id, change });
            live.tell(&note);
        }
        entries.into_inner()
    }

    /// Makes streams of the calls of this slot, whose new messages are refused, so that another node can go on with
    /// them. Gives how many of them cannot be handed over yet.
    pub fn commit(&self, slot: Slot) -> usize {
        self.lives.of_slot(slot).iter().map(|live| live.commit()).sum()
    }

    /// As [`Node::snapshot`], at the moment from which what calls say waits for [`Node::renew`] or [`Node::hand_over`].
    #[must_use]
    pub fn freeze(&self, slot: Slot) -> Vec<CopyEntry> {
        let entries = Mutex::new(Vec::new());
        for live in self.lives.of_slot(slot) {
            live.freeze(&|change: CopyChange| entries.lock().push(CopyEntry { session: live.id, change }));
        }
        entries.into_inner()
    }

    /// The slot, which was frozen, was moved to another node, whose `term` it is: readers of its streams end here, and
    /// calls under way are finished for the new owner. None without any. To be called before
    /// [`crate::slots::Slots`] says so.
    pub fn hand_over(&self, slot: Slot, term: Term) -> Option<Finishing> {
        let outbox = Arc::new(Outbox::default());
        let (mut busy, mut idle) = (HashMap::new(), Vec::new());
        // Held until they are noted there: whoever does not find a session here looks there.
        let mut finishing = self.finishing.lock();
        for live in self.part(slot, term) {
            live.leave(&outbox);
            if live.in_flight() == 0 {
                idle.push(live);
            } else {
                busy.insert(live.id, live);
            }
        }
        let calls = (!busy.is_empty() || !outbox.is_empty()).then(|| Calls::new(busy, outbox));
        if let Some(calls) = &calls {
            finishing.retain(|calls| calls.strong_count() > 0);
            finishing.push(Arc::downgrade(calls));
        }
        drop(finishing);
        idle.iter().for_each(|live| live.lose());
        calls.map(Finishing::new)
    }

    /// The former owner of a slot begins to say what becomes of the calls that came with it. Nothing where this node
    /// does not serve the slot under this fence.
    pub fn foreign(self: &Arc<Self>, fence: Fence) -> Option<Foreign> {
        if self.slots.fence(fence.slot) != Ok(fence) {
            return None;
        }
        self.adopt(fence.slot);
        Some(Foreign::begin(self.backs.of(fence), self.clone()))
    }

    /// Sessions of a slot that were taken up before `term`.
    fn part(&self, slot: Slot, term: Term) -> Vec<Arc<Live>> {
        self.lives.of(slot).part(|live| live.gate.term() < term)
    }

    /// Calls of clients of this slot that have not ended yet.
    #[must_use]
    pub fn in_flight_of(&self, slot: Slot) -> usize {
        self.lives.of_slot(slot).iter().map(|live| live.in_flight()).sum()
    }
}
