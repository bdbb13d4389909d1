//! What grows while streams are held: lines through the nodes' memory, descriptors, threads and tasks. Pure.

use serde::{Deserialize, Serialize};

use crate::scenario::TREND_MIN;
use crate::timeline::{Part, ProcessUsage, Sample};

/// A line through less says nothing.
const MINUTES_MIN: f64 = TREND_MIN.as_secs_f64() / 60.0;
/// A node that was there for less of the time is left out.
const THERE_MIN: f64 = 0.9;

/// A drift is from the first of so many parts of the time to the last one.
const PARTS: usize = 10;

/// Of one node, after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trend {
    pub(crate) node: String,
    pub(crate) minutes: f64,
    pub(crate) memory_mib_per_minute: f64,
    /// From the median of the first tenth of the time to that of the last, as a share of the median of all: a moment says
    /// nothing.
    pub(crate) descriptors_drift: f64,
    pub(crate) threads_drift: f64,
    /// Where the node tells them.
    #[serde(default)]
    pub(crate) tasks_drift: Option<f64>,
}

/// Of all nodes that were there from `from` to `until`, in seconds.
pub(super) fn of(processes: &[ProcessUsage], from: f64, until: f64) -> Vec<Trend> {
    let minutes = (until - from) / 60.0;
    if minutes < MINUTES_MIN {
        return Vec::new();
    }
    let nodes = processes.iter().filter(|process| process.part == Part::Node);
    nodes.filter_map(|node| trend(node, from, until)).collect()
}

fn trend(node: &ProcessUsage, from: f64, until: f64) -> Option<Trend> {
    let samples: Vec<&Sample> = node.samples.iter().filter(|one| one.second >= from && one.second < until).collect();
    let there = samples.last()?.second - samples.first()?.second;
    if there < (until - from) * THERE_MIN {
        return None;
    }
    let minutes = there / 60.0;
    let is_told = samples.iter().any(|sample| sample.tasks.is_some());
    let drift = |count: fn(&Sample) -> Option<u64>| {
        drift(&samples.iter().filter_map(|sample| count(sample)).map(|count| count as f64).collect::<Vec<f64>>())
    };
    let memory = samples.iter().map(|sample| (sample.second / 60.0, sample.memory_bytes as f64));
    Some(Trend {
        node: node.name.clone(),
        minutes,
        memory_mib_per_minute: slope(memory) / f64::from(1 << 20),
        descriptors_drift: drift(|sample| sample.descriptors),
        threads_drift: drift(|sample| Some(sample.threads)),
        tasks_drift: is_told.then(|| drift(|sample| sample.tasks)),
    })
}

/// Of counts in the order of their times, which are alike far apart.
fn drift(counts: &[f64]) -> f64 {
    let part = counts.len().div_ceil(PARTS);
    let all = median(counts);
    let (first, last) = (median(&counts[..part]), median(&counts[counts.len() - part..]));
    if all > 0.0 { (last - first) / all } else { 0.0 }
}

fn median(counts: &[f64]) -> f64 {
    let mut sorted = counts.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    f64::midpoint(middle(sorted.len().saturating_sub(1) / 2), middle(sorted.len() / 2))
}

/// Of the line with the least squares; level, if there are not two points at different times.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.collect();
    let count = points.len().max(1) as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let common: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean)).sum();
    if spread > 0.0 { common / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, until: u32, memory: impl Fn(f64) -> f64, descriptors: impl Fn(f64) -> f64) -> ProcessUsage {
        let sample = |second: u32| {
            let minute = f64::from(second) / 60.0;
            let descriptors = second.is_multiple_of(10).then(|| descriptors(minute) as u64);
            let tasks = descriptors.filter(|_| name == "n1").map(|count| count / 2);
            let memory_bytes = memory(minute) as u64;
            Sample { second: f64::from(second), memory_bytes, descriptors, threads: 5, tasks, ..Sample::default() }
        };
        ProcessUsage::made_of(name, Part::Node, (0..until).map(sample).collect())
    }

    #[test]
    fn what_grows_after_the_warm_up_is_told_from_noise_and_the_warm_up() {
        let mib = f64::from(1 << 20);
        // 50 MiB in the first minute; then 2 MiB per minute, with a wave on it.
        let grows = |minute: f64| mib * (100.0 + 50.0 * minute.min(1.0) + 2.0 * minute + (minute * 40.0).sin());
        let flat = |minute: f64| mib * (100.0 + (minute * 40.0).sin());
        let nodes = [
            node("n1", 600, grows, |minute| 1_000.0 + 10.0 * minute),
            node("n2", 600, flat, |_| 1_000.0),
            node("n3", 200, flat, |_| 1_000.0),
        ];
        let trends = of(&nodes, 60.0, 600.0);
        let [one, other] = &trends[..] else { panic!("the node that went is left out: {trends:?}") };
        assert!((one.memory_mib_per_minute - 2.0).abs() < 0.1, "{one:?}");
        assert!((one.descriptors_drift - 0.08).abs() < 0.01, "{one:?}");
        assert!(other.memory_mib_per_minute.abs() < 0.1 && other.descriptors_drift.abs() < 0.001, "{other:?}");
        assert!(one.threads_drift.abs() < 1e-9);
        assert!(one.tasks_drift.is_some_and(|drift| (drift - 0.08).abs() < 0.01), "{one:?}");
        assert_eq!(other.tasks_drift, None, "it does not tell them");
        assert_eq!(of(&nodes, 60.0, 70.0), [], "too short");
    }

    #[test]
    fn a_line_through_nothing_is_level() {
        for points in [Vec::new(), vec![(1.0, 5.0), (1.0, 7.0)]] {
            assert!(slope(points.into_iter()).abs() < 1e-9);
        }
        assert!(drift(&[]).abs() < 1e-9 && drift(&[5.0]).abs() < 1e-9);
    }

    #[test]
    fn a_moment_is_no_drift_and_a_step_is_one() {
        // Once in the last tenth, for less than half of it, there are three times as many.
        let moment = |minute: f64| if (9.2..9.5).contains(&minute) { 3_000.0 } else { 1_000.0 };
        // From the middle on a tenth more, for good.
        let step = |minute: f64| if minute > 5.0 { 1_100.0 } else { 1_000.0 };
        let flat = |_: f64| 1e8;
        let nodes = [node("n1", 600, flat, moment), node("n2", 600, flat, step)];
        let trends = of(&nodes, 0.0, 600.0);
        let [moment, step] = &trends[..] else { panic!("{trends:?}") };
        assert!(moment.descriptors_drift.abs() < 1e-9 && moment.tasks_drift.is_some_and(|drift| drift.abs() < 1e-9));
        assert!((step.descriptors_drift - 0.1).abs() < 0.006, "{step:?}");
    }
}
