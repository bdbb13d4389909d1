//! What every effect of one session passes: is its slot still this node's, in the term under which the session was taken
//! up? And the way of what the slot's second has to keep.

use crate::copy::{Confirm, Copies, CopyChange, CopyEntry};
use crate::finish::Outbox;
use crate::owner::Reply;
use crate::slots::{Held, Slots};
use crate::stream::STREAM_BYTES_MAX;
use enfilade_registry::{Fence, NotServed, SessionId, Term};
use parking_lot::Mutex;
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

/// What is told when a slot is not frozen any more.
#[derive(Default)]
struct Waiting {
    told: Vec<(CopyChange, Confirm)>,
    bytes: usize,
}

impl Waiting {
    /// Progress and log lines go when there is no room.
    fn put(&mut self, change: CopyChange, confirm: Confirm) {
        if let CopyChange::Event { droppable, data, .. } = &change {
            if *droppable && self.bytes > STREAM_BYTES_MAX {
                return;
            }
            self.bytes += data.len();
        }
        self.told.push((change, confirm));
    }
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
    /// The slot was moved: what calls under way still say goes to its new owner.
    away: AtomicBool,
    flow: Mutex<Flow>,
}

/// Where the session's streams are told of. Held while something is told, so that all of it has one order.
enum Flow {
    /// To the slot's second.
    Second,
    /// The slot is frozen: what is said meanwhile waits for the end of the move.
    Held(Box<Waiting>),
    /// To the new owner.
    Away(Arc<Outbox>),
}

impl Gate {
    pub(crate) fn new(slots: Arc<dyn Slots>, copies: Arc<dyn Copies>, session: SessionId, term: Term) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        let (lost, silent, away, flow) = (no(), no(), no(), Mutex::new(Flow::Second));
        Arc::new(Self { slots, copies, session, term: AtomicU64::new(term.0), lost, silent, away, flow })
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { slot: self.session.slot(), term: self.term() }
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.term.load(Ordering::Acquire))
    }

    /// The slot stays this node's under a higher term. What was held is told.
    pub(crate) fn renew(&self, term: Term) {
        self.term.fetch_max(term.0, Ordering::AcqRel);
        let mut flow = self.flow.lock();
        if let Flow::Held(held) = &mut *flow {
            std::mem::take(&mut held.told).into_iter().for_each(|(change, confirm)| self.tell(change, confirm));
            *flow = Flow::Second;
        }
    }

    /// The slot is frozen: what is said from now on waits.
    pub(crate) fn hold(&self) {
        *self.flow.lock() = Flow::Held(Box::default());
    }

    /// The slot was moved: what was held, and what follows, goes to the new owner. Calls under way may go on.
    pub(crate) fn leave(&self, outbox: &Arc<Outbox>) {
        let mut flow = self.flow.lock();
        if let Flow::Held(held) = std::mem::replace(&mut *flow, Flow::Away(outbox.clone())) {
            held.told.into_iter().for_each(|(change, _)| outbox.put(self.session, change));
        }
        self.away.store(true, Ordering::Release);
    }

    /// Whether the slot was moved from this node, which finishes calls of it.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Who carries what is said to the new owner looks whether there is more to come.
    pub(crate) fn nudge(&self) {
        if let Flow::Away(outbox) = &*self.flow.lock() {
            outbox.nudge();
        }
    }

    pub(crate) fn holds(&self) -> Held {
        let over = self.lost.load(Ordering::Acquire) || self.is_away();
        if over { Held::Gone } else { self.slots.holds(self.fence()) }
    }

    /// Whether something may begin now, in the session's term.
    pub(crate) fn begins(&self) -> Result<(), NotServed> {
        let fence = self.slots.fence(self.session.slot())?;
        (fence == self.fence()).then_some(()).ok_or(NotServed::NotReady)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.holds() == Held::Gone
    }

    /// What calls under way may do at their upstreams: the former owner of a slot that was moved finishes them.
    pub(crate) fn acts(&self) -> Held {
        if self.is_away() && !self.lost.load(Ordering::Acquire) { Held::Yes } else { self.holds() }
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
            match self.acts() {
                Held::Yes => return true,
                Held::Gone => return false,
                Held::Paused => {}
            }
            // Subscribed before it is asked again, so that no change is missed.
            let mut changed = self.slots.changed();
            if self.acts() == Held::Paused && changed.changed().await.is_err() {
                return false;
            }
        }
    }

    /// As [`Gate::pass`], for at most `within`.
    pub(crate) async fn pass_within(&self, within: Duration) -> Result<(), Barred> {
        match self.acts() {
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
            // What was answered here after a move was not asked of an upstream, or is on its stream.
            Ok(()) if self.is_away() => Reply::NotServed(NotServed::NotOwner),
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
        let mut flow = self.flow.lock();
        match &mut *flow {
            Flow::Second => self.tell(change, confirm),
            Flow::Held(held) => held.put(change, confirm),
            Flow::Away(outbox) => outbox.put(self.session, change),
        }
    }

    /// Tells a copy that begins, and no other, something of what there is, whatever is held.
    pub(crate) fn tell_copy(&self, change: CopyChange, tell: impl Fn(Fence, CopyEntry)) {
        // With the lock nothing is told after the end.
        let _flow = self.flow.lock();
        if !self.silent.load(Ordering::Acquire) {
            tell(self.fence(), CopyEntry { session: self.session, change });
        }
    }

    /// The session has ended: the last thing that the second is told.
    pub(crate) fn end(&self) {
        let _flow = self.flow.lock();
        self.tell(CopyChange::End, Confirm::nobody());
        self.silence();
    }

    fn tell(&self, change: CopyChange, confirm: Confirm) {
        if self.copies() && !self.silent.load(Ordering::Acquire) {
            self.copies.append(self.fence(), CopyEntry { session: self.session, change }, confirm);
        }
    }
}
