//! The slots of this node: which it owns, in which term, and whether it may act for them now.
//!
//! Rule: what is asked before every effect costs two loads and the clock. A lease that has run out is seen at once,
//! because its end is compared with the clock and nobody has to notice it first.

use crate::clock::Clock;
use enfilade_registry::{Fence, NotServed, SLOTS, Slot, SlotTable, Term};
use enfilade_session::slots::{Held, Slots};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch;

/// What this node is to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing that matters here.
    Other = 0,
    /// Its owner, not ready yet.
    Loading = 1,
    /// Its owner.
    Serving = 2,
    /// Its owner, which begins nothing new; what is under way goes on.
    Closed = 3,
    /// Its owner, which waits for the end of a move.
    Frozen = 4,
}

/// Term and state in one word, so that both are read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(term: Term, state: State) -> Self {
        Self(term.0 << 3 | state as u64)
    }

    fn term(self) -> Term {
        Term(self.0 >> 3)
    }

    fn state(self) -> State {
        match self.0 & 7 {
            1 => State::Loading,
            2 => State::Serving,
            3 => State::Closed,
            4 => State::Frozen,
            _ => State::Other,
        }
    }
}

/// See the module.
pub(crate) struct OwnSlots {
    clock: Clock,
    words: Box<[AtomicU64]>,
    /// Until when this node may act; 0 when it may not.
    until_ms: AtomicU64,
    /// The end of the last lease, for ever; 0 as long as there was none.
    last_ms: AtomicU64,
    changed: watch::Sender<u64>,
    /// Slots for new sessions.
    fresh: RwLock<Vec<Slot>>,
    next: AtomicUsize,
    /// Something changed since [`OwnSlots::settle`].
    unsettled: AtomicBool,
    /// The version of the table that slots for new sessions were chosen from.
    settled: AtomicU64,
}

impl OwnSlots {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            words: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            until_ms: AtomicU64::new(0),
            last_ms: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            fresh: RwLock::default(),
            next: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
            settled: AtomicU64::new(0),
        }
    }

    fn word(&self, slot: Slot) -> Word {
        Word(self.words[usize::from(slot.get())].load(Ordering::Acquire))
    }

    /// What this node is to the slot from now on, in this term. [`OwnSlots::settle`] follows.
    pub(crate) fn set(&self, fence: Fence, state: State) {
        let word = Word::new(fence.term, state).0;
        self.words[usize::from(fence.slot.get())].store(word, Ordering::Release);
        self.unsettled.store(true, Ordering::Release);
    }

    /// As [`OwnSlots::set`], if term and state still are as expected.
    pub(crate) fn change(&self, fence: Fence, from: State, to: State) {
        let (from, to) = (Word::new(fence.term, from).0, Word::new(fence.term, to).0);
        let word = &self.words[usize::from(fence.slot.get())];
        if word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.unsettled.store(true, Ordering::Release);
        }
    }

    /// True while the lease lasts.
    pub(crate) fn has_lease(&self) -> bool {
        (self.clock)() < self.until_ms.load(Ordering::Acquire)
    }

    /// How long the lease lasts, in ms.
    pub(crate) fn lease_left_ms(&self) -> u64 {
        self.until_ms.load(Ordering::Acquire).saturating_sub((self.clock)())
    }

    /// How long this node has been without a lease, in ms; for ever, if it never had one.
    pub(crate) fn alone_ms(&self) -> u64 {
        match self.last_ms.load(Ordering::Acquire) {
            0 => u64::MAX,
            last_ms => (self.clock)().saturating_sub(last_ms),
        }
    }

    /// The lease now lasts until then; 0 is no lease. Everybody who waits hears of one that comes back.
    pub(crate) fn set_lease(&self, until_ms: u64) {
        let had = self.has_lease();
        self.until_ms.store(until_ms, Ordering::Release);
        self.last_ms.fetch_max(until_ms, Ordering::AcqRel);
        if had != self.has_lease() {
            self.announce();
        }
    }

    /// Everybody who waits hears of what changed. Slots that do not move take new sessions.
    pub(crate) fn settle(&self, table: &SlotTable) {
        let changed = self.unsettled.swap(false, Ordering::AcqRel);
        if changed {
            self.announce();
        }
        // Moves show in the table alone.
        if self.settled.swap(table.version(), Ordering::AcqRel) == table.version() && !changed {
            return;
        }
        let serving = |slot: Slot| self.word(slot).state() == State::Serving;
        let fresh = table.iter().filter(|(slot, record)| record.moving.is_none() && serving(*slot));
        let fresh: Vec<Slot> = fresh.map(|(slot, _)| slot).collect();
        if *self.fresh.read() != fresh {
            *self.fresh.write() = fresh;
        }
    }

    fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether this node owns the slot, as far as it knows.
    pub(crate) fn is_owned(&self, slot: Slot) -> bool {
        self.word(slot).state() != State::Other
    }

    /// The fence of a slot that this node owns, whatever it may do.
    #[cfg(test)]
    pub(crate) fn owned(&self, slot: Slot) -> Option<Fence> {
        let word = self.word(slot);
        (word.state() != State::Other).then_some(Fence { slot, term: word.term() })
    }

    /// How many slots are owned, and how many of them serve.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let states = || Slot::all().map(|slot| self.word(slot).state());
        (states().filter(|s| *s != State::Other).count(), states().filter(|s| *s == State::Serving).count())
    }
}

