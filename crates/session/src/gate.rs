//! What every effect of one session passes: is its slot still this node's, in the term under which the session was taken
//! up? And the way of what the slot's second has to keep.

use crate::copy::{Confirm, Copies, CopyChange, CopyEntry};
use crate::owner::Reply;
use crate::slots::{Held, Slots};
use enfilade_registry::{Fence, NotServed, SessionId, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long an answer or a message to an upstream waits for a lost lease. Streams wait for as long as it takes.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(10);

/// Why an effect may not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    /// The slot is another node's.
    Gone,
    /// The lease did not come back in time.
    Paused,
}

/// One session's right to act.
pub(crate) struct Gate {
    slots: Arc<dyn Slots>,
    copies: Arc<dyn Copies>,
    session: SessionId,
    term: AtomicU64,
    lost: AtomicBool,
    /// Nothing is told to the second any more: what is open stays open there.
    silent: AtomicBool,
}

impl Gate {
    pub(crate) fn new(slots: Arc<dyn Slots>, copies: Arc<dyn Copies>, session: SessionId, term: Term) -> Arc<Self> {
        let (lost, silent) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { slots, copies, session, term: AtomicU64::new(term.0), lost, silent })
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { slot: self.session.slot(), term: self.term() }
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.term.load(Ordering::Acquire))
    }

    /// The slot stays this node's under a higher term.
    pub(crate) fn renew(&self, term: Term) {
        self.term.fetch_max(term.0, Ordering::AcqRel);
    }

    pub(crate) fn holds(&self) -> Held {
        if self.lost.load(Ordering::Acquire) { Held::Gone } else { self.slots.holds(self.fence()) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.holds() == Held::Gone
    }

    /// From now on nothing passes.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.silence();
    }

    /// From now on nothing is told to the second.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Waits while the lease is lost; false once the slot is gone.
    pub(crate) async fn pass(&self) -> bool {
        loop {
            if self.holds() != Held::Paused {
                return !self.is_gone();
            }
            // Subscribed before it is asked again, so that no change is missed.
            let mut changed = self.slots.changed();
            if self.holds() == Held::Paused && changed.changed().await.is_err() {
                return false;
            }
        }
    }

    /// As [`Gate::pass`], for at most `within`.
    pub(crate) async fn pass_within(&self, within: Duration) -> Result<(), Barred> {
        match self.holds() {
            Held::Yes => return Ok(()),
            Held::Gone => return Err(Barred::Gone),
            Held::Paused => {}
        }
        match tokio::time::timeout(within, self.pass()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Barred::Gone),
            Err(_) => Err(Barred::Paused),
        }
    }

    /// The reply as it may leave. `dispatched`: the message went to an upstream.
    pub(crate) async fn seal(&self, reply: Reply, dispatched: bool) -> Reply {
        match self.pass_within(HOLD_MAX).await {
            Ok(()) => reply,
            Err(_) if dispatched => Reply::Lost,
            Err(Barred::Gone) => Reply::NotServed(NotServed::NotOwner),
            Err(Barred::Paused) => Reply::NotServed(NotServed::NotReady),
        }
    }

    /// Whether somebody keeps a copy of this session's streams.
    pub(crate) fn copies(&self) -> bool {
        self.copies.keeps()
    }

    /// Tells the second. Nothing is confirmed when there is nobody to be told any more.
    pub(crate) fn append(&self, change: CopyChange, confirm: Confirm) {
        if !self.silent.load(Ordering::Acquire) {
            self.tell(change, confirm);
        }
    }

    /// The session has ended: the last thing that the second is told.
    pub(crate) fn end(&self) {
        if !self.silent.swap(true, Ordering::AcqRel) {
            self.tell(CopyChange::End, Confirm::nobody());
        }
    }

    fn tell(&self, change: CopyChange, confirm: Confirm) {
        if self.copies() {
            self.copies.append(self.fence(), CopyEntry { session: self.session, change }, confirm);
        }
    }
}
