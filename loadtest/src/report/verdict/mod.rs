//! When a run is good, not good, or says nothing. Pure.
//!
//! The generator is judged first: where it could not do what was due, what it measured is not the gateway's.

use super::overload::{Multiple, Overloaded};
use super::trend::Trend;
use super::{Check, Connected, Side, Verdict};
use crate::outcome::Outcome;
use crate::scenario::Limits;
use crate::tally::Cell;
use crate::timeline::Held;

/// A worker that uses more than this share of its one core sends late what it should send now.
pub(super) const WORKER_CORES_MAX: f64 = 0.9;
/// A host busier than this in the steady state says nothing about those that share it.
pub(super) const HOST_BUSY_MAX: f64 = 0.95;
/// Streams that must be there, and notices that must arrive.
const COMPLETE_MIN: f64 = 0.999;
/// Of a multiple of the peak, what must be sent in fact.
const MULTIPLE_MIN: f64 = 0.9;
/// 99th percentile of how late the generator may be beyond the peak, where it has much to do itself.
const LATE_BEYOND_MS_MAX: f64 = 100.0;

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
    /// Sessions that were asked for once more at the end.
    pub(super) swept: Cell,
    /// Sessions and streams that were not served again at all.
    pub(super) never: u64,
    /// The longest time until a stream or a session was served again, in milliseconds.
    pub(super) served_again_ms: f64,
    pub(super) has_faults: bool,
    pub(super) connected: Connected,
    pub(super) streams_fewest: u64,
    /// The busiest worker in the steady state, in cores; of those that are watched.
    pub(super) worker_cores: f64,
    /// Of the host that generator and gateway share, if they do.
    pub(super) host_busy: Option<f64>,
    /// Seconds of the steady state.
    pub(super) steady_seconds: u32,
    pub(super) overload: Option<Overloaded>,
    pub(super) trends: Vec<Trend>,
    /// Nodes that ended by themselves, when and how.
    pub(super) died: Vec<String>,
    pub(super) memory_max: Option<u64>,
    pub(super) held: Vec<Held>,
}

/// All checks, what they say together, and what is the gateway's however busy the generator was.
pub(super) fn judge(facts: &Facts, limits: &Limits) -> (Verdict, Vec<Check>, Vec<String>) {
    let mut checks = of_the_generator(facts, limits);
    checks.extend(of_the_gateway(facts, limits));
    checks.extend(of_the_nodes(facts));
    checks.extend(facts.overload.iter().flat_map(|overload| &overload.multiples).flat_map(|one| beyond(one, limits)));
    checks.extend(of_trends(&facts.trends, limits));
    let is_met = |side: Side| checks.iter().filter(|check| check.side == side).all(|check| check.is_met);
    let verdict = match (is_met(Side::Generator), is_met(Side::Gateway)) {
        (false, _) if is_the_gateways(facts) => Verdict::NotGood,
        (false, _) => Verdict::GeneratorLimited,
        (true, true) => Verdict::Good,
        (true, false) => Verdict::NotGood,
    };
    let reasons = facts.died.iter().cloned().chain(facts.connected.missing().filter(|_| !is_connected(facts)));
    (verdict, checks, reasons.collect())
}

/// However busy the generator was: a lost session, a wrong answer, a node that died, sessions that a node did not take
/// because, as it says, it has no room for them, and a gateway that nobody could connect to.
fn is_the_gateways(facts: &Facts) -> bool {
    let is_said = facts.connected.not_open.iter().any(|one| one.is_said && one.given_up > 0);
    let is_shut = facts.connected.opened == 0;
    facts.lost + facts.wrong > 0 || !facts.died.is_empty() || !is_connected(facts) && (is_said || is_shut)
}

fn is_connected(facts: &Facts) -> bool {
    share(facts.connected.opened, facts.connected.asked) >= COMPLETE_MIN
}

fn check(side: Side, what: &str, limit: String, measured: String, is_met: bool) -> Check {
    Check { what: what.to_owned(), limit, measured, side, is_met }
}

