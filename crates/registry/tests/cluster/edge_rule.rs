//! What an edge does about a failure: a table.

use enfilade_registry::{EdgeRule, Failure, NotServed, Timing, Verdict};

const NOT_EXECUTED: [Failure; 4] = [
    Failure::NotSent,
    Failure::NotServed(NotServed::NotOwner),
    Failure::NotServed(NotServed::NotReady),
    Failure::NotServed(NotServed::Busy),
];

fn rule(safe: bool, deadline_ms: Option<u64>) -> EdgeRule {
    EdgeRule::new(0, safe, deadline_ms, &Timing::default())
}

fn again(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Again { .. })
}

#[test]
fn what_was_not_executed_is_sent_again_until_the_hold_ends() {
    for failure in NOT_EXECUTED {
        for safe in [false, true] {
            let mut rule = rule(safe, None);
            for now_ms in (0..10_000).step_by(100) {
                assert!(again(rule.failed(now_ms, failure)), "{failure:?} at {now_ms}");
            }
            assert_eq!(rule.failed(10_000, failure), Verdict::Unavailable);
        }
    }
}

#[test]
fn an_unsafe_call_that_may_have_run_is_not_sent_again() {
    let mut rule = rule(false, None);
    assert!(again(rule.failed(0, Failure::NotSent)));
    assert_eq!(rule.failed(1, Failure::LostBeforeHead), Verdict::Unknown);
}

#[test]
fn a_safe_call_is_replayed_once() {
    let mut rule = rule(true, None);
    assert!(again(rule.failed(0, Failure::LostBeforeHead)));
    assert!(again(rule.failed(1, Failure::NotServed(NotServed::NotReady))), "the replay did not run");
    assert_eq!(rule.failed(2, Failure::LostBeforeHead), Verdict::Unknown);
}

#[test]
fn a_call_that_may_have_run_never_ends_as_not_executed() {
    let mut rule = rule(true, None);
    assert!(again(rule.failed(0, Failure::LostBeforeHead)) && rule.may_have_run());
    assert_eq!(rule.failed(10_000, Failure::NotServed(NotServed::NotOwner)), Verdict::Unknown);
}

#[test]
fn an_answer_that_began_is_never_asked_for_again() {
    for safe in [false, true] {
        assert_eq!(rule(safe, None).failed(0, Failure::LostInStream { resumable: true }), Verdict::EndStream);
        assert_eq!(rule(safe, None).failed(0, Failure::LostInStream { resumable: false }), Verdict::Unknown);
    }
}

#[test]
fn a_deadline_comes_before_the_end_of_the_hold() {
    let mut rule = rule(true, Some(300));
    assert_eq!(rule.until_ms(), 300);
    assert_eq!(rule.failed(295, Failure::NotSent), Verdict::Again { wait_ms: 5 });
    assert_eq!(rule.failed(300, Failure::NotSent), Verdict::Deadline { may_have_run: false });
    let mut late = self::rule(true, Some(60_000));
    assert_eq!(late.until_ms(), 10_000);
    assert!(again(late.failed(0, Failure::LostBeforeHead)));
    assert_eq!(late.failed(60_000, Failure::NotSent), Verdict::Deadline { may_have_run: true });
}

#[test]
fn waits_grow_and_stay_short() {
    let mut rule = rule(false, None);
    let waits: Vec<Verdict> = (0..7).map(|_| rule.failed(0, Failure::NotSent)).collect();
    let expected = [10, 20, 40, 80, 160, 200, 200].map(|wait_ms| Verdict::Again { wait_ms });
    assert_eq!(waits, expected);
}
