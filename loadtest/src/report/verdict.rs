//! When a run is good, not good, or says nothing. Pure.
//!
//! The generator is judged first: where it could not do what was due, what it measured is not the gateway's.

use super::{Check, Side, Verdict};
use crate::outcome::Outcome;
use crate::scenario::Limits;
use crate::tally::Cell;

/// A worker that uses more than this share of its one core sends late what it should send now.
pub(super) const WORKER_CORES_MAX: f64 = 0.9;
/// A host busier than this in the steady state says nothing about those that share it.
pub(super) const HOST_BUSY_MAX: f64 = 0.95;
/// Streams that must be there, and notices that must arrive.
const COMPLETE_MIN: f64 = 0.999;

/// What a run is judged by.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Calls and lists and all else that clients ask for, in the steady state.
    pub(super) asked: Cell,
    /// Only calls.
    pub(super) calls: Cell,
    pub(super) late: Cell,
    pub(super) delivered: Cell,
    /// In the whole run.
    pub(super) lost: u64,
    pub(super) wrong: u64,
    /// Sessions and streams that were not served again at all.
    pub(super) never: u64,
    /// The longest time until a stream or a session was served again, in milliseconds.
    pub(super) served_again_ms: f64,
    pub(super) has_faults: bool,
    pub(super) connections: u64,
    pub(super) streams_fewest: u64,
    /// The busiest worker in the steady state, in cores; of those that are watched.
    pub(super) worker_cores: f64,
    /// Of the host that generator and gateway share, if they do.
    pub(super) host_busy: Option<f64>,
    /// Seconds of the steady state.
    pub(super) steady_seconds: u32,
}

/// All checks, and what they say together.
pub(super) fn judge(facts: &Facts, limits: &Limits) -> (Verdict, Vec<Check>) {
    let mut checks = of_the_generator(facts, limits);
    checks.extend(of_the_gateway(facts, limits));
    let is_met = |side: Side| checks.iter().filter(|check| check.side == side).all(|check| check.is_met);
    let verdict = match (is_met(Side::Generator), is_met(Side::Gateway)) {
        // A lost session or a wrong answer is the gateway's, however busy the generator was.
        (false, _) if facts.lost + facts.wrong > 0 => Verdict::NotGood,
        (false, _) => Verdict::GeneratorLimited,
        (true, true) => Verdict::Good,
        (true, false) => Verdict::NotGood,
    };
    (verdict, checks)
}

fn of_the_generator(facts: &Facts, limits: &Limits) -> Vec<Check> {
    let check = |what: &str, limit: String, measured: String, is_met| Check {
        what: what.to_owned(),
        limit,
        measured,
        side: Side::Generator,
        is_met,
    };
    let sent =
        share(facts.asked.offered - facts.asked.of(Outcome::Unsent).min(facts.asked.offered), facts.asked.offered);
    let late = facts.late.ms(0.99);
    let mut checks = vec![
        check(
            "steady state, seconds",
            "1 or more".to_owned(),
            facts.steady_seconds.to_string(),
            facts.steady_seconds > 0,
        ),
        check("what was due was sent", percent(limits.achieved_min), percent(sent), sent >= limits.achieved_min),
        check(
            "lateness of the generator, p99",
            format!("{:.0} ms", limits.late_p99_ms),
            format!("{late:.1} ms"),
            late <= limits.late_p99_ms,
        ),
        check(
            "busiest worker",
            format!("{WORKER_CORES_MAX} cores"),
            format!("{:.2} cores", facts.worker_cores),
            facts.worker_cores <= WORKER_CORES_MAX,
        ),
    ];
    if let Some(busy) = facts.host_busy {
        checks.push(check("host that all share, busy", percent(HOST_BUSY_MAX), percent(busy), busy <= HOST_BUSY_MAX));
    }
    checks
}

