//! What the log says of slots that come and go, and of their copies: many at once, and a series of moves in one line;
//! each look at the level "debug".

use enfilade_registry::MOVING_MAX;

/// After so long without a move a series is over, in ms.
const QUIET_MS: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By the present look.
    pub(super) gained: usize,
    pub(super) lost: usize,
    /// For how long those that were handed over by it began nothing new, in ms.
    pauses_ms: Vec<u64>,
    series: Option<Series>,
    /// How many slots of this node have no second with a whole copy.
    uncopied: usize,
}

/// Slots that were handed over shortly after one another.
#[derive(Debug, Default)]
struct Series {
    count: usize,
    began_ms: u64,
    last_ms: u64,
    longest_ms: u64,
}

impl Changes {
    /// A slot was handed over that began nothing new since `closed_ms`.
    pub(super) fn moved(&mut self, now_ms: u64, closed_ms: Option<u64>) {
        let pause_ms = now_ms.saturating_sub(closed_ms.unwrap_or(now_ms));
        self.pauses_ms.push(pause_ms);
        let series = self.series.get_or_insert(Series { began_ms: now_ms, ..Series::default() });
        series.count += 1;
        series.last_ms = now_ms;
        series.longest_ms = series.longest_ms.max(pause_ms);
    }

    /// So many slots of this node have no second with a whole copy now.
    pub(super) fn copies(&mut self, uncopied: usize) {
        let before = std::mem::replace(&mut self.uncopied, uncopied);
        if uncopied == 0 && before > 0 {
            tracing::info!(uncopied, "every slot of this node has a whole copy at a second");
        } else if uncopied != before {
            tracing::debug!(uncopied, "slots of this node have no whole copy at a second");
        }
    }

    /// The present look is over.
    pub(super) fn settle(&mut self) {
        let (gained, lost) = (std::mem::take(&mut self.gained), std::mem::take(&mut self.lost));
        let pauses_ms = std::mem::take(&mut self.pauses_ms);
        if gained + lost > MOVING_MAX {
            tracing::info!(gained, lost, ?pauses_ms, "slots of this node changed");
        } else if gained + lost > 0 {
            tracing::debug!(gained, lost, ?pauses_ms, "slots of this node changed");
        }
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let over = |series: &mut Series| now_ms.saturating_sub(series.last_ms) >= QUIET_MS;
        if let Some(Series { count, began_ms, last_ms, longest_ms }) = self.series.take_if(over) {
            let over_ms = last_ms - began_ms;
            tracing::info!(count, over_ms, longest_pause_ms = longest_ms, "slots were handed over");
        }
    }
}
