//! What this node has to do for slots: own them, copy them, hand them over.
//!
//! [`enfilade_registry::duty::Duty`] decides, one per slot; the desk feeds it and does what it says. The copies that an
//! owner fills are in `lanes`, those that are held for others in `held`, and `wires` lead to the other nodes.

mod changes;
mod closing;
mod desk;
mod held;
mod inbox;
mod lanes;
mod proposals;
mod sessions;
#[cfg(test)]
mod tests;
mod waiting;
mod wires;
mod words;

pub(crate) use desk::{Desk, Tools};
pub(crate) use held::Held;
pub(crate) use inbox::{Happened, Inbox};
pub(crate) use lanes::Lanes;
pub(crate) use proposals::Proposals;
pub(crate) use sessions::Sessions;
pub(crate) use wires::Wires;
pub(crate) use words::Listener;

use enfilade_registry::{Fence, SessionId};
use enfilade_session::copy::{Confirm, Copies, CopyEntry, SessionCopy};
use std::sync::Arc;

/// The second copies, as this node's sessions see them.
pub(crate) struct SecondCopies {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) held: Arc<Held>,
}

impl SecondCopies {
    /// A session has ended. Where it is in use it says so to its copies; of one that was inherited only this node can.
    pub(crate) fn ended(&self, session: &SessionId) {
        if self.held.ended(session) {
            self.lanes.ended(*session);
        }
    }
}

impl Copies for SecondCopies {
    fn append(&self, fence: Fence, entry: CopyEntry, confirm: Confirm) {
        self.lanes.append(fence, &entry, confirm);
    }

    fn restore(&self, session: &SessionId) -> Option<SessionCopy> {
        self.held.restore(session)
    }
}