fn of_the_gateway(facts: &Facts, limits: &Limits) -> Vec<Check> {
    let check = |what: &str, limit: String, measured: String, is_met| Check {
        what: what.to_owned(),
        limit,
        measured,
        side: Side::Gateway,
        is_met,
    };
    let sent = facts.asked.offered - facts.asked.of(Outcome::Unsent).min(facts.asked.offered);
    let not_ok = 1.0 - share(facts.asked.of(Outcome::Ok), sent);
    let held = share(facts.streams_fewest, facts.connections);
    let mut checks = vec![
        check("streams held in the steady state", percent(COMPLETE_MIN), percent(held), held >= COMPLETE_MIN),
        check("not ok in the steady state", percent(limits.errors_max), percent(not_ok), not_ok <= limits.errors_max),
        check("sessions lost", "0".to_owned(), facts.lost.to_string(), facts.lost == 0),
        check("wrong answers", "0".to_owned(), facts.wrong.to_string(), facts.wrong == 0),
    ];
    if facts.calls.offered > 0 {
        let p99 = facts.calls.ms(0.99);
        let is_met = p99 <= limits.p99_ms && !facts.calls.latency.is_empty();
        let limit = format!("{:.0} ms", limits.p99_ms);
        checks.push(check("calls in the steady state, p99", limit, format!("{p99:.1} ms"), is_met));
    }
    if facts.delivered.offered > 0 {
        let arrived = share(facts.delivered.of(Outcome::Ok), facts.delivered.offered);
        let is_met = arrived >= COMPLETE_MIN;
        checks.push(check("notices that arrived", percent(COMPLETE_MIN), percent(arrived), is_met));
    }
    if facts.has_faults {
        let (took, limit) = (facts.served_again_ms / 1e3, limits.served_again.as_secs_f64());
        let measured = format!("{took:.1} s, {} never", facts.never);
        let is_met = took <= limit && facts.never == 0;
        checks.push(check("all served again after a fault", format!("{limit} s"), measured, is_met));
    }
    checks
}

/// Nothing of nothing is everything.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cell(ok: u64, ms: u64) -> Cell {
        let mut cell = Cell { offered: ok, ..Cell::default() };
        (0..ok).for_each(|_| cell.end(Outcome::Ok, Duration::from_millis(ms)));
        cell
    }

    fn good() -> Facts {
        Facts {
            asked: cell(10_000, 5),
            calls: cell(9_000, 5),
            late: cell(10_000, 1),
            delivered: cell(100, 30),
            served_again_ms: 3_000.0,
            has_faults: true,
            connections: 1_000,
            streams_fewest: 1_000,
            worker_cores: 0.3,
            host_busy: Some(0.7),
            steady_seconds: 30,
            ..Facts::default()
        }
    }

    fn verdict(change: impl Fn(&mut Facts)) -> Verdict {
        let mut facts = good();
        change(&mut facts);
        judge(&facts, &Limits::default()).0
    }

    #[test]
    fn a_run_within_its_limits_is_good() {
        assert_eq!(verdict(|_| ()), Verdict::Good);
    }

    #[test]
    fn each_limit_of_the_gateway_counts() {
        let errors: fn(&mut Facts) = |facts| {
            facts.asked.offered += 20;
            (0..20).for_each(|_| facts.asked.end(Outcome::Error, Duration::ZERO));
        };
        let unknown: fn(&mut Facts) = |facts| {
            facts.asked.offered += 20;
            (0..20).for_each(|_| facts.asked.end(Outcome::Unknown, Duration::ZERO));
        };
        let all: [fn(&mut Facts); 9] = [
            errors,
            unknown,
            |facts| facts.calls = cell(9_000, 101),
            |facts| facts.calls.latency.reset(),
            |facts| facts.lost = 1,
            |facts| facts.wrong = 1,
            |facts| facts.never = 1,
            |facts| facts.served_again_ms = 10_001.0,
            |facts| facts.streams_fewest = 998,
        ];
        for (index, change) in all.into_iter().enumerate() {
            assert_eq!(verdict(change), Verdict::NotGood, "{index}");
        }
        assert_eq!(verdict(|facts| facts.delivered.offered = 200), Verdict::NotGood);
    }

    #[test]
    fn a_generator_at_its_limit_is_never_called_good_nor_the_gateway_bad() {
        let unsent: fn(&mut Facts) = |facts| {
            facts.asked.offered += 200;
            (0..200).for_each(|_| facts.asked.end(Outcome::Unsent, Duration::ZERO));
        };
        let all: [fn(&mut Facts); 5] = [
            unsent,
            |facts| facts.late = cell(1_000, 50),
            |facts| facts.worker_cores = 0.97,
            |facts| facts.host_busy = Some(0.99),
            |facts| facts.steady_seconds = 0,
        ];
        for (index, change) in all.into_iter().enumerate() {
            assert_eq!(verdict(change), Verdict::GeneratorLimited, "{index}");
            let slow = |facts: &mut Facts| {
                change(facts);
                facts.calls = cell(9_000, 500);
            };
            assert_eq!(verdict(slow), Verdict::GeneratorLimited, "{index}, and slow");
            let lost = |facts: &mut Facts| {
                change(facts);
                facts.lost = 1;
            };
            assert_eq!(verdict(lost), Verdict::NotGood, "{index}, and a session lost");
        }
    }
}
