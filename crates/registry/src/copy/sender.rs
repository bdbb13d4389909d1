//! The owner's side of a copy: fills it, keeps it in step, and says what may leave.
//! Invariant: once it said that the copy is caught up, nothing is released that the copy has not acknowledged.

use std::collections::VecDeque;

use super::{CopyAnswer, CopyMessage, CopyPart, CopySaid, Lane};
use crate::{Fence, Run, Term};

/// Most parts on the way without an acknowledgement, besides those that a copy is begun with.
const UNACKNOWLEDGED_MAX: usize = 16 * 1024;

/// Parts that are sent at once, as a copy begins and after a loss. The others follow as these are acknowledged.
const WINDOW_MIN: usize = 64;

/// Most parts on the way while they follow. 64 slots may move at a time, and a node's queue has 16 × 1024 places.
const WINDOW_MAX: usize = 256;

/// A part that is missing is sent again at once, and then after this time at the earliest.
const AGAIN_MS: u64 = 10;

/// What to do after an event. `C` is what the caller keeps to let an entry's bytes leave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Step<E, C> {
    /// To be sent to the copy, in order.
    pub send: Vec<CopyMessage<E>>,
    /// May leave now, in order.
    pub confirmed: Vec<C>,
    /// The copy has everything, and from now on nothing leaves before it does: propose `InSync`, or freeze.
    pub caught_up: bool,
    /// The copy does not answer: propose that it is not in sync. Nothing leaves until that is applied.
    pub given_up: bool,
    /// Too much is on the way to a copy that is being filled: begin again with [`CopySender::restart`].
    pub overflow: bool,
}