impl Slots for OwnSlots {
    fn fence(&self, slot: Slot) -> Result<Fence, NotServed> {
        let word = self.word(slot);
        match word.state() {
            State::Other => Err(NotServed::NotOwner),
            State::Serving if self.has_lease() => Ok(Fence { slot, term: word.term() }),
            State::Loading | State::Closed | State::Frozen | State::Serving => Err(NotServed::NotReady),
        }
    }

    fn holds(&self, fence: Fence) -> Held {
        let word = self.word(fence.slot);
        match word.state() {
            _ if word.term() < fence.term => Held::Paused,
            _ if word.term() > fence.term => Held::Gone,
            State::Other => Held::Gone,
            State::Serving | State::Closed if self.has_lease() => Held::Yes,
            State::Loading | State::Closed | State::Frozen | State::Serving => Held::Paused,
        }
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn mint(&self) -> Result<Slot, NotServed> {
        if !self.has_lease() {
            return Err(NotServed::NotReady);
        }
        let fresh = self.fresh.read();
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        fresh.get(at % fresh.len().max(1)).copied().ok_or(NotServed::NotReady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn own(now_ms: u64) -> (OwnSlots, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(now_ms));
        let clock = time.clone();
        (OwnSlots::new(Arc::new(move || clock.load(Ordering::Relaxed))), time)
    }

    fn fence(term: u64) -> Fence {
        Fence { slot: Slot::new(5).expect("a slot"), term: Term(term) }
    }

    #[test]
    fn a_slot_serves_once_it_is_loaded_and_as_long_as_the_lease_lasts() {
        let (own, time) = own(1000);
        let (slot, table) = (fence(1).slot, SlotTable::default());
        assert_eq!((own.fence(slot), own.holds(fence(1))), (Err(NotServed::NotOwner), Held::Paused), "not seen yet");
        own.set(fence(1), State::Loading);
        assert_eq!(own.fence(slot), Err(NotServed::NotReady));
        own.set(fence(1), State::Serving);
        own.settle(&table);
        assert_eq!((own.fence(slot), own.mint()), (Err(NotServed::NotReady), Err(NotServed::NotReady)), "no lease");
        assert_eq!(own.alone_ms(), u64::MAX);
        own.set_lease(2000);
        assert_eq!((own.fence(slot), own.holds(fence(1)), own.mint()), (Ok(fence(1)), Held::Yes, Ok(slot)));
        time.store(2000, Ordering::Relaxed);
        assert_eq!((own.holds(fence(1)), own.fence(slot)), (Held::Paused, Err(NotServed::NotReady)), "run out");
        assert_eq!(own.mint(), Err(NotServed::NotReady));
        own.set_lease(0);
        time.store(2700, Ordering::Relaxed);
        assert_eq!(own.alone_ms(), 700);
        own.set_lease(4000);
        assert_eq!(own.alone_ms(), 0);
        assert_eq!(own.holds(fence(1)), Held::Yes, "a pause, no loss");
        own.set(fence(2), State::Other);
        own.settle(&table);
        let gone = (Held::Gone, Err(NotServed::NotOwner), Err(NotServed::NotReady));
        assert_eq!((own.holds(fence(1)), own.fence(slot), own.mint()), gone);
    }

    #[test]
    fn a_closed_slot_begins_nothing_and_a_frozen_one_says_nothing() {
        let (own, _) = own(0);
        own.set_lease(1000);
        own.set(fence(3), State::Serving);
        own.change(fence(2), State::Serving, State::Closed);
        assert_eq!(own.fence(fence(3).slot), Ok(fence(3)), "another term was meant");
        own.change(fence(3), State::Serving, State::Closed);
        assert_eq!((own.fence(fence(3).slot), own.holds(fence(3))), (Err(NotServed::NotReady), Held::Yes));
        own.change(fence(3), State::Closed, State::Frozen);
        assert_eq!((own.fence(fence(3).slot), own.holds(fence(3))), (Err(NotServed::NotReady), Held::Paused));
        own.set(fence(4), State::Serving);
        assert_eq!((own.holds(fence(3)), own.holds(fence(4)), own.counts()), (Held::Gone, Held::Yes, (1, 1)));
    }

    #[test]
    fn who_waits_hears_of_every_change_and_of_a_lease_that_comes_back() {
        let (own, time) = own(0);
        let mut changed = own.changed();
        own.set(fence(1), State::Serving);
        own.settle(&SlotTable::default());
        assert!(changed.has_changed().expect("alive"));
        changed.mark_unchanged();
        own.settle(&SlotTable::default());
        assert!(!changed.has_changed().expect("alive"), "nothing changed");
        own.set_lease(1000);
        assert!(changed.has_changed().expect("alive"));
        changed.mark_unchanged();
        own.set_lease(1500);
        assert!(!changed.has_changed().expect("alive"), "it only lasts longer");
        time.store(1500, Ordering::Relaxed);
        own.set_lease(2500);
        assert!(changed.has_changed().expect("alive"), "it is back");
    }
}
