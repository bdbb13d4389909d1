//! The copies that this node holds: as the second of slots, as the target of moves, and what it inherited of them when
//! it became their owner.

use super::lanes;
use bytes::Bytes;
use enfilade_registry::copy::{CopyAnswer, CopyMessage, CopyPart, CopyReceiver, Lane};
use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Origin, SLOTS, SessionId, SessionKeys, Slot, Term};
use enfilade_session::copy::{Book, CopyEntry, SessionCopy};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// All of them.
pub(crate) struct Held {
    keys: Arc<SessionKeys>,
    slots: Box<[Mutex<OfSlot>]>,
}

struct OfSlot {
    second: Part,
    target: Part,
    /// What sessions that nobody has taken up yet go on with.
    inherited: Book,
    /// It came with a planned move: the former owner finishes calls of it.
    moved: bool,
    /// What this node had when it handed the slot over: its copy, unless it is told a later one.
    kept: Book,
}

struct Part {
    receiver: CopyReceiver,
    book: Book,
    /// Of all entries since it began.
    digest: Sha256,
}

impl Part {
    fn new(slot: Slot) -> Self {
        Self { receiver: CopyReceiver::new(slot), book: Book::default(), digest: Sha256::new() }
    }

    fn clear(&mut self) -> Book {
        if let Some(lane) = self.receiver.lane() {
            self.receiver.forget(lane);
        }
        self.digest = Sha256::new();
        std::mem::take(&mut self.book)
    }

    fn entry(&mut self, bytes: Bytes, keys: &SessionKeys) {
        lanes::add(&mut self.digest, &bytes);
        match CopyEntry::decode(bytes, keys) {
            Ok(entry) => self.book.apply(entry),
            Err(error) => tracing::error!(%error, "an entry of a copy is left out"),
        }
    }
}

impl Held {
    pub(crate) fn new(keys: Arc<SessionKeys>) -> Self {
        let of_slot = |slot| OfSlot {
            second: Part::new(slot),
            target: Part::new(slot),
            inherited: Book::default(),
            moved: false,
            kept: Book::default(),
        };
        let slots: Box<[_]> = Slot::all().map(|slot| Mutex::new(of_slot(slot))).collect();
        debug_assert_eq!(slots.len(), usize::from(SLOTS));
        Self { keys, slots }
    }

    fn of(&self, slot: Slot) -> &Mutex<OfSlot> {
        &self.slots[usize::from(slot.get())]
    }

    /// Takes a part of a copy in; gives the answer, and what else it means.
    pub(crate) fn receive(&self, message: CopyMessage<Bytes>) -> (CopyAnswer, Option<DutyEvent>) {
        let mut of_slot = self.of(message.fence.slot).lock();
        let (part, id) = match message.lane {
            Lane::Second(_) => (&mut of_slot.second, None),
            Lane::Move(id) => (&mut of_slot.target, Some(id)),
        };
        let is_seal = matches!(message.part, CopyPart::Sealed(_));
        let received = part.receiver.receive(message);
        if received.reset {
            part.book = Book::default();
            part.digest = Sha256::new();
        }
        if let Some(entry) = received.entry {
            part.entry(entry, &self.keys);
        }
        let done = id.filter(|_| is_seal && received.sealed.is_some());
        let event = done.map(|id| DutyEvent::Received { id, digest: part.digest.clone().finalize().into() });
        (received.answer, event)
    }

    /// The slot's term is at least this.
    pub(crate) fn learned(&self, slot: Slot, term: Term) {
        let mut of_slot = self.of(slot).lock();
        of_slot.second.receiver.learned(term);
        of_slot.target.receiver.learned(term);
    }

