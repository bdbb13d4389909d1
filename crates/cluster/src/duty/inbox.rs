//! What happened to slots outside of the desk that keeps them: collected until it looks.

use enfilade_registry::Slot;
use enfilade_registry::duty::DutyEvent;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bounded by what may happen between two looks: a few events per slot.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: Mutex<Vec<(Slot, Happened)>>,
    notify: Notify,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Something that decides what this node has to do.
    Duty(DutyEvent),
    /// A copy that is being filled lags too far behind: it is begun again.
    Overflow(enfilade_registry::copy::Lane),
}

impl Inbox {
    pub(crate) fn put(&self, slot: Slot, happened: Happened) {
        let mut events = self.events.lock();
        // Said again and again until it has an effect; once is enough.
        if events.last().is_none_or(|last| *last != (slot, happened.clone())) {
            events.push((slot, happened));
            self.notify.notify_one();
        }
    }

    pub(crate) fn take(&self) -> Vec<(Slot, Happened)> {
        std::mem::take(&mut *self.events.lock())
    }

    /// Resolves when something happened since the last look.
    pub(crate) async fn happened(&self) {
        self.notify.notified().await;
    }
}
