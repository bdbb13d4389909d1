//! A set of slots, a bit each.

use crate::{Run, SLOTS, Slot, SlotTable};

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; WORDS]>);

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet(Box::new([0; WORDS]))
    }
}

impl SlotSet {
    /// The slots that a run owns, holds the copy of, or is to own.
    pub fn naming(table: &SlotTable, run: Run) -> SlotSet {
        let mut set = SlotSet::default();
        table.iter().filter(|(_, record)| record.names(run)).for_each(|(slot, _)| set.insert(slot));
        set
    }

    /// Whether the slot is in it.
    pub fn contains(&self, slot: Slot) -> bool {
        let at = usize::from(slot.get());
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    /// Puts a slot in.
    pub fn insert(&mut self, slot: Slot) {
        let at = usize::from(slot.get());
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Those that are here and not in `other`.
    pub fn without<'a>(&'a self, other: &'a SlotSet) -> impl Iterator<Item = Slot> + 'a {
        Slot::all().filter(|slot| self.contains(*slot) && !other.contains(*slot))
    }

    /// Its bytes: slot 0 is the lowest bit of the first.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// From its bytes; nothing if there are too few or too many.
    pub fn from_bytes(bytes: &[u8]) -> Option<SlotSet> {
        let (words, rest) = bytes.as_chunks::<8>();
        if words.len() != WORDS || !rest.is_empty() {
            return None;
        }
        let mut set = SlotSet::default();
        set.0.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
        Some(set)
    }
}