    /// This node owns the slot now, and goes on from what its origin says. False when that is not here.
    pub(crate) fn inherit(&self, slot: Slot, origin: Origin) -> bool {
        let mut of_slot = self.of(slot).lock();
        let complete = match origin {
            Origin::Assigned | Origin::Gap => None,
            Origin::Copy(copy) => Some(of_slot.second.receiver.is_complete(Lane::Second(copy))),
            Origin::Move(id) => Some(of_slot.target.receiver.lane() == Some(Lane::Move(id))),
        };
        let (second, target) = (of_slot.second.clear(), of_slot.target.clear());
        of_slot.kept = Book::default();
        of_slot.moved = matches!(origin, Origin::Move(_));
        of_slot.inherited = match (complete, origin) {
            (Some(true), Origin::Copy(_)) => second,
            (Some(true), Origin::Move(_)) => target,
            _ => Book::default(),
        };
        complete != Some(false)
    }

    /// This node has been the owner until now; what it had of the slot may become its copy.
    pub(crate) fn keep(&self, slot: Slot, entries: Vec<CopyEntry>) {
        let mut of_slot = self.of(slot).lock();
        of_slot.kept = Book::default();
        entries.into_iter().for_each(|entry| of_slot.kept.apply(entry));
    }

    /// What was kept is the copy `lane`, complete; unless a later one is here.
    pub(crate) fn adopt(&self, slot: Slot, lane: Lane, term: Term) {
        let mut of_slot = self.of(slot).lock();
        let kept = std::mem::take(&mut of_slot.kept);
        if of_slot.second.receiver.adopt(term, lane) {
            of_slot.second.book = kept;
        }
    }

    /// Nothing is held of this copy any more, nor of earlier ones.
    pub(crate) fn forget(&self, slot: Slot, lane: Lane) {
        let mut of_slot = self.of(slot).lock();
        let part = match lane {
            Lane::Second(_) => &mut of_slot.second,
            Lane::Move(_) => &mut of_slot.target,
        };
        if part.receiver.forget(lane) {
            part.clear();
        }
    }

    /// Another node owns the slot: what was inherited is its matter.
    pub(crate) fn disinherit(&self, slot: Slot) {
        self.of(slot).lock().inherited = Book::default();
    }

    /// What a session goes on with; once.
    pub(crate) fn restore(&self, session: &SessionId) -> Option<SessionCopy> {
        let mut of_slot = self.of(session.slot()).lock();
        let copy = of_slot.inherited.session(session)?;
        of_slot.inherited.forget(session);
        Some(if of_slot.moved { copy.moved() } else { copy })
    }

    /// Tells what was inherited and nobody has taken up yet. Whoever takes a session up waits until all of it is told: what
    /// it says of it then comes after.
    pub(crate) fn tell_leftover(&self, slot: Slot, tell: impl Fn(CopyEntry)) {
        let sessions: Vec<SessionId> = self.of(slot).lock().inherited.sessions(slot).collect();
        for session in sessions {
            let of_slot = self.of(slot).lock();
            let copy = of_slot.inherited.session(&session);
            let changes = copy.iter().flat_map(SessionCopy::changes);
            changes.for_each(|change| tell(CopyEntry { session, change }));
        }
    }

    /// The same, collected.
    pub(crate) fn leftover(&self, slot: Slot) -> Vec<CopyEntry> {
        let entries = Mutex::new(Vec::new());
        self.tell_leftover(slot, |entry| entries.lock().push(entry));
        entries.into_inner()
    }

    /// Whether something of a session is held as its slot's second.
    #[cfg(test)]
    pub(super) fn holds(&self, session: &SessionId) -> bool {
        self.of(session.slot()).lock().second.book.session(session).is_some()
    }

    /// A session has ended. True when it was inherited and nobody had taken it up.
    pub(crate) fn ended(&self, session: &SessionId) -> bool {
        let mut of_slot = self.of(session.slot()).lock();
        let OfSlot { second, target, inherited, kept, .. } = &mut *of_slot;
        for book in [&mut second.book, &mut target.book, kept] {
            book.forget(session);
        }
        inherited.forget(session)
    }
}
