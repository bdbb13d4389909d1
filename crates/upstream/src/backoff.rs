//! How long to wait after the n-th failure in a row: doubled each time, bounded, and spread so that those who failed
//! together do not come back together.

use std::time::Duration;

/// The wait after `failures` failures in a row (1 is the first): between half of the doubled `base` and all of it.
pub(crate) fn delay(base: Duration, most: Duration, failures: u32, random: u32) -> Duration {
    let doubled = base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
    let half = doubled / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Randomness for [`delay`]; without a source of it everybody waits the middle.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds() {
        let (base, most) = (Duration::from_millis(100), Duration::from_secs(1));
        for (failures, least, greatest) in [
            (0, 50, 100),
            (1, 50, 100),
            (2, 100, 200),
            (3, 200, 400),
            (4, 400, 800),
            (5, 500, 1000),
            (u32::MAX, 500, 1000),
        ] {
            assert_eq!(delay(base, most, failures, 0), Duration::from_millis(least), "{failures}");
            assert_eq!(delay(base, most, failures, u32::MAX), Duration::from_millis(greatest), "{failures}");
        }
    }
}
