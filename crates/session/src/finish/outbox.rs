//! What calls say that are finished for another node, until it is carried there. Bounded like a stream.

use crate::copy::{CopyChange, CopyEntry};
use crate::stream::{STREAM_BYTES_HARD_MAX, STREAM_BYTES_MAX};
use enfilade_registry::SessionId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Entries that are carried together.
const TOGETHER_MAX: usize = 256;
/// About how many bytes of them.
const TOGETHER_BYTES: usize = 128 * 1024;

#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// There is more, or a call has ended.
    nudge: Notify,
}

#[derive(Default)]
struct State {
    said: std::collections::VecDeque<CopyEntry>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    /// Takes in what a stream says. Progress and log lines go when there is no room.
    pub(crate) fn put(&self, session: SessionId, change: CopyChange) {
        let entry = CopyEntry { session, change };
        let droppable = match &entry.change {
            CopyChange::Event { droppable, .. } => *droppable,
            CopyChange::Open { .. } | CopyChange::Close { .. } => false,
            // The new owner keeps its streams itself.
            CopyChange::Forget { .. } | CopyChange::Trim { .. } | CopyChange::End => return,
        };
        let mut state = self.state.lock();
        let room = if droppable { STREAM_BYTES_MAX } else { STREAM_BYTES_HARD_MAX };
        if state.closed || state.bytes > room {
            return;
        }
        state.bytes += entry.bytes();
        state.said.push_back(entry);
        drop(state);
        self.nudge();
    }

    /// The first of what there is.
    pub(super) fn take(&self) -> Vec<CopyEntry> {
        let mut state = self.state.lock();
        let (mut bytes, mut together) = (0, Vec::new());
        while bytes < TOGETHER_BYTES && together.len() < TOGETHER_MAX {
            let Some(entry) = state.said.pop_front() else { break };
            bytes += entry.bytes();
            together.push(entry);
        }
        state.bytes -= bytes;
        together
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().said.is_empty()
    }

    /// Nobody carries anything any more.
    pub(super) fn close(&self) {
        *self.state.lock() = State { closed: true, ..State::default() };
    }

    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }
}
