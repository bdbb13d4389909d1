//! Pauses between attempts: doubled each time up to a limit, with jitter, so that nodes do not dial in step.

use std::time::Duration;

use crate::Timing;

pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(timing: &Timing, seed: u64) -> Self {
        Self { min: timing.backoff_min, max: timing.backoff_max, next: timing.backoff_min, random: seed }
    }

    /// After a link that lasted.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next pause: between half of it and the whole.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        let part = self.draw() % 1001;
        pause / 2 + (pause / 2) * u32::try_from(part).unwrap_or(0) / 1000
    }

    /// SplitMix64: the quality that jitter needs, from a seed that a simulation can fix.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ_by_seed() {
        let timing = Timing::default();
        let mut backoff = Backoff::new(&timing, 1);
        let pauses: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        let mut whole = timing.backoff_min;
        for pause in &pauses {
            assert!(*pause >= whole / 2 && *pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(timing.backoff_max);
        }
        backoff.reset();
        assert!(backoff.next() <= timing.backoff_min);
        let mut other = Backoff::new(&timing, 2);
        assert_ne!(pauses, (0..8).map(|_| other.next()).collect::<Vec<_>>());
    }
}