impl<E, C> Step<E, C> {
    fn new() -> Step<E, C> {
        Step { send: Vec::new(), confirmed: Vec::new(), caught_up: false, given_up: false, overflow: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What leaves does not wait.
    Filling,
    /// `Complete` is on its way, as number `n`; everything after it waits.
    Closing { n: u64, since_ms: u64 },
    /// Everything waits for the copy.
    InStep,
    /// As before, and the copy did not answer in time.
    GivenUp,
    /// Too much was on the way.
    Overflown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting<E, C> {
    n: u64,
    pushed_ms: u64,
    part: CopyPart<E>,
    confirm: Option<C>,
}

/// One copy of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySender<E, C> {
    fence: Fence,
    lane: Lane,
    to: Run,
    copy_ms: u64,
    phase: Phase,
    next: u64,
    /// Not acknowledged yet, in order.
    waiting: VecDeque<Waiting<E, C>>,
    waiting_max: usize,
    /// How many of them are on the way, from the first.
    sent: usize,
    /// How many may be, where not all are. It grows with what is acknowledged.
    window: usize,
    sent_ms: u64,
    /// The part that was said to be missing last.
    missing: u64,
}

impl<E: Clone, C> CopySender<E, C> {
    /// Begins to fill a copy with what there is. `copy_ms`: how long anything waits for the copy's answer.
    pub fn begin(
        now_ms: u64,
        copy_ms: u64,
        fence: Fence,
        lane: Lane,
        to: Run,
        all: impl IntoIterator<Item = E>,
    ) -> (CopySender<E, C>, Step<E, C>) {
        let mut sender = CopySender::adopted(now_ms, copy_ms, fence, lane, to);
        let step = sender.restart(now_ms, all);
        (sender, step)
    }

    /// The copy has everything already: this owner got the slot from it by a move.
    pub fn adopted(now_ms: u64, copy_ms: u64, fence: Fence, lane: Lane, to: Run) -> CopySender<E, C> {
        let (phase, waiting) = (Phase::InStep, VecDeque::new());
        let waiting_max = UNACKNOWLEDGED_MAX;
        let (sent, window, sent_ms, missing) = (0, WINDOW_MIN, now_ms, 0);
        CopySender { fence, lane, to, copy_ms, phase, next: 1, waiting, waiting_max, sent, window, sent_ms, missing }
    }

    /// Fills the copy again from its beginning, with what there is.
    pub fn restart(&mut self, now_ms: u64, all: impl IntoIterator<Item = E>) -> Step<E, C> {
        let mut step = Step::new();
        self.release(&mut step);
        self.clear();
        self.phase = Phase::Filling;
        self.put(now_ms, CopyPart::Begin, None, &mut step);
        for entry in all {
            self.put(now_ms, CopyPart::Entry(entry), None, &mut step);
        }
        self.waiting_max = UNACKNOWLEDGED_MAX + self.waiting.len();
        step
    }

    /// An entry of what there is, where that is told after the copy was begun: like what it is begun with, it does not
    /// count to what may be on the way.
    pub fn tell(&mut self, now_ms: u64, entry: E) -> Step<E, C> {
        let mut step = Step::new();
        if self.phase != Phase::Overflown {
            self.waiting_max += 1;
            self.put(now_ms, CopyPart::Entry(entry), None, &mut step);
        }
        step
    }

    /// A new entry of the slot's logs. `confirm` comes back when its bytes may leave.
    pub fn push(&mut self, now_ms: u64, entry: E, confirm: C) -> Step<E, C> {
        let mut step = Step::new();
        match self.phase {
            Phase::Overflown => step.confirmed.push(confirm),
            Phase::Filling => {
                step.confirmed.push(confirm);
                self.put(now_ms, CopyPart::Entry(entry), None, &mut step);
            }
            Phase::Closing { .. } | Phase::InStep | Phase::GivenUp => {
                self.put(now_ms, CopyPart::Entry(entry), Some(confirm), &mut step);
            }
        }
        self.bound(&mut step);
        step
    }

    /// Nothing follows: the slot is frozen, and the copy must have this digest.
    pub fn seal(&mut self, now_ms: u64, digest: [u8; 32]) -> Step<E, C> {
        let mut step = Step::new();
        self.put(now_ms, CopyPart::Sealed(digest), None, &mut step);
        step
    }

    /// The copy answered.
    pub fn answered(&mut self, now_ms: u64, answer: CopyAnswer) -> Step<E, C> {
        let mut step = Step::new();
        if answer.lane != self.lane || answer.fence.slot != self.fence.slot {
            return step;
        }
        match answer.said {
            CopySaid::Upto(n) => self.acknowledged(now_ms, n, &mut step),
            CopySaid::Missing(n) => {
                self.acknowledged(now_ms, n.saturating_sub(1), &mut step);
                // Whatever comes behind a gap says so, and much of it after the gap was closed.
                let is_news = self.missing != n || now_ms.saturating_sub(self.sent_ms) >= AGAIN_MS;
                if is_news && self.waiting.front().is_some_and(|first| first.n == n) {
                    self.missing = n;
                    self.again(now_ms, &mut step);
                }
            }
            // It has not heard of the lane yet, or knows better: the next tick, or the registry, will tell.
            CopySaid::Nothing | CopySaid::Stale => {}
        }
        step
    }

    fn acknowledged(&mut self, now_ms: u64, upto: u64, step: &mut Step<E, C>) {
        let before = self.waiting.len();
        while self.waiting.front().is_some_and(|waiting| waiting.n <= upto) {
            step.confirmed.extend(self.waiting.pop_front().and_then(|waiting| waiting.confirm));
        }
        let gone = before - self.waiting.len();
        self.sent = self.sent.saturating_sub(gone);
        if gone > 0 {
            self.sent_ms = now_ms;
            self.window = (self.window + gone).min(WINDOW_MAX);
        }
        self.send(self.window, step);
        match self.phase {
            Phase::Closing { n, .. } if upto >= n => {
                self.phase = Phase::InStep;
                step.caught_up = true;
            }
            Phase::Filling if self.waiting.len() < WINDOW_MIN => {
                self.phase = Phase::Closing { n: self.next, since_ms: now_ms };
                self.put(now_ms, CopyPart::Complete, None, step);
            }
            _ => {}
        }
    }

    /// Time passed: sends again what was not answered, and gives up what takes too long.
    pub fn tick(&mut self, now_ms: u64) -> Step<E, C> {
        let mut step = Step::new();
        let late = |since_ms: u64| now_ms.saturating_sub(since_ms) >= self.copy_ms;
        match self.phase {
            // Not declared in sync yet: what waits may leave, and closing is tried again after the next answer.
            Phase::Closing { since_ms, .. } if late(since_ms) => {
                self.phase = Phase::Filling;
                self.release(&mut step);
            }
            Phase::InStep if self.waiting.front().is_some_and(|oldest| late(oldest.pushed_ms)) => {
                self.phase = Phase::GivenUp;
            }
            _ => {}
        }
        step.given_up = self.phase == Phase::GivenUp;
        step.overflow = self.phase == Phase::Overflown;
        if !self.waiting.is_empty() && now_ms.saturating_sub(self.sent_ms) >= self.copy_ms / 3 {
            self.again(now_ms, &mut step);
        }
        step
    }

    /// Whether time alone makes it say something. If not, [`CopySender::tick`] changes nothing, whenever it comes: it may
    /// be left out until something else has happened.
    pub fn waits(&self) -> bool {
        // A copy that is being filled or closed has something on its way until it is in step.
        !self.waiting.is_empty() || matches!(self.phase, Phase::GivenUp | Phase::Overflown)
    }

    /// The owner goes on alone: `in_sync = false` is applied, or there is no second any more. Everything may leave.
    #[must_use]
    pub fn alone(mut self) -> Vec<C> {
        self.waiting.drain(..).filter_map(|waiting| waiting.confirm).collect()
    }

    /// The same owner has a new term, after an aborted move.
    pub fn renew(&mut self, term: Term) {
        self.fence.term = self.fence.term.max(term);
    }

    /// Which copy this is.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Who holds it.
    pub fn to(&self) -> Run {
        self.to
    }

    /// Whether what leaves waits for the copy.
    pub fn is_in_step(&self) -> bool {
        matches!(self.phase, Phase::InStep | Phase::GivenUp)
    }

    /// How many parts are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.waiting.len()
    }

    fn put(&mut self, now_ms: u64, part: CopyPart<E>, confirm: Option<C>, step: &mut Step<E, C>) {
        let n = self.next;
        self.next += 1;
        if self.waiting.is_empty() {
            self.sent_ms = now_ms;
        }
        // In step with all before it on the way: what is new waits for nothing.
        let at_once = self.is_in_step() && self.sent == self.waiting.len();
        self.waiting.push_back(Waiting { n, pushed_ms: now_ms, part, confirm });
        self.send(if at_once { self.waiting.len() } else { self.window }, step);
    }

    /// Sends of the first so many parts those that are not on the way.
    fn send(&mut self, most: usize, step: &mut Step<E, C>) {
        let upto = self.waiting.len().min(most);
        if self.sent < upto {
            let next = self.waiting.range(self.sent..upto);
            step.send.extend(next.map(|waiting| self.message(waiting.n, waiting.part.clone())));
            self.sent = upto;
        }
    }

    fn clear(&mut self) {
        self.waiting.clear();
        (self.sent, self.window) = (0, WINDOW_MIN);
    }

    /// Memory is bounded: a copy that lags too far behind is given up, or begun again.
    fn bound(&mut self, step: &mut Step<E, C>) {
        if self.waiting.len() <= self.waiting_max {
            return;
        }
        match self.phase {
            Phase::InStep | Phase::GivenUp => {
                self.phase = Phase::GivenUp;
                step.given_up = true;
            }
            Phase::Filling | Phase::Closing { .. } | Phase::Overflown => {
                self.release(step);
                self.clear();
                self.phase = Phase::Overflown;
                step.overflow = true;
            }
        }
    }

    fn release(&mut self, step: &mut Step<E, C>) {
        step.confirmed.extend(self.waiting.iter_mut().filter_map(|waiting| waiting.confirm.take()));
    }

    fn again(&mut self, now_ms: u64, step: &mut Step<E, C>) {
        (self.sent, self.window, self.sent_ms) = (0, WINDOW_MIN, now_ms);
        step.send.clear();
        self.send(WINDOW_MIN, step);
    }

    fn message(&self, n: u64, part: CopyPart<E>) -> CopyMessage<E> {
        CopyMessage { fence: self.fence, lane: self.lane, n, part }
    }
}
