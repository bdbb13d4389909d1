//! The sessions that are in use on this node, by slot: what concerns a slot touches its sessions only.

use crate::live::Live;
use enfilade_registry::{SLOTS, SessionId, Slot};
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A session that is found by its id. A map would hold each id twice, and room for as many again.
struct ById(Arc<Live>);

impl Borrow<SessionId> for ById {
    fn borrow(&self) -> &SessionId {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.id.hash(hasher);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// Session ids are random, and nobody can make one up: a few bytes of one are as good as any hash of it.
#[derive(Default)]
struct Random(u64);

impl Hasher for Random {
    fn write(&mut self, bytes: &[u8]) {
        // What is shorter is the same in all ids of a slot.
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The sessions of one slot.
#[derive(Default)]
pub(crate) struct OfSlot(HashSet<ById, BuildHasherDefault<Random>>);

impl OfSlot {
    pub(crate) fn get(&self, id: &SessionId) -> Option<&Arc<Live>> {
        self.0.get(id).map(|live| &live.0)
    }

    /// Puts a session in, and gives the one that had its place.
    pub(crate) fn insert(&mut self, live: Arc<Live>) -> Option<Arc<Live>> {
        self.0.replace(ById(live)).map(|older| older.0)
    }

    pub(crate) fn remove(&mut self, id: &SessionId) -> Option<Arc<Live>> {
        self.0.take(id).map(|live| live.0)
    }

    /// Takes out those for which `goes` is true.
    pub(crate) fn part(&mut self, goes: impl Fn(&Live) -> bool) -> Vec<Arc<Live>> {
        let (parted, kept): (Vec<_>, _) = self.0.drain().partition(|live| goes(&live.0));
        self.0 = kept.into_iter().collect();
        parted.into_iter().map(|live| live.0).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.0.iter().map(|live| &live.0)
    }
}

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
        self.of(slot).all().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|of_slot| of_slot.lock().0.len()).sum()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.0.iter().flat_map(|of_slot| of_slot.lock().all().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn drain(&self) -> Vec<Arc<Live>> {
        self.0.iter().flat_map(|of_slot| of_slot.lock().part(|_| true)).collect()
    }
}
