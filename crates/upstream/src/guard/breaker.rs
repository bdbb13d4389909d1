//! The breaker's state machine: closed, open after failures in a row, half-open with one trial at a time. Pure: time and
//! randomness are arguments.

use crate::backoff;
use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
pub(crate) const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time; doubled with each failed trial, and spread.
const OPEN_BASE: Duration = Duration::from_millis(250);
/// The longest that it stays open.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// One upstream's breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls pass; so many have failed in a row.
    Closed { failures: u32 },
    /// Nothing passes until then; opened so often in a row.
    Open { until: Instant, rounds: u32 },
    /// One trial passes; its outcome decides.
    HalfOpen { rounds: u32, trying: bool },
}

/// What a call that was let through is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// One of many.
    Normal,
    /// The one that decides whether the upstream is back.
    Trial,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }

    /// Lets a call through, or nothing.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed { .. } => Some(Pass::Normal),
            State::Open { until, .. } if now < until => None,
            State::Open { rounds, .. } | State::HalfOpen { rounds, trying: false } => {
                self.state = State::HalfOpen { rounds, trying: true };
                Some(Pass::Trial)
            }
            State::HalfOpen { trying: true, .. } => None,
        }
    }

    /// True while nothing, or only a trial, passes.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// A call got an answer: the upstream works, whoever asked.
    pub(crate) fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// A call found the upstream unreachable, lost, too late or broken.
    pub(crate) fn failed(&mut self, now: Instant, random: u32) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => State::Closed { failures: failures + 1 },
            State::Closed { .. } => open(now, 1, random),
            State::HalfOpen { rounds, .. } => open(now, rounds + 1, random),
            // Calls from before it opened say nothing new.
            open @ State::Open { .. } => open,
        };
    }

    /// A trial ended without telling anything: the next call is the trial.
    pub(crate) fn abandoned(&mut self) {
        if let State::HalfOpen { rounds, .. } = self.state {
            self.state = State::HalfOpen { rounds, trying: false };
        }
    }
}

fn open(now: Instant, rounds: u32, random: u32) -> State {
    State::Open { until: now + backoff::delay(OPEN_BASE, OPEN_MAX, rounds, random), rounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step: what happens at which millisecond, and (for an admission) what must come of it.
    enum Step {
        Admit(u64, Option<Pass>),
        Fail(u64),
        Succeed,
        Abandon,
    }
    use Step::{Abandon, Admit, Fail, Succeed};

    fn run(name: &str, steps: &[Step]) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut breaker = Breaker::new();
        for (index, step) in steps.iter().enumerate() {
            match *step {
                Admit(ms, expected) => assert_eq!(breaker.admit(at(ms)), expected, "{name}: step {index}"),
                Fail(ms) => breaker.failed(at(ms), u32::MAX),
                Succeed => breaker.succeeded(),
                Abandon => breaker.abandoned(),
            }
        }
    }

    const NORMAL: Option<Pass> = Some(Pass::Normal);
    const TRIAL: Option<Pass> = Some(Pass::Trial);

    #[test]
    fn table() {
        run("stays closed below the limit", &[Fail(0), Fail(0), Fail(0), Fail(0), Admit(0, NORMAL)]);
        run(
            "a success starts the count anew",
            &[Fail(0), Fail(0), Fail(0), Fail(0), Succeed, Fail(0), Admit(0, NORMAL)],
        );
        let opened = || vec![Fail(0), Fail(0), Fail(0), Fail(0), Fail(0)];
        let with = |more: Vec<Step>| opened().into_iter().chain(more).collect::<Vec<_>>();
        run(
            "opens, then tries once",
            &with(vec![Admit(0, None), Admit(249, None), Admit(250, TRIAL), Admit(250, None)]),
        );
        run("a good trial closes", &with(vec![Admit(250, TRIAL), Succeed, Admit(251, NORMAL), Admit(251, NORMAL)]));
        run(
            "a bad trial opens for longer",
            &with(vec![Admit(250, TRIAL), Fail(250), Admit(749, None), Admit(750, TRIAL)]),
        );
        run("an abandoned trial frees the place", &with(vec![Admit(250, TRIAL), Abandon, Admit(251, TRIAL)]));
        run("stragglers do not prolong it", &with(vec![Fail(200), Fail(240), Admit(250, TRIAL)]));
        run("abandoning while closed is nothing", &[Abandon, Admit(0, NORMAL)]);
    }
}