/// One multiple of the peak.
fn beyond(one: &Multiple, limits: &Limits) -> Vec<Check> {
    let name = |what: &str| format!("{}x: {what}", one.wanted);
    let gateway = |what: &str, limit, measured, is_met| check(Side::Gateway, &name(what), limit, measured, is_met);
    let generator = |what: &str, limit, measured, is_met| check(Side::Generator, &name(what), limit, measured, is_met);
    let (wanted, achieved, late) = (one.wanted * MULTIPLE_MIN, one.achieved, one.late_p99_ms);
    let ended = |name: &str| one.calls.outcomes.get(name).copied().unwrap_or(0);
    let of_all = |count: u64| count as f64 / one.calls.offered.max(1) as f64;
    let others = of_all(["error", "unknown", "lost", "wrong"].into_iter().map(ended).sum());
    let silent = of_all(ended("silent"));
    let p99 = one.calls.p99_ms;
    let took = one.recovered_s.map_or("never".to_owned(), |seconds| format!("{seconds} s"));
    let recovered = one.recovered_s.is_some_and(|seconds| f64::from(seconds) <= limits.recovered.as_secs_f64());
    vec![
        generator("sent in fact", format!("{wanted:.1}x"), format!("{achieved:.2}x"), achieved >= wanted),
        generator(
            "lateness of the generator, p99",
            format!("{LATE_BEYOND_MS_MAX:.0} ms"),
            format!("{late:.1} ms"),
            late <= LATE_BEYOND_MS_MAX,
        ),
        gateway(
            "goodput of the peak",
            percent(limits.goodput_min),
            percent(one.of_peak),
            one.of_peak >= limits.goodput_min,
        ),
        gateway(
            "answered well, p99",
            format!("{:.0} ms", limits.admitted_p99_ms),
            format!("{p99:.1} ms"),
            p99 <= limits.admitted_p99_ms,
        ),
        gateway(
            "neither ok nor refused with Retry-After",
            percent(limits.errors_max),
            percent(others),
            others <= limits.errors_max,
        ),
        gateway("no answer at all", percent(limits.silent_max), percent(silent), silent <= limits.silent_max),
        gateway("as before after", format!("{} s", limits.recovered.as_secs_f64()), took, recovered),
    ]
}

fn of_the_nodes(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if !facts.died.is_empty() {
        checks.push(check(
            Side::Gateway,
            "nodes that ended by themselves",
            "0".to_owned(),
            facts.died.join(", "),
            false,
        ));
    }
    if let Some(bytes) = facts.memory_max {
        let kills: u64 = facts.held.iter().map(|node| node.oom_kills).sum();
        let what = format!("killed for more memory than {} MiB", bytes >> 20);
        checks.push(check(Side::Gateway, &what, "0".to_owned(), kills.to_string(), kills == 0));
    }
    checks
}

fn of_trends(trends: &[Trend], limits: &Limits) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(limit) = limits.memory_mib_per_minute {
        let slope: f64 = trends.iter().map(|node| node.memory_mib_per_minute).sum();
        // Without a line nothing is known.
        let is_met = !trends.is_empty() && slope < limit;
        let (limit, measured) = (format!("{limit} MiB/min"), format!("{slope:+.3} MiB/min"));
        checks.push(check(Side::Gateway, "growth of the nodes' memory after the warm-up", limit, measured, is_met));
    }
    if let Some(limit) = limits.drift_max {
        for (what, drift) in [
            ("change of the nodes' descriptors", (|node| Some(node.descriptors_drift)) as fn(&Trend) -> Option<f64>),
            ("change of the nodes' threads", |node| Some(node.threads_drift)),
            ("change of the nodes' tasks", |node| node.tasks_drift),
        ] {
            let told: Vec<f64> = trends.iter().filter_map(drift).collect();
            if told.is_empty() && !trends.is_empty() {
                // No node tells it.
                continue;
            }
            // On average: clients come and go by chance, so that streams wander between nodes; what leaks is more in all.
            let change = (!told.is_empty()).then(|| told.iter().sum::<f64>() / told.len() as f64);
            let (measured, is_met) =
                (change.map_or("not known".to_owned(), percent), change.is_some_and(|change| change.abs() <= limit));
            checks.push(check(Side::Gateway, what, percent(limit), measured, is_met));
        }
    }
    checks
}

fn of_the_generator(facts: &Facts, limits: &Limits) -> Vec<Check> {
    let check =
        |what: &str, limit: String, measured: String, is_met| check(Side::Generator, what, limit, measured, is_met);
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
    let check =
        |what: &str, limit: String, measured: String, is_met| check(Side::Gateway, what, limit, measured, is_met);
    let sent = facts.asked.offered - facts.asked.of(Outcome::Unsent).min(facts.asked.offered);
    let not_ok = 1.0 - share(facts.asked.of(Outcome::Ok), sent);
    let Connected { asked, opened, .. } = facts.connected;
    let held = share(facts.streams_fewest, asked);
    let connected = facts.connected.missing().unwrap_or_else(|| format!("{opened} of {asked}"));
    // Without a session to ask for nothing is missing.
    let swept = if facts.swept.offered > 0 { share(facts.swept.of(Outcome::Ok), facts.swept.offered) } else { 1.0 };
    let mut checks = vec![
        check("sessions connected for the hold", percent(COMPLETE_MIN), connected, is_connected(facts)),
        check("streams held in the steady state", percent(COMPLETE_MIN), percent(held), held >= COMPLETE_MIN),
        check("not ok in the steady state", percent(limits.errors_max), percent(not_ok), not_ok <= limits.errors_max),
        check("sessions that answered at the end", percent(COMPLETE_MIN), percent(swept), swept >= COMPLETE_MIN),
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
mod tests;
