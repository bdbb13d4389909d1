//! What became of calls beyond the peak: the search, each multiple, and how long it took until all was as before. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::outcome::Outcome;
use crate::scenario::Limits;
use crate::tally::{Operation, Tally};
use crate::timeline::{Stage, StageKind};

/// Seconds in a row that are as before: then it has recovered, from the first of them on.
const NORMAL_SECONDS: u32 = 3;

/// A run with overload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overloaded {
    /// Most calls per second that were answered well in a step of the search.
    pub(crate) peak_per_second: f64,
    pub(crate) steps: Vec<Step>,
    pub(crate) multiples: Vec<Multiple>,
}

/// A step of the search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) due_per_second: f64,
    pub(crate) sent_per_second: f64,
    pub(crate) ok_per_second: f64,
    pub(crate) p99_ms: f64,
}

/// A multiple of the peak.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Multiple {
    pub(crate) wanted: f64,
    /// What was sent in fact, in peaks.
    pub(crate) achieved: f64,
    pub(crate) stage: Stage,
    /// Calls that were answered well, per second, and in peaks.
    pub(crate) ok_per_second: f64,
    pub(crate) of_peak: f64,
    pub(crate) calls: Summary,
    /// 99th percentile of how late the generator was.
    pub(crate) late_p99_ms: f64,
    /// Seconds from the end of the overload until all was as before; nothing when it never was.
    pub(crate) recovered_s: Option<u32>,
}

/// Nothing for a run without overload.
pub(super) fn of(stages: &[Stage], peak: Option<f64>, tally: &Tally, limits: &Limits) -> Option<Overloaded> {
    let peak = peak?;
    let steps = stages.iter().filter(|stage| stage.kind == StageKind::Step).map(|stage| step(stage, tally)).collect();
    let each = stages.iter().filter_map(|stage| match stage.kind {
        StageKind::Excess { multiple: wanted } => {
            let rest = stages.iter().find(|rest| rest.kind == StageKind::Rest { multiple: wanted });
            Some(multiple(wanted, stage, rest, peak, tally, limits))
        }
        _ => None,
    });
    Some(Overloaded { peak_per_second: peak, steps, multiples: each.collect() })
}

fn step(stage: &Stage, tally: &Tally) -> Step {
    let calls = tally.sum(Operation::Call, |second| stage.seconds().contains(&second));
    let per_second = |count: u64| count as f64 / stage.seconds().len().max(1) as f64;
    Step {
        due_per_second: per_second(calls.offered),
        sent_per_second: per_second(calls.offered.saturating_sub(calls.of(Outcome::Unsent))),
        ok_per_second: per_second(calls.of(Outcome::Ok)),
        p99_ms: calls.ms(0.99),
    }
}

fn multiple(wanted: f64, stage: &Stage, rest: Option<&Stage>, peak: f64, tally: &Tally, limits: &Limits) -> Multiple {
    let Step { sent_per_second, ok_per_second, .. } = step(stage, tally);
    let within = |second: u32| stage.seconds().contains(&second);
    let is_normal = |second: u32| {
        tally.get(second, Operation::Call).is_some_and(|calls| {
            let needed = calls.offered as f64 * limits.goodput_min;
            calls.of(Outcome::Ok) as f64 >= needed && calls.ms(0.99) <= limits.admitted_p99_ms
        })
    };
    Multiple {
        wanted,
        achieved: sent_per_second / peak,
        stage: stage.clone(),
        ok_per_second,
        of_peak: ok_per_second / peak,
        calls: Summary::of(&tally.sum(Operation::Call, within)),
        late_p99_ms: tally.sum(Operation::Late, within).ms(0.99),
        recovered_s: rest.and_then(|rest| recovered(&rest.seconds(), is_normal)),
    }
}

/// Seconds until the first of several in a row that are as before.
fn recovered(rest: &Range<u32>, is_normal: impl Fn(u32) -> bool) -> Option<u32> {
    let last = rest.end.saturating_sub(NORMAL_SECONDS);
    let first = (rest.start..=last).find(|from| (*from..from + NORMAL_SECONDS).all(&is_normal))?;
    Some(first - rest.start)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn multiples_are_of_what_was_sent_and_recovery_is_the_first_of_three_normal_seconds() {
        let mut tally = Tally::default();
        let mut put = |second: u32, count: u64, outcome: Outcome, ms: u64| {
            let cell = tally.at(second, Operation::Call);
            cell.offered += count;
            (0..count).for_each(|_| cell.end(outcome, Duration::from_millis(ms)));
        };
        let stage = |kind, from, until, per_second| Stage { kind, from, until, per_second };
        let stages = [
            stage(StageKind::Step, 0, 2, 100.0),
            stage(StageKind::Excess { multiple: 4.0 }, 10, 12, 400.0),
            stage(StageKind::Rest { multiple: 4.0 }, 12, 20, 50.0),
        ];
        (0..2).for_each(|second| put(second, 100, Outcome::Ok, 10));
        for second in 10..12 {
            put(second, 95, Outcome::Ok, 200);
            put(second, 205, Outcome::Refused, 1);
            put(second, 100, Outcome::Unsent, 0);
        }
        // Good, but slow; good; refused; then as before.
        put(12, 50, Outcome::Ok, 900);
        put(13, 50, Outcome::Ok, 20);
        put(14, 50, Outcome::Refused, 1);
        (15..20).for_each(|second| put(second, 50, Outcome::Ok, 20));
        let limits = Limits::default();
        let found = of(&stages, Some(100.0), &tally, &limits).expect("overload");
        let [step] = &found.steps[..] else { panic!("{found:?}") };
        assert!((step.ok_per_second - 100.0).abs() < 1e-9 && (step.due_per_second - 100.0).abs() < 1e-9);
        let [one] = &found.multiples[..] else { panic!("{found:?}") };
        assert!((one.achieved - 3.0).abs() < 1e-9, "what was not sent does not count: {one:?}");
        assert!((one.of_peak - 0.95).abs() < 1e-9, "{one:?}");
        assert_eq!(one.recovered_s, Some(3), "{one:?}");
        assert_eq!(recovered(&(12..14), |_| true), None, "too short to say");
        assert_eq!(recovered(&(12..20), |second| second % 3 != 0), None);
        assert!(of(&stages, None, &tally, &limits).is_none());
    }
}
