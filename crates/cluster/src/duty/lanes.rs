//! The copies that this node fills as an owner: to the second of each slot, and to the target of a move.
//!
//! [`CopySender`] decides what is sent and what may leave; here it gets its entries, its clock and its way. Whoever
//! waits for a copy is told after the slot's lock is free.

use super::inbox::{Happened, Inbox};
use super::waiting::Waiting;
use super::wires::Wires;
use crate::clock::Clock;
use crate::wire::Word;
use bytes::Bytes;
use enfilade_registry::copy::{CopyAnswer, CopySender, Lane, Step};
use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Fence, Run, SLOTS, SessionId, Slot, Term};
use enfilade_session::copy::{Confirm, CopyChange, CopyEntry};
use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// All of them.
pub(crate) struct Lanes {
    clock: Clock,
    copy_ms: u64,
    wires: Arc<Wires>,
    inbox: Arc<Inbox>,
    slots: Box<[Mutex<OfSlot>]>,
    pub(super) waiting: Waiting,
}

/// Those of one slot.
#[derive(Default)]
struct OfSlot {
    /// Entries of these terms are taken, from the one in which the slot was got to the present one.
    terms: Option<(Term, Term)>,
    second: Option<Filling>,
    moving: Option<Filling>,
    /// The copy that is being told all there is: until then it is not complete.
    telling: Option<Lane>,
    /// What its other side answered meanwhile.
    answers: Vec<CopyAnswer>,
}

struct Filling {
    sender: CopySender<Bytes, Pending>,
    /// Of all entries since it began: what the other side must have.
    digest: Sha256,
}

/// Who waits for an entry: until one copy has it, or two.
enum Pending {
    One(Confirm),
    Two(Arc<Mutex<Option<Confirm>>>),
}

impl Pending {
    fn confirm(self) {
        match self {
            Self::One(confirm) => confirm.confirm(),
            // The last of the two confirms.
            Self::Two(confirm) => {
                if let Some(confirm) = Arc::into_inner(confirm).and_then(Mutex::into_inner) {
                    confirm.confirm();
                }
            }
        }
    }
}

impl Lanes {
    pub(crate) fn new(clock: Clock, copy_ms: u64, wires: Arc<Wires>, inbox: Arc<Inbox>) -> Self {
        let slots = (0..SLOTS).map(|_| Mutex::default()).collect();
        Self { clock, copy_ms, wires, inbox, slots, waiting: Waiting::default() }
    }

