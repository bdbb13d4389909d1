//! The end of a move's copying: a slot is frozen in a moment in which every call under way has a stream with which
//! another node can go on.
//!
//! While it closes, calls under way go on and nothing new begins. If they take too long, it opens again and waits for
//! another moment; the move's own time limit ends what never comes.

use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Fence, MoveId, Slot};
use std::collections::BTreeMap;

/// How long nothing new begins while calls under way end, in ms.
const CLOSED_MS: u64 = 250;
/// How long it is open again before the next attempt, in ms.
const OPEN_MS: u64 = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closing {
    fence: Fence,
    id: MoveId,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Begins new things until then.
    Open { until_ms: u64 },
    /// Nothing new begins, since then.
    Closed { since_ms: u64 },
}

/// What is to be done for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// Begin nothing new.
    Shut(Fence),
    /// Begin anew.
    Open(Fence),
    /// Every call can be handed over: freeze, seal, and say [`DutyEvent::Frozen`].
    Freeze(Fence, MoveId),
}

/// All slots that are being closed.
#[derive(Debug, Default)]
pub(super) struct Closings {
    closing: BTreeMap<Slot, Closing>,
    /// Since when those that are frozen begin nothing new.
    frozen: BTreeMap<Slot, u64>,
}

impl Closings {
    pub(super) fn begin(&mut self, now_ms: u64, fence: Fence, id: MoveId) {
        self.closing.insert(fence.slot, Closing { fence, id, stage: Stage::Open { until_ms: now_ms } });
    }

    /// The move has ended, or the slot is not this node's any more. Gives since when it began nothing new, if it was
    /// frozen.
    pub(super) fn end(&mut self, slot: Slot) -> Option<u64> {
        self.closing.remove(&slot);
        self.frozen.remove(&slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closing.is_empty()
    }

    /// Time passed; `commit` makes a closed slot's calls ready to be handed over, and says how many are not yet.
    pub(super) fn tick(&mut self, now_ms: u64, commit: impl Fn(Slot) -> usize) -> Vec<Close> {
        let mut todo = Vec::new();
        let frozen = &mut self.frozen;
        self.closing.retain(|slot, closing| {
            match closing.stage {
                Stage::Open { until_ms } if now_ms >= until_ms => {
                    closing.stage = Stage::Closed { since_ms: now_ms };
                    todo.push(Close::Shut(closing.fence));
                }
                Stage::Open { .. } => {}
                // What had passed the door before it was shut is counted by the next tick.
                Stage::Closed { since_ms } if now_ms > since_ms && commit(*slot) == 0 => {
                    todo.push(Close::Freeze(closing.fence, closing.id));
                    frozen.insert(*slot, since_ms);
                    return false;
                }
                Stage::Closed { since_ms } if now_ms.saturating_sub(since_ms) >= CLOSED_MS => {
                    closing.stage = Stage::Open { until_ms: now_ms + OPEN_MS };
                    todo.push(Close::Open(closing.fence));
                }
                Stage::Closed { .. } => {}
            }
            true
        });
        todo
    }
}

/// What the desk says after [`Close::Freeze`].
pub(super) fn frozen(id: MoveId, digest: [u8; 32]) -> DutyEvent {
    DutyEvent::Frozen { id, digest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::Term;

    #[test]
    fn freezes_when_all_calls_are_ready_and_opens_again_for_those_that_take_long() {
        let fence = Fence { slot: Slot::new(5).expect("a slot"), term: Term(1) };
        let mut closings = Closings::default();
        closings.begin(0, fence, MoveId(7));
        assert_eq!(closings.tick(20, |_| 1), [Close::Shut(fence)]);
        assert_eq!(closings.tick(30, |_| 1), [], "a call is not ready");
        assert_eq!(closings.tick(20 + CLOSED_MS, |_| 1), [Close::Open(fence)]);
        assert_eq!(closings.tick(30 + CLOSED_MS, |_| 0), [], "open for a while");
        let again = 20 + CLOSED_MS + OPEN_MS;
        assert_eq!(closings.tick(again, |_| 0), [Close::Shut(fence)]);
        assert_eq!(closings.tick(again + 1, |_| 0), [Close::Freeze(fence, MoveId(7))]);
        assert!(closings.is_empty());
        assert_eq!((closings.end(fence.slot), closings.end(fence.slot)), (Some(again), None));
    }
}
