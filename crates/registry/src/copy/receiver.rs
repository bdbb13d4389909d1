//! The side that holds a copy: takes parts in order, acknowledges them, and drops what is of lower terms.
//! What is in the entries is the caller's: it applies what [`Received`] says, in order, before it sends the answer.

use super::{CopyAnswer, CopyMessage, CopyPart, CopySaid, Lane};
use crate::{Fence, Slot, Term};

/// The state of one slot's copy of one kind (second, or target of a move).
#[derive(Clone, Debug)]
pub struct CopyReceiver {
    slot: Slot,
    term: Term,
    held: Option<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    lane: Lane,
    next: u64,
    complete: bool,
    sealed: Option<[u8; 32]>,
}

/// What a message brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<E> {
    /// Forget everything held of the slot, before anything else.
    pub reset: bool,
    /// Then apply this.
    pub entry: Option<E>,
    /// Everything is here, and the owner says it has this digest: time for `Ready`.
    pub sealed: Option<[u8; 32]>,
    /// Then send this to the owner.
    pub answer: CopyAnswer,
}

impl CopyReceiver {
    /// A node that holds nothing.
    pub fn new(slot: Slot) -> CopyReceiver {
        CopyReceiver { slot, term: Term(0), held: None }
    }

    /// The slot's term is at least this: what is of lower ones is dropped from now on.
    pub fn learned(&mut self, term: Term) {
        self.term = self.term.max(term);
    }

    /// This node was the owner until a move: what it has is the copy `lane`, complete. False when this copy, or a later
    /// one, is held already: then that is what counts.
    #[must_use]
    pub fn adopt(&mut self, term: Term, lane: Lane) -> bool {
        self.learned(term);
        let adopts = self.held.is_none_or(|held| held.lane.index() < lane.index());
        if adopts {
            self.held = Some(Held { lane, next: 1, complete: true, sealed: None });
        }
        adopts
    }

    /// A part came.
    pub fn receive<E>(&mut self, message: CopyMessage<E>) -> Received<E> {
        if message.fence.term < self.term || self.held.is_some_and(|held| held.lane.index() > message.lane.index()) {
            return self.said(message.lane, CopySaid::Stale);
        }
        self.term = message.fence.term;
        let held = self.held.filter(|held| held.lane == message.lane);
        if matches!(message.part, CopyPart::Begin) && held.is_none_or(|held| message.n >= held.next) {
            self.held = Some(Held { lane: message.lane, next: message.n + 1, complete: false, sealed: None });
            return Received { reset: true, ..self.said(message.lane, CopySaid::Upto(message.n)) };
        }
        let Some(mut held) = held else { return self.said(message.lane, CopySaid::Nothing) };
        if message.n != held.next {
            let said = if message.n < held.next { CopySaid::Upto(held.next - 1) } else { CopySaid::Missing(held.next) };
            // The `Ready` to a seal may have been lost: say it again.
            let sealed = held.sealed.filter(|_| message.n + 1 == held.next);
            return Received { sealed, ..self.said(message.lane, said) };
        }
        held.next += 1;
        let mut entry = None;
        match message.part {
            CopyPart::Begin => {}
            CopyPart::Entry(given) => entry = Some(given),
            CopyPart::Complete => held.complete = true,
            CopyPart::Sealed(digest) => held.sealed = Some(digest),
        }
        self.held = Some(held);
        Received { entry, sealed: held.sealed, ..self.said(message.lane, CopySaid::Upto(message.n)) }
    }

    fn said<E>(&self, lane: Lane, said: CopySaid) -> Received<E> {
        let fence = Fence { slot: self.slot, term: self.term };
        Received { reset: false, entry: None, sealed: None, answer: CopyAnswer { fence, lane, said } }
    }

    /// Whether the copy is complete: what the registry called in sync can be gone on with.
    pub fn is_complete(&self, lane: Lane) -> bool {
        self.held.is_some_and(|held| held.lane == lane && held.complete)
    }

    /// The copy that is held, complete or not.
    pub fn lane(&self) -> Option<Lane> {
        self.held.map(|held| held.lane)
    }

    /// Nothing is held any more of this copy and earlier ones. True when something was: its content is to go.
    /// Terms are remembered.
    pub fn forget(&mut self, upto: Lane) -> bool {
        self.held.take_if(|held| held.lane.index() <= upto.index()).is_some()
    }
}