    fn lock(&self, slot: Slot) -> Locked<'_> {
        Locked { slot, of_slot: self.slots[usize::from(slot.get())].lock(), waiting: &self.waiting }
    }

    /// This node owns the slot from this term on.
    pub(crate) fn own(&self, fence: Fence) {
        let before = std::mem::replace(
            &mut *self.lock(fence.slot),
            OfSlot { terms: Some((fence.term, fence.term)), ..OfSlot::default() },
        );
        drop(before);
    }

    /// It still does, in a higher term.
    pub(crate) fn renew(&self, fence: Fence) {
        let mut of_slot = self.lock(fence.slot);
        if let Some((_, high)) = &mut of_slot.terms {
            *high = fence.term;
        }
        if let Some(filling) = &mut of_slot.second {
            filling.sender.renew(fence.term);
        }
    }

    /// It does not any more. What waited never leaves.
    pub(crate) fn disown(&self, slot: Slot) {
        let before = std::mem::take(&mut *self.lock(slot));
        drop(before);
    }

    /// Begins a copy, in place of another of its kind. Then everything is to be told, and [`Lanes::told`].
    pub(crate) fn begin(&self, fence: Fence, lane: Lane, to: Run) {
        let now_ms = (self.clock)();
        self.change(fence.slot, |of_slot| {
            of_slot.telling = Some(lane);
            let (sender, step) = CopySender::begin(now_ms, self.copy_ms, fence, lane, to, std::iter::empty());
            let before = of_slot.place(lane).replace(Filling { sender, digest: Sha256::new() });
            (to, lane, step, before)
        });
    }

    /// The other side has everything already.
    pub(crate) fn adopt(&self, fence: Fence, lane: Lane, to: Run) {
        let now_ms = (self.clock)();
        self.change(fence.slot, |of_slot| {
            let sender = CopySender::adopted(now_ms, self.copy_ms, fence, lane, to);
            let before = of_slot.place(lane).replace(Filling { sender, digest: Sha256::new() });
            (to, lane, no_step(), before)
        });
    }

    /// Begins the same copy anew. Then everything is to be told, and [`Lanes::told`]; false when there is none.
    pub(crate) fn restart(&self, slot: Slot, lane: Lane) -> bool {
        let now_ms = (self.clock)();
        let confirmed = {
            let mut of_slot = self.lock(slot);
            let Some(filling) = of_slot.filling(lane) else { return false };
            filling.digest = Sha256::new();
            let (to, step) = (filling.sender.to(), filling.sender.restart(now_ms, std::iter::empty()));
            of_slot.telling = Some(lane);
            self.carry(slot, to, lane, step)
        };
        confirmed.into_iter().for_each(Pending::confirm);
        true
    }

    /// Tells one copy, which was begun, something of what there is. The others have it.
    pub(crate) fn tell(&self, fence: Fence, lane: Lane, entry: &CopyEntry) {
        let (slot, now_ms, bytes) = (fence.slot, (self.clock)(), entry.encode());
        let confirmed = {
            let mut of_slot = self.lock(slot);
            let takes = of_slot.takes(fence);
            let Some(filling) = of_slot.filling(lane).filter(|_| takes) else { return };
            filling.add(&bytes);
            let (to, step) = (filling.sender.to(), filling.sender.tell(now_ms, bytes));
            self.carry(slot, to, lane, step)
        };
        confirmed.into_iter().for_each(Pending::confirm);
    }

    /// Everything was told: what follows is new.
    pub(crate) fn told(&self, slot: Slot) {
        let answers = {
            let mut of_slot = self.lock(slot);
            of_slot.telling = None;
            std::mem::take(&mut of_slot.answers)
        };
        answers.into_iter().for_each(|answer| self.answered(answer));
    }

    /// There is no such copy any more: nothing waits for it.
    pub(crate) fn end(&self, slot: Slot, lane: Lane) {
        let ended = {
            let mut of_slot = self.lock(slot);
            let place = of_slot.place(lane);
            place.take_if(|filling| filling.sender.lane() == lane)
        };
        alone(ended);
    }

    /// Nothing follows; the digest that the other side must have.
    pub(crate) fn seal(&self, slot: Slot, lane: Lane) -> Option<[u8; 32]> {
        let now_ms = (self.clock)();
        let (digest, confirmed) = {
            let mut of_slot = self.lock(slot);
            let filling = of_slot.filling(lane)?;
            let digest = filling.digest.clone().finalize().into();
            let (to, step) = (filling.sender.to(), filling.sender.seal(now_ms, digest));
            (digest, self.carry(slot, to, lane, step))
        };
        confirmed.into_iter().for_each(Pending::confirm);
        Some(digest)
    }

    /// The other side of a copy answered.
    pub(crate) fn answered(&self, answer: CopyAnswer) {
        let (slot, now_ms) = (answer.fence.slot, (self.clock)());
        let confirmed = {
            // One lock for both: an old answer must not count for a copy that is begun again in between.
            let mut of_slot = self.lock(slot);
            if of_slot.telling == Some(answer.lane) {
                of_slot.answers.push(answer);
                return;
            }
            let Some(filling) = of_slot.filling(answer.lane) else { return };
            let (to, step) = (filling.sender.to(), filling.sender.answered(now_ms, answer));
            self.carry(slot, to, answer.lane, step)
        };
        confirmed.into_iter().for_each(Pending::confirm);
    }

    /// A new entry of a slot's logs.
    pub(crate) fn append(&self, fence: Fence, entry: &CopyEntry, confirm: Confirm) {
        let now_ms = (self.clock)();
        let mut carried = Vec::new();
        {
            let mut of_slot = self.lock(fence.slot);
            if !of_slot.takes(fence) {
                return;
            }
            let OfSlot { second, moving, .. } = &mut *of_slot;
            let (first, other) = match (second.as_mut(), moving.as_mut()) {
                (None, None) => {
                    drop(of_slot);
                    return confirm.confirm();
                }
                (Some(one), other) => (one, other),
                (None, Some(one)) => (one, None),
            };
            let bytes = entry.encode();
            let pendings = match other {
                None => (Pending::One(confirm), None),
                Some(other) => {
                    let both = Arc::new(Mutex::new(Some(confirm)));
                    (Pending::Two(both.clone()), Some((other, Pending::Two(both))))
                }
            };
            carried.push(self.push(first, now_ms, fence.slot, bytes.clone(), pendings.0));
            if let Some((other, pending)) = pendings.1 {
                carried.push(self.push(other, now_ms, fence.slot, bytes, pending));
            }
        }
        carried.into_iter().flatten().for_each(Pending::confirm);
    }

    /// A session of this node's slots has ended: a copy that was told of it after its holder had heard that would keep it.
    pub(crate) fn ended(&self, session: SessionId) {
        let slot = session.slot();
        let terms = self.lock(slot).terms;
        if let Some((_, term)) = terms {
            let entry = CopyEntry { session, change: CopyChange::End };
            self.append(Fence { slot, term }, &entry, Confirm::nobody());
        }
    }

    fn push(&self, to: &mut Filling, now_ms: u64, slot: Slot, bytes: Bytes, pending: Pending) -> Vec<Pending> {
        to.add(&bytes);
        let step = to.sender.push(now_ms, bytes, pending);
        self.carry(slot, to.sender.to(), to.sender.lane(), step)
    }

    /// Time passed: it matters to copies that wait, and to no others.
    pub(crate) fn tick(&self) {
        let now_ms = (self.clock)();
        for slot in self.waiting.slots() {
            let mut confirmed = Vec::new();
            {
                let mut of_slot = self.lock(slot);
                let OfSlot { second, moving, .. } = &mut *of_slot;
                for filling in [second, moving].into_iter().flatten() {
                    let step = filling.sender.tick(now_ms);
                    confirmed.extend(self.carry(slot, filling.sender.to(), filling.sender.lane(), step));
                }
            }
            confirmed.into_iter().for_each(Pending::confirm);
        }
    }

    fn change(
        &self,
        slot: Slot,
        change: impl FnOnce(&mut OfSlot) -> (Run, Lane, Step<Bytes, Pending>, Option<Filling>),
    ) {
        let (confirmed, before) = {
            let mut of_slot = self.lock(slot);
            let (to, lane, step, before) = change(&mut of_slot);
            (self.carry(slot, to, lane, step), before)
        };
        confirmed.into_iter().for_each(Pending::confirm);
        alone(before);
    }

    /// Does what a step says, under the slot's lock so that nothing overtakes; gives what is to be confirmed without it.
    fn carry(&self, slot: Slot, to: Run, lane: Lane, step: Step<Bytes, Pending>) -> Vec<Pending> {
        step.send.into_iter().for_each(|message| self.wires.say(to.node, Word::Copy(message)));
        if step.caught_up {
            self.inbox.put(slot, Happened::Duty(DutyEvent::CaughtUp(lane)));
        }
        if step.given_up {
            self.inbox.put(slot, Happened::Duty(DutyEvent::GivenUp(lane)));
        }
        if step.overflow {
            self.inbox.put(slot, Happened::Overflow(lane));
        }
        step.confirmed
    }
}

