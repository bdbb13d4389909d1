//! The sessions that are in use on this node, by slot: what concerns a slot touches its sessions only.

use crate::live::Live;
use enfilade_registry::{SLOTS, SessionId, Slot};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

type OfSlot = HashMap<SessionId, Arc<Live>>;

pub(crate) struct Lives(Box<[Mutex<OfSlot>]>);

impl Default for Lives {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl Lives {
    pub(crate) fn of(&self, slot: Slot) -> MutexGuard<'_, OfSlot> {
        self.0[usize::from(slot.get())].lock()
    }

    pub(crate) fn remove(&self, id: &SessionId) -> Option<Arc<Live>> {
        self.of(id.slot()).remove(id)
    }

    pub(crate) fn of_slot(&self, slot: Slot) -> Vec<Arc<Live>> {
        self.of(slot).values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|of_slot| of_slot.lock().len()).sum()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.0.iter().flat_map(|of_slot| of_slot.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn drain(&self) -> Vec<Arc<Live>> {
        self.0.iter().flat_map(|of_slot| std::mem::take(&mut *of_slot.lock()).into_values()).collect()
    }
}
