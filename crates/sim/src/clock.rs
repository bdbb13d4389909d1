//! A node's clock: it runs at a rate of its own and counts the time for which the node was suspended.
//! Rule: the machines under test see this clock only, never the world's time.

/// Microseconds of the world's time, from the start of a run.
pub(crate) type Micros = u64;

/// One second of the world's time.
pub(crate) const SECOND: Micros = 1_000_000;
/// One millisecond of the world's time.
pub(crate) const MILLI: Micros = 1_000;

/// Slowest and fastest rate, in millionths: they differ by less than 10 %.
pub(crate) const RATES_PPM: std::ops::RangeInclusive<u64> = 955_000..=1_045_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset_us: u64,
    rate_ppm: u64,
}

impl Clock {
    pub(crate) fn new(offset_us: u64, rate_ppm: u64) -> Clock {
        Clock { offset_us, rate_ppm }
    }

    /// What the clock shows at a time of the world, in its microseconds.
    pub(crate) fn us(&self, now: Micros) -> u64 {
        self.offset_us + now * self.rate_ppm / 1_000_000
    }

    /// The same in milliseconds.
    pub(crate) fn ms(&self, now: Micros) -> u64 {
        self.us(now) / 1_000
    }

    /// How long the world waits until this clock has gone on by so much.
    pub(crate) fn world_us(&self, local_us: u64) -> Micros {
        (local_us * 1_000_000).div_ceil(self.rate_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_and_the_slowest_differ_by_less_than_a_tenth() {
        let (slow, fast) = (Clock::new(0, *RATES_PPM.start()), Clock::new(0, *RATES_PPM.end()));
        let second = 10 * SECOND;
        assert!(fast.us(second) * 10 < slow.us(second) * 11);
        assert!(fast.us(fast.world_us(SECOND)) >= SECOND);
        assert!(slow.us(slow.world_us(SECOND)) >= SECOND);
    }
}
