//! The leader's clock of planned moves: one that takes too long is aborted, even if its owner does not ask for it.

use std::collections::BTreeMap;

use crate::{Command, MoveId, Slot, SlotTable};

/// Since when this leader has seen each move.
#[derive(Clone, Debug, Default)]
pub struct LateMoves {
    since_ms: BTreeMap<(Slot, MoveId), u64>,
}

impl LateMoves {
    /// Looks at the applied table. Gives the abort of the moves seen for `move_ms` or longer, each time anew until
    /// they are gone.
    pub fn look(&mut self, now_ms: u64, slots: &SlotTable, move_ms: u64) -> Option<Command> {
        let mut seen = BTreeMap::new();
        if slots.moving() > 0 {
            for (slot, moving) in slots.iter().filter_map(|(slot, record)| Some((slot, record.moving?))) {
                let key = (slot, moving.id);
                seen.insert(key, self.since_ms.get(&key).copied().unwrap_or(now_ms));
            }
        }
        self.since_ms = seen;
        let late = self.since_ms.iter().filter(|(_, since_ms)| now_ms.saturating_sub(**since_ms) >= move_ms);
        let moves: Vec<(Slot, MoveId)> = late.map(|(key, _)| *key).collect();
        (!moves.is_empty()).then_some(Command::Abort { moves })
    }
}
