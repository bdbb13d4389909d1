//! When operations are due: fixed in advance, whatever becomes of the earlier ones (open loop). Pure.
//! Latency counts from here, so that a server that stands still is not asked less while it does.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Arrivals at a mean rate, independent of each other (Poisson): many clients that know nothing of one another.
#[derive(Debug)]
pub(crate) struct Arrivals {
    next: Instant,
    mean: Duration,
    random: SmallRng,
}

impl Arrivals {
    /// From `start` on; nothing is ever due at a rate of 0.
    pub(crate) fn new(start: Instant, per_second: f64, seed: u64) -> Option<Arrivals> {
        if per_second <= 0.0 {
            return None;
        }
        let mean = Duration::try_from_secs_f64(1.0 / per_second).ok()?;
        let mut arrivals = Arrivals { next: start, mean, random: SmallRng::seed_from_u64(seed) };
        let gap = arrivals.gap();
        arrivals.next += gap;
        Some(arrivals)
    }

    /// When the next operation is due.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// Takes it; what is due after it does not depend on when this is called.
    pub(crate) fn take(&mut self) -> Instant {
        let (due, gap) = (self.next, self.gap());
        self.next += gap;
        due
    }

    fn gap(&mut self) -> Duration {
        let uniform: f64 = self.random.random();
        // 1 - uniform is never 0.
        self.mean.mul_f64(-(1.0 - uniform).ln())
    }
}

/// Arrivals at even distances, which everybody can work out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evenly {
    start: Instant,
    every: Duration,
}

impl Evenly {
    /// The first is due one distance after `start`; nothing is ever due at a rate of 0.
    pub(crate) fn new(start: Instant, per_second: f64) -> Option<Evenly> {
        let every = Duration::try_from_secs_f64(1.0 / per_second).ok().filter(|every| !every.is_zero())?;
        Some(Evenly { start, every })
    }

    /// When the newest was due at a moment; nothing before the first.
    pub(crate) fn newest(self, at: Instant) -> Option<Instant> {
        let passed = at.saturating_duration_since(self.start).as_nanos() / self.every.as_nanos();
        (passed > 0).then(|| self.start + self.every * u32::try_from(passed).unwrap_or(u32::MAX))
    }

    /// When the first is due after a moment.
    pub(crate) fn next(self, at: Instant) -> Instant {
        self.newest(at).unwrap_or(self.start) + self.every
    }
}

/// When the `index`th of `count` is due that begin evenly over a time.
pub(crate) fn ramp_due(start: Instant, ramp: Duration, index: u64, count: u64) -> Instant {
    start + ramp.mul_f64(index as f64 / count.max(1) as f64)
}

/// The share of `total` that worker `index` of `workers` takes; all shares together are `total`.
pub(crate) fn part(total: u64, index: u64, workers: u64) -> u64 {
    total / workers + u64::from(index < total % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_does_not_wait_for_a_server_that_stands_still() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start, 100.0, 7).expect("a rate");
        let mut undisturbed = Arrivals::new(start, 100.0, 7).expect("a rate");
        // A server serves in no time, but stands still for the second second: one operation at a time.
        let stall = start + Duration::from_secs(1)..start + Duration::from_secs(2);
        let (mut hit, mut total, mut free) = (0, 0, start);
        while arrivals.due() < start + Duration::from_secs(3) {
            let due = arrivals.take();
            assert_eq!(due, undisturbed.take(), "due times are fixed in advance");
            free = free.max(due);
            if stall.contains(&free) {
                free = stall.end;
            }
            total += 1;
            hit += u32::from(free - due > Duration::from_millis(100));
        }
        // A closed loop would have seen one slow operation; here all that were due in the first 0.9 s of the stall are.
        assert!((250..350).contains(&total), "{total}");
        assert!((60..120).contains(&hit), "{hit}");
    }

    #[test]
    fn nothing_is_due_at_no_rate() {
        assert!(Arrivals::new(Instant::now(), 0.0, 1).is_none());
        assert!(Evenly::new(Instant::now(), 0.0).is_none());
    }

    #[test]
    fn everybody_knows_which_even_arrival_was_the_newest() {
        let start = Instant::now();
        let evenly = Evenly::new(start, 0.1).expect("a rate");
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert_eq!([0.0, 9.9].map(|seconds| evenly.newest(at(seconds))), [None, None]);
        assert_eq!([10.0, 19.9].map(|seconds| evenly.newest(at(seconds))), [Some(at(10.0)), Some(at(10.0))]);
        assert_eq!(evenly.newest(at(35.0)), Some(at(30.0)));
        assert_eq!([0.0, 9.9, 10.0, 35.0].map(|seconds| evenly.next(at(seconds))), [10.0, 10.0, 20.0, 40.0].map(at));
    }

    #[test]
    fn parts_add_up_and_the_ramp_is_even() {
        for (total, workers) in [(10, 3), (100_000, 6), (2, 5), (0, 1)] {
            let parts: Vec<u64> = (0..workers).map(|index| part(total, index, workers)).collect();
            assert_eq!(parts.iter().sum::<u64>(), total);
            assert!(parts.iter().max().zip(parts.iter().min()).is_some_and(|(most, least)| most - least <= 1));
        }
        let start = Instant::now();
        assert_eq!(ramp_due(start, Duration::from_secs(10), 25, 100), start + Duration::from_millis(2_500));
    }
}