/// The copies of a slot, for as long as nobody else may touch them. Whether they wait is noted as they are let go of, so
/// that nothing that changes them can forget to.
struct Locked<'a> {
    slot: Slot,
    of_slot: MutexGuard<'a, OfSlot>,
    waiting: &'a Waiting,
}

impl Deref for Locked<'_> {
    type Target = OfSlot;

    fn deref(&self) -> &OfSlot {
        &self.of_slot
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut OfSlot {
        &mut self.of_slot
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.waiting.note(self.slot, self.of_slot.waits());
    }
}

impl OfSlot {
    fn waits(&self) -> bool {
        [&self.second, &self.moving].into_iter().flatten().any(|filling| filling.sender.waits())
    }

    /// Whether what is said under this fence is of this ownership.
    fn takes(&self, fence: Fence) -> bool {
        self.terms.is_some_and(|(low, high)| low <= fence.term && fence.term <= high)
    }

    fn filling(&mut self, lane: Lane) -> Option<&mut Filling> {
        self.place(lane).as_mut().filter(|filling| filling.sender.lane() == lane)
    }

    fn place(&mut self, lane: Lane) -> &mut Option<Filling> {
        match lane {
            Lane::Second(_) => &mut self.second,
            Lane::Move(_) => &mut self.moving,
        }
    }
}

impl Filling {
    fn add(&mut self, entry: &[u8]) {
        add(&mut self.digest, entry);
    }
}

/// Both sides of a copy make their digests of its entries by this.
pub(super) fn add(digest: &mut Sha256, entry: &[u8]) {
    digest.update((entry.len() as u64).to_be_bytes());
    digest.update(entry);
}

/// Whoever waited for a copy that is no more.
fn alone(ended: Option<Filling>) {
    ended.into_iter().flat_map(|filling| filling.sender.alone()).for_each(Pending::confirm);
}

fn no_step() -> Step<Bytes, Pending> {
    Step { send: Vec::new(), confirmed: Vec::new(), caught_up: false, given_up: false, overflow: false }
}
