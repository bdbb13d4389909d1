//! Slots, terms, and the frozen hash that gives topics and ambient sessions their slot.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many slots a cluster has. Part of every session id ever minted: never changes.
pub const SLOTS: u16 = 4096;

/// One shard of the session space, `0..SLOTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The lowest slot.
    pub const MIN: Slot = Slot(0);
    /// The highest slot.
    pub const MAX: Slot = Slot(SLOTS - 1);

    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Slot> {
        if number < SLOTS { Some(Slot(number)) } else { None }
    }

    /// The slot's number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Every slot, in order.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..SLOTS).map(Slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = NoSuchSlot;

    fn try_from(number: u16) -> Result<Slot, NoSuchSlot> {
        Slot::new(number).ok_or(NoSuchSlot(number))
    }
}

/// A slot number out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no slot {0}: slots are 0 to 4095")]
pub struct NoSuchSlot(pub u16);

/// A slot's fencing number: it rises with every change of owner and every aborted move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// The slot of a topic or of an ambient session, from the bytes of its key.
///
/// Frozen: the first eight bytes of SHA-256, big endian, modulo [`SLOTS`]. Nodes of different
/// releases must agree on it, so it never changes; the tests hold its vectors.
pub fn slot_of_topic(key: &[u8]) -> Slot {
    let hash = Sha256::digest(key);
    // 4096 divides 2^64, so the big-endian u64 modulo SLOTS is the low 12 bits of bytes 6 and 7.
    Slot(u16::from_be_bytes([hash[6], hash[7]]) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_topics_is_frozen() {
        // SHA-256 of the empty string is e3b0c442 98fc1c14 ..., of "abc" ba7816bf 8f01cfea ...
        assert_eq!(slot_of_topic(b"").get(), 0xc14);
        assert_eq!(slot_of_topic(b"abc").get(), 0xfea);
        let written_out = u64::from_be_bytes([0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
        assert_eq!(u64::from(slot_of_topic(b"abc").get()), written_out % u64::from(SLOTS));
    }

    #[test]
    fn slots_are_4096() {
        assert_eq!(Slot::all().count(), 4096);
        assert_eq!(Slot::new(4095), Some(Slot::MAX));
        assert_eq!(Slot::new(4096), None);
        assert!(serde_json::from_str::<Slot>("4096").is_err());
        assert_eq!(serde_json::from_str::<Slot>("7").ok(), Slot::new(7));
    }
}
