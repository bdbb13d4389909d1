use std::time::Duration;

use super::*;
use crate::refusal::NotOpen;
use crate::report::Summary;
use crate::timeline::{Stage, StageKind};

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
        swept: cell(1_000, 5),
        served_again_ms: 3_000.0,
        has_faults: true,
        connected: Connected { asked: 1_000, opened: 1_000, not_open: Vec::new() },
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
    let all: [fn(&mut Facts); 10] = [
        errors,
        unknown,
        |facts| facts.calls = cell(9_000, 101),
        |facts| facts.calls.latency.reset(),
        |facts| facts.lost = 1,
        |facts| facts.swept.offered += 20,
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

fn multiple() -> Multiple {
    let mut calls = Summary { offered: 20_000, p99_ms: 200.0, ..Summary::default() };
    calls.outcomes.extend([("ok".to_owned(), 950), ("refused".to_owned(), 19_050)]);
    Multiple {
        wanted: 20.0,
        achieved: 19.5,
        stage: Stage { kind: StageKind::Excess { multiple: 20.0 }, from: 10, until: 20, per_second: 2_000.0 },
        ok_per_second: 95.0,
        of_peak: 0.95,
        calls,
        late_p99_ms: 5.0,
        recovered_s: Some(3),
    }
}

fn beyond_the_peak(change: impl Fn(&mut Multiple)) -> Verdict {
    verdict(|facts| {
        let mut one = multiple();
        change(&mut one);
        let (steps, multiples) = (Vec::new(), vec![one]);
        facts.overload = Some(Overloaded { peak_per_second: 100.0, steps, multiples });
    })
}

#[test]
fn beyond_the_peak_each_limit_counts_for_the_side_whose_it_is() {
    assert_eq!(beyond_the_peak(|_| ()), Verdict::Good);
    let of_the_gateway: [fn(&mut Multiple); 7] = [
        |one| one.of_peak = 0.89,
        |one| one.calls.p99_ms = 501.0,
        |one| one.recovered_s = Some(11),
        |one| one.recovered_s = None,
        |one| one.calls.outcomes.extend([("error".to_owned(), 21)]),
        |one| one.calls.outcomes.extend([("unknown".to_owned(), 21)]),
        |one| one.calls.outcomes.extend([("silent".to_owned(), 21)]),
    ];
    for (index, change) in of_the_gateway.into_iter().enumerate() {
        assert_eq!(beyond_the_peak(change), Verdict::NotGood, "{index}");
    }
    assert_eq!(beyond_the_peak(|one| one.achieved = 17.9), Verdict::GeneratorLimited);
    assert_eq!(beyond_the_peak(|one| one.late_p99_ms = 101.0), Verdict::GeneratorLimited);
}

#[test]
fn nodes_that_end_or_grow_are_not_good_and_trends_must_be_known() {
    let trend = |slope: f64, drift: f64| Trend {
        node: "n1".to_owned(),
        minutes: 50.0,
        memory_mib_per_minute: slope,
        descriptors_drift: drift,
        threads_drift: 0.0,
        tasks_drift: None,
    };
    let limits = Limits { memory_mib_per_minute: Some(1.0), drift_max: Some(0.02), ..Limits::default() };
    let of = |trends: Vec<Trend>| judge(&Facts { trends, ..good() }, &limits).0;
    assert_eq!(of(vec![trend(0.4, 0.01), trend(0.4, -0.01)]), Verdict::Good);
    assert_eq!(of(vec![trend(0.6, 0.0), trend(0.6, 0.0)]), Verdict::NotGood, "all nodes together");
    assert_eq!(of(vec![trend(0.0, -0.03)]), Verdict::NotGood);
    assert_eq!(of(vec![trend(0.0, -0.03), trend(0.0, 0.03)]), Verdict::Good, "streams wander between nodes");
    assert_eq!(of(vec![trend(0.0, 0.01), trend(0.0, 0.04)]), Verdict::NotGood);
    assert_eq!(of(Vec::new()), Verdict::NotGood);
    let told = |drift: f64| Trend { tasks_drift: Some(drift), ..trend(0.4, 0.0) };
    assert_eq!(of(vec![told(0.01), trend(0.4, 0.0)]), Verdict::Good);
    assert_eq!(of(vec![told(0.01), told(0.04)]), Verdict::NotGood, "tasks that stay");
    assert_eq!(verdict(|facts| facts.trends = vec![trend(9.0, 9.0)]), Verdict::Good, "without limits it is told only");

    assert_eq!(verdict(|facts| facts.died = vec!["n2".to_owned()]), Verdict::NotGood);
    let held = |oom_kills| Held {
        node: "n1".to_owned(),
        cpu_max: None,
        memory_max: Some(512 << 20),
        memory_peak_bytes: Some(1),
        oom_kills,
        throttled: 0.0,
    };
    for (kills, wanted) in [(0, Verdict::Good), (1, Verdict::NotGood)] {
        let killed = |facts: &mut Facts| {
            facts.memory_max = Some(512 << 20);
            facts.held = vec![held(kills)];
        };
        assert_eq!(verdict(killed), wanted);
    }
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

/// So many opened of 1,000; the rest did not for this reason.
fn opened(facts: &mut Facts, opened: u64, why: &str, is_said: bool) {
    let one = NotOpen { why: why.to_owned(), given_up: 1_000 - opened, tries: 5 * (1_000 - opened), is_said };
    facts.connected = Connected { asked: 1_000, opened, not_open: vec![one] };
}

#[test]
fn sessions_that_a_node_has_no_room_for_are_the_gateways_and_others_are_on_a_quiet_host() {
    let judged = |change: &dyn Fn(&mut Facts), busy: f64| {
        let mut facts = Facts { host_busy: Some(busy), ..good() };
        change(&mut facts);
        let (verdict, _, reasons) = judge(&facts, &Limits::default());
        (verdict, reasons.join("; "))
    };
    let no_memory = |facts: &mut Facts| opened(facts, 710, "503 (memory)", true);
    let (verdict, reasons) = judged(&no_memory, 0.99);
    assert_eq!(verdict, Verdict::NotGood, "however busy");
    assert_eq!(reasons, "710 of 1000 connected, refused with 503 (memory)");
    let silent = |facts: &mut Facts| opened(facts, 710, "silent", false);
    assert_eq!(judged(&silent, 0.99).0, Verdict::GeneratorLimited);
    assert_eq!(judged(&silent, 0.5), (Verdict::NotGood, "710 of 1000 connected, silent".to_owned()));
    assert_eq!(judged(&|facts| opened(facts, 0, "unreached", false), 0.99).0, Verdict::NotGood, "nobody at all");
    assert_eq!(judged(&|facts| opened(facts, 999, "503 (memory)", true), 0.5), (Verdict::Good, String::new()));
    let died = |facts: &mut Facts| facts.died = vec!["n2 died in second 5: killed by SIGKILL (9)".to_owned()];
    assert_eq!(judged(&died, 0.99), (Verdict::NotGood, "n2 died in second 5: killed by SIGKILL (9)".to_owned()));
}
