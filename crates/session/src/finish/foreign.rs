//! The new owner's side: calls that came with a move and that the former owner finishes. What it says of them goes onto
//! their streams, and what their clients say goes back to it.

use super::{Aside, Said};
use crate::copy::{CopyChange, CopyEntry};
use crate::live::Live;
use crate::node::Node;
use enfilade_registry::{Fence, SessionId, Slot};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long the former owner may take to begin. Beyond that its calls are lost.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// What clients say that waits for the former owner.
const WAITING_MAX: usize = 1_024;

/// The way back to the former owner of one slot in one term, and whether it is there.
pub(crate) struct Back {
    fence: Fence,
    waiting: Mutex<VecDeque<Aside>>,
    notify: Notify,
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Expected,
    There,
    Over,
}

impl Back {
    fn new(fence: Fence) -> Arc<Self> {
        let (waiting, notify, stage) = (Mutex::default(), Notify::new(), watch::Sender::new(Stage::Expected));
        Arc::new(Self { fence, waiting, notify, stage })
    }

    /// Something for the former owner. False when it cannot be told any more.
    pub(crate) fn say(&self, session: SessionId, what: Said) -> bool {
        let mut waiting = self.waiting.lock();
        if *self.stage.borrow() == Stage::Over || waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(Aside { session, what });
        self.notify.notify_one();
        true
    }

    /// Whether the former owner has yet to begin.
    pub(crate) fn is_expected(&self) -> bool {
        *self.stage.borrow() == Stage::Expected
    }

    /// Resolves when nothing comes from the former owner any more, or it never came.
    pub(crate) async fn over(&self) {
        let mut stage = self.stage.subscribe();
        let begun = stage.wait_for(|stage| *stage != Stage::Expected);
        if tokio::time::timeout(BEGIN_MAX, begun).await.is_err() {
            // Unless it came at this very moment.
            self.stage.send_if_modified(|stage| {
                let late = *stage == Stage::Expected;
                *stage = if late { Stage::Over } else { *stage };
                late
            });
        }
        let _ = stage.wait_for(|stage| *stage == Stage::Over).await; // The sender lives as long as this.
    }
}

/// The ways back of all slots.
#[derive(Default)]
pub(crate) struct Backs(Mutex<HashMap<Slot, Arc<Back>>>);

impl Backs {
    /// That of a slot, in one term.
    pub(crate) fn of(&self, fence: Fence) -> Arc<Back> {
        let mut backs = self.0.lock();
        match backs.get(&fence.slot) {
            Some(back) if back.fence == fence => back.clone(),
            _ => {
                let back = Back::new(fence);
                backs.insert(fence.slot, back.clone());
                back
            }
        }
    }
}

/// The calls of one slot that another node finishes for this one. Dropped, what is left of them ends "outcome unknown".
pub struct Foreign {
    back: Arc<Back>,
    node: Arc<Node>,
}

impl Foreign {
    /// The former owner has begun.
    pub(crate) fn begin(back: Arc<Back>, node: Arc<Node>) -> Self {
        back.stage.send_replace(Stage::There);
        Self { back, node }
    }

    /// Where its calls are: in a session of this node, or in one of a slot that was moved on, whose calls this node
    /// finishes by passing on what it hears.
    fn live(&self, session: &SessionId) -> Option<Arc<Live>> {
        let here = self.node.lives.of(self.back.fence.slot).get(session).cloned();
        // A session that is moved on at this moment is found there, because it is there before it is not here.
        here.filter(|live| live.came_with(&self.back)).or_else(|| self.passed_on(session))
    }

    fn passed_on(&self, session: &SessionId) -> Option<Arc<Live>> {
        let finishing = self.node.finishing.lock();
        let calls = finishing.iter().filter_map(std::sync::Weak::upgrade);
        calls.filter_map(|calls| calls.live(session)).find(|live| live.came_with(&self.back))
    }

    /// Whether some of the calls were moved on to another node, which hears of them through this one.
    #[must_use]
    pub fn is_passed_on(&self) -> bool {
        let finishing = self.node.finishing.lock();
        finishing.iter().filter_map(std::sync::Weak::upgrade).any(|calls| calls.came_with(&self.back))
    }

    /// The former owner says something of a call.
    pub fn take(&self, entry: CopyEntry) {
        let Some(live) = self.live(&entry.session) else { return };
        match entry.change {
            CopyChange::Event { stream, droppable, answers, data, .. } => {
                live.foreign_event(stream, data, droppable, answers);
            }
            CopyChange::Close { stream } => live.foreign_closed(stream),
            CopyChange::Open { .. } | CopyChange::Forget { .. } | CopyChange::Trim { .. } | CopyChange::End => {}
        }
    }

    /// What a client says to the former owner. Cancel safe.
    pub async fn next(&self) -> Aside {
        loop {
            if let Some(aside) = self.back.waiting.lock().pop_front() {
                return aside;
            }
            self.back.notify.notified().await;
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Their own tasks wait for this, and end what is left.
        self.back.stage.send_replace(Stage::Over);
    }
}
