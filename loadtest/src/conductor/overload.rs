//! More calls than the gateway can take: the search for its peak, then multiples of it with rests between them.

use anyhow::{Result, ensure};

use super::Conductor;
use crate::outcome::Outcome;
use crate::proto::{Rate, to_worker};
use crate::scenario::Overload;
use crate::tally::Operation;
use crate::timeline::{Stage, StageKind};

/// A step grows when it brings this much more than the best before.
const GROWS: f64 = 1.03;
/// So many steps in a row that do not grow are the end of the search.
const FLAT_STEPS: u32 = 2;
/// A search that goes on for longer has no peak that this generator can reach.
const STEPS_MAX: usize = 40;
/// From a change of the rate until it is in force: all workers have heard of it by then.
const AHEAD_S: u32 = 2;
/// Workers say what they counted once a second.
const REPORTED_AFTER_S: u32 = 2;

/// Looks for the rate from which on no more is answered. Pure.
#[derive(Debug)]
struct Search {
    grow: f64,
    rate: f64,
    best: f64,
    flat: u32,
}

impl Search {
    fn new(rate: f64, grow: f64) -> Search {
        Search { grow, rate, best: 0.0, flat: 0 }
    }

    /// A step at this rate brought so many good answers per second. True when there is no need for another.
    fn took(&mut self, ok_per_second: f64) -> bool {
        self.flat = if ok_per_second > self.best * GROWS { 0 } else { self.flat + 1 };
        self.best = self.best.max(ok_per_second);
        self.rate *= self.grow;
        self.flat >= FLAT_STEPS
    }
}

impl Conductor {
    /// All of it, from a second at which calls have begun at the scenario's rate. Returns the seconds of its begin and end.
    pub(super) async fn overload(&mut self, from: u32, plan: &Overload) -> Result<(u32, u32)> {
        let peak = self.search(from, plan).await?;
        self.timeline.peak = Some(peak);
        self.console.say(&format!("peak: {peak:.0} calls/s answered"));
        let rest = plan.rest * peak;
        let hold = self.setup.scenario.hold;
        let each = whole(plan.each);
        let between = whole(plan.rest_for);
        let mut at = self.next_second();
        let until = self.stage(StageKind::Settling, at, between, rest).await?;
        // No stage: this is the steady state.
        at = until + whole(hold);
        self.go_on_until("hold", at - AHEAD_S).await?;
        for multiple in &plan.multiples {
            at = self.stage(StageKind::Excess { multiple: *multiple }, at, each, multiple * peak).await?;
            at = self.stage(StageKind::Rest { multiple: *multiple }, at, between, rest).await?;
        }
        self.go_on_until("rest", at).await?;
        Ok((from, at))
    }

    /// Steps, each with a pause behind it in which all answers come in; the most that a step brought, per second.
    async fn search(&mut self, from: u32, plan: &Overload) -> Result<f64> {
        let calls = &self.setup.scenario.calls;
        let mut search = Search::new(calls.per_second, plan.grow);
        let pause = whole(calls.patience) + REPORTED_AFTER_S;
        let step = whole(plan.step);
        let mut at = from;
        for _ in 0..STEPS_MAX {
            let until = self.stage(StageKind::Step, at, step, search.rate).await?;
            self.rate(until, 0.0).await;
            self.go_on_until("search", until + pause).await?;
            let ok = self.timeline.tally.sum(Operation::Call, |second| (at..until).contains(&second)).of(Outcome::Ok);
            let per_second = ok as f64 / f64::from(step);
            self.console.say(&format!("{:8.0} calls/s due, {per_second:.0} answered", search.rate));
            if search.took(per_second) {
                ensure!(search.best > 0.0, "not a single call was answered well");
                return Ok(search.best);
            }
            at = self.next_second();
        }
        anyhow::bail!("no peak up to {:.0} calls/s: hold the nodes to less (cpu_max)", search.rate)
    }

    /// A rate for some seconds. Returns the second at which they end, early enough to say what comes then.
    async fn stage(&mut self, kind: StageKind, from: u32, seconds: u32, per_second: f64) -> Result<u32> {
        self.rate(from, per_second).await;
        let stage = Stage { kind, from, until: from + seconds, per_second };
        let (name, until) = (stage.name(), stage.until);
        self.timeline.stages.push(stage);
        self.go_on_until(&name, until - AHEAD_S).await?;
        Ok(until)
    }

    async fn go_on_until(&mut self, phase: &str, second: u32) -> Result<()> {
        self.go_on(phase, |conductor| conductor.clock.now() >= f64::from(second)).await
    }

    async fn rate(&self, second: u32, calls_per_second: f64) {
        self.say_to_all(&to_worker::Message::Rate(Rate { second, calls_per_second })).await;
    }

    fn next_second(&self) -> u32 {
        self.clock.now() as u32 + AHEAD_S
    }
}

fn whole(time: std::time::Duration) -> u32 {
    time.as_secs_f64().ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers up to 1,000 per second, and of what is more a little less.
    fn answers(offered: f64) -> f64 {
        if offered <= 1_000.0 { offered } else { 1_000.0 - (offered - 1_000.0) * 0.01 }
    }

    #[test]
    fn the_search_ends_where_answers_stop_to_grow() {
        for grow in [1.1, 1.3, 2.0] {
            let mut search = Search::new(100.0, grow);
            let mut steps = 0;
            while !search.took(answers(search.rate)) {
                steps += 1;
                assert!(steps < STEPS_MAX, "by {grow}");
            }
            assert!(search.best > 1_000.0 / grow && search.best <= 1_000.0, "by {grow}: {}", search.best);
        }
    }

    #[test]
    fn one_bad_step_does_not_end_it() {
        let mut search = Search::new(100.0, 1.5);
        assert!(!search.took(100.0) && !search.took(20.0) && !search.took(225.0) && !search.took(220.0));
        assert!(search.took(200.0));
        assert!((search.best - 225.0).abs() < 1e-9);
    }
}
