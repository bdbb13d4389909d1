//! Announcements: how many streams heard of each, how fast, and what it cost the gateway. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::tally::{Cell, Operation, Tally};
use crate::timeline::{Part, ProcessUsage};

/// Work for an announcement ends within this many seconds of its last delivery.
const AFTER_S: u32 = 1;

/// All announcements of the steady state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FanOut {
    pub(crate) announcements: Vec<Announcement>,
    /// Per second from when each was due until its last one arrived, on average.
    pub(crate) deliveries_per_second: f64,
    /// Per core-second that all nodes used for them beyond what they use otherwise; nothing when that cannot be told.
    pub(crate) per_core: Option<f64>,
    pub(crate) cpu_seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// When it was due.
    pub(crate) second: u32,
    /// Streams that were to hear of it, and did.
    pub(crate) streams: u64,
    pub(crate) delivered: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// Nothing when nothing was announced.
pub(super) fn of(tally: &Tally, processes: &[ProcessUsage], steady: &[u32]) -> Option<FanOut> {
    let mut sum = Cell::default();
    let mut announcements = Vec::new();
    for second in steady {
        let Some(cell) = tally.get(*second, Operation::Deliver).filter(|cell| cell.offered > 0) else { continue };
        sum.add(cell);
        announcements.push(Announcement {
            second: *second,
            streams: cell.offered,
            delivered: cell.of(Outcome::Ok),
            p50_ms: cell.ms(0.5),
            p99_ms: cell.ms(0.99),
            max_ms: cell.max_ms(),
        });
    }
    if announcements.is_empty() {
        return None;
    }
    let took: f64 = announcements.iter().map(|one| one.max_ms / 1e3).sum();
    let cpu_seconds = cpu_seconds(&announcements, &cores(processes), steady);
    let delivered = sum.of(Outcome::Ok) as f64;
    Some(FanOut {
        deliveries_per_second: if took > 0.0 { delivered / took } else { 0.0 },
        per_core: cpu_seconds.filter(|seconds| *seconds > 0.0).map(|seconds| delivered / seconds),
        cpu_seconds: cpu_seconds.unwrap_or(0.0),
        p50_ms: sum.ms(0.5),
        p99_ms: sum.ms(0.99),
        max_ms: sum.max_ms(),
        announcements,
    })
}

/// Of all nodes together, by the second that a sample ends in.
fn cores(processes: &[ProcessUsage]) -> BTreeMap<u32, f64> {
    let mut all = BTreeMap::new();
    for sample in processes.iter().filter(|one| one.part == Part::Node).flat_map(|one| &one.samples) {
        *all.entry(sample.second as u32).or_insert(0.0) += sample.cores;
    }
    all
}

/// What nodes use in the seconds of announcements beyond what they use in the others; nothing when there are no others.
fn cpu_seconds(announcements: &[Announcement], cores: &BTreeMap<u32, f64>, steady: &[u32]) -> Option<f64> {
    let is_busy = |second: u32| {
        let lasts = |one: &Announcement| (one.max_ms / 1e3).ceil() as u32 + AFTER_S;
        // A sample is taken some time in its second, and speaks of that long before it as well.
        announcements.iter().any(|one| (one.second..=one.second + lasts(one)).contains(&second))
    };
    let used = |want_busy: bool| -> Vec<f64> {
        let those = steady.iter().filter(|second| is_busy(**second) == want_busy);
        those.filter_map(|second| cores.get(second)).copied().collect()
    };
    let (busy, idle) = (used(true), used(false));
    let mean = idle.iter().sum::<f64>() / idle.len() as f64;
    (!idle.is_empty() && !busy.is_empty()).then(|| busy.iter().sum::<f64>() - mean * busy.len() as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timeline::Sample;

    #[test]
    fn deliveries_are_divided_by_the_cpu_that_they_took() {
        let mut tally = Tally::default();
        for second in [10, 20] {
            let cell = tally.at(second, Operation::Deliver);
            cell.offered = 1_000;
            (0..1_000).for_each(|_| cell.end(Outcome::Ok, Duration::from_millis(500)));
        }
        // 0.1 cores each, and 0.5 more for a second after each announcement, which two samples share.
        let node = |name: &str| {
            let cores = |second: u32| match second {
                10 | 20 => 0.2,
                11 | 21 => 0.5,
                _ => 0.1,
            };
            let sample = |second: u32| Sample {
                second: f64::from(second) + 0.05,
                cores: cores(second),
                threads: 1,
                ..Sample::default()
            };
            ProcessUsage::made_of(name, Part::Node, (0..30).map(sample).collect())
        };
        let steady: Vec<u32> = (2..30).collect();
        let found = of(&tally, &[node("n1"), node("n2")], &steady).expect("announcements");
        assert_eq!(found.announcements.len(), 2);
        assert!((found.cpu_seconds - 2.0).abs() < 0.01, "{found:?}");
        assert!((found.per_core.expect("known") - 1_000.0).abs() < 10.0, "{found:?}");
        assert!((found.deliveries_per_second - 2_000.0).abs() < 50.0, "{found:?}");
        // Announced all the time: nobody can say what the rest takes.
        let all: Vec<u32> = vec![10, 11, 20, 21];
        assert_eq!(cpu_seconds(&found.announcements, &cores(&[node("n1")]), &all), None);
        assert!(of(&Tally::default(), &[node("n1")], &steady).is_none());
    }
}
