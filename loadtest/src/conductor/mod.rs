//! Leads a run: waits for the workers, lets them open their sessions, holds, lets faults happen, and ends it.

mod overload;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use crate::clock::{Clock, unix_ms};
use crate::console::Console;
use crate::coordinator::{Heard, Speaker, What};
use crate::proto::{Finish, Hello, Hold, Plan, Progress, Targets, from_worker, to_worker};
use crate::scenario::{Fault, FaultKind, Scenario};
use crate::timeline::{Event, Timeline, Watched};

/// Longest time for all workers to come.
const WORKERS_WITHIN: Duration = Duration::from_secs(600);
/// From the plan to second 0: the plan has arrived everywhere by then.
const HEAD_START_MS: u64 = 500;
/// The ramp may take this much longer than it should, and as long again, before the hold begins without the rest.
const RAMP_EXTRA: Duration = Duration::from_secs(60);
/// Workers look after the last sessions and end within this time.
const FINISH_WITHIN: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(200);
/// Faults that wait for the one under way.
pub(crate) const FAULTS_MAX: usize = 64;

/// Who makes faults happen. They are asked for one after the other.
pub(crate) struct Hands {
    pub(crate) faults: mpsc::Sender<Fault>,
    pub(crate) told: mpsc::Receiver<Told>,
}

/// What became of a fault, or what happened by itself.
pub(crate) struct Told {
    pub(crate) fault: Option<FaultKind>,
    pub(crate) began: Instant,
    pub(crate) text: String,
    /// Where clients connect from now on, if that has changed.
    pub(crate) targets: Option<Vec<String>>,
    /// Processes that are watched from now on.
    pub(crate) watched: Option<Watched>,
}

/// What a run is made of.
pub(crate) struct Setup {
    pub(crate) scenario: Scenario,
    pub(crate) workers: usize,
    pub(crate) targets: Vec<String>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) hands: Hands,
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) timeline: Timeline,
    pub(crate) workers: Vec<String>,
    pub(crate) begun_unix_ms: u64,
    /// Seconds at which the hold began and ended.
    pub(crate) hold: (u32, u32),
}

struct Worker {
    /// Dropped when it is done, which ends the exchange.
    speaker: Option<Speaker>,
    hello: Option<Hello>,
    is_done: bool,
}

struct Conductor {
    setup: Setup,
    clock: Clock,
    workers: Vec<Worker>,
    timeline: Timeline,
    console: Console,
    sampled: u32,
}

/// Leads the run from the arrival of the workers to their end.
pub(crate) async fn lead(setup: Setup) -> Result<Seen> {
    let console = Console::new(setup.scenario.connections);
    let begun_unix_ms = unix_ms() + HEAD_START_MS;
    let clock = Clock::starting_at(begun_unix_ms);
    let mut conductor =
        Conductor { setup, clock, workers: Vec::new(), timeline: Timeline::default(), console, sampled: 0 };
    conductor.gather().await?;
    let begun_unix_ms = conductor.plan().await?;
    conductor.ramp().await?;
    let hold = conductor.hold().await?;
    conductor.finish().await?;
    conductor.console.done();
    let name = |worker: &Worker| worker.hello.as_ref().map_or_else(String::new, |hello| hello.name.clone());
    let workers = conductor.workers.iter().map(name).collect();
    Ok(Seen { timeline: conductor.timeline, workers, begun_unix_ms, hold })
}

impl Conductor {
    async fn gather(&mut self) -> Result<()> {
        let wanted = self.setup.workers;
        let all_here = |workers: &[Worker]| workers.iter().filter(|one| one.hello.is_some()).count() >= wanted;
        let begun = Instant::now();
        while !all_here(&self.workers) {
            let Ok(heard) = timeout(WORKERS_WITHIN.saturating_sub(begun.elapsed()), self.setup.heard.recv()).await
            else {
                bail!("{} of {wanted} workers came within {WORKERS_WITHIN:?}", self.workers.len());
            };
            let Some(heard) = heard else { bail!("the coordinator does not listen any more") };
            self.hear(heard)?;
        }
        Ok(())
    }

    /// Tells the workers what to do; returns when second 0 begins.
    async fn plan(&mut self) -> Result<u64> {
        let start_unix_ms = unix_ms() + HEAD_START_MS;
        self.clock = Clock::starting_at(start_unix_ms);
        // What there was before the first connection.
        self.timeline.sample(0.0, &self.setup.watched);
        let scenario = serde_json::to_string(&self.setup.scenario)?;
        let workers = u32::try_from(self.setup.workers)?;
        for (worker, one) in (0..).zip(&self.workers) {
            let targets = self.setup.targets.clone();
            let plan = Plan { scenario: scenario.clone(), worker, workers, targets, start_unix_ms };
            if let Some(speaker) = &one.speaker {
                speaker.say(to_worker::Message::Plan(plan)).await;
            }
        }
        Ok(start_unix_ms)
    }

    /// Until all sessions were opened or given up. After a bounded time the rest is given up, too.
    async fn ramp(&mut self) -> Result<()> {
        let (ramp, connections) = (self.setup.scenario.ramp(), self.setup.scenario.connections);
        let longest = ramp * 2 + RAMP_EXTRA;
        let all_tried = |timeline: &Timeline| timeline.state().attempted >= connections;
        self.go_on("ramp", |conductor| {
            let elapsed = conductor.clock.now();
            all_tried(&conductor.timeline) && elapsed >= ramp.as_secs_f64() || elapsed > longest.as_secs_f64()
        })
        .await
    }

    /// Calls, and faults at their times.
    async fn hold(&mut self) -> Result<(u32, u32)> {
        let from = self.clock.now() as u32 + 1;
        self.say_to_all(&to_worker::Message::Hold(Hold { second: from })).await;
        if let Some(overload) = self.setup.scenario.overload.clone() {
            return self.overload(from, &overload).await;
        }
        let hold = self.setup.scenario.hold.as_secs_f64();
        let until = from + hold.ceil() as u32;
        let mut faults = self.setup.scenario.faults.clone();
        faults.sort_by(|one, other| one.at.total_cmp(&other.at));
        for fault in faults {
            let at = f64::from(from) + fault.at * hold;
            self.go_on("hold", |conductor| conductor.clock.now() >= at).await?;
            self.console.say(&format!("{at:6.0} s  {:?} …", fault.kind));
            ensure!(self.setup.hands.faults.try_send(fault).is_ok(), "too many faults at a time");
        }
        self.go_on("hold", |conductor| conductor.clock.now() >= f64::from(until)).await?;
        Ok((from, until))
    }

    async fn finish(&mut self) -> Result<()> {
        self.say_to_all(&to_worker::Message::Finish(Finish {})).await;
        let begun = Instant::now();
        self.go_on("end", |conductor| {
            conductor.workers.iter().all(|worker| worker.is_done) || begun.elapsed() > FINISH_WITHIN
        })
        .await?;
        ensure!(begun.elapsed() <= FINISH_WITHIN, "the workers do not end");
        Ok(())
    }

    /// Hears workers and samples until `enough`.
    async fn go_on(&mut self, phase: &str, enough: impl Fn(&Conductor) -> bool) -> Result<()> {
        let mut tick = interval(TICK);
        while !enough(self) {
            tokio::select! {
                heard = self.setup.heard.recv() => match heard {
                    Some(heard) => self.hear(heard)?,
                    None => bail!("the coordinator does not listen any more"),
                },
                Some(told) = self.setup.hands.told.recv() => self.tell(told).await,
                _ = tick.tick() => self.look(phase),
            }
        }
        Ok(())
    }

    fn look(&mut self, phase: &str) {
        let now = self.clock.now();
        if now as u32 > self.sampled {
            self.sampled = now as u32;
            self.timeline.sample(now, &self.setup.watched);
            self.console.show(phase, now, &self.timeline);
        }
    }

    fn hear(&mut self, Heard { worker, what }: Heard) -> Result<()> {
        match what {
            What::Came(speaker) => {
                ensure!(worker < self.setup.workers, "more than {} workers came", self.setup.workers);
                self.workers.push(Worker { speaker: Some(speaker), hello: None, is_done: false });
            }
            What::Said(from_worker::Message::Hello(mut hello)) => {
                // Workers that are started alike have one name.
                if self.workers.iter().flat_map(|known| &known.hello).any(|known| known.name == hello.name) {
                    hello.name = format!("{}-{worker}", hello.name);
                }
                let own = env!("CARGO_PKG_VERSION");
                ensure!(hello.version == own, "worker {} is of version {}, not {own}", hello.name, hello.version);
                let share = self.setup.scenario.connections.div_ceil(self.setup.workers as u64);
                let Hello { name, descriptors_max: has, .. } = &hello;
                ensure!(*has > share, "worker {name} may hold {has} descriptors, but is to hold {share} streams");
                self.workers[worker].hello = Some(hello);
            }
            What::Said(from_worker::Message::Progress(progress)) => self.add(worker, progress),
            What::Said(from_worker::Message::Done(_)) => {
                self.workers[worker].is_done = true;
                self.workers[worker].speaker = None;
            }
            What::Gone if self.workers[worker].is_done => {}
            What::Gone => bail!("worker {worker} is gone: what it would have seen is not known"),
        }
        Ok(())
    }

    fn add(&mut self, worker: usize, progress: Progress) {
        progress.cells.iter().for_each(|cell| self.timeline.tally.put(cell));
        progress.refusals.iter().for_each(|refusal| self.timeline.refusals.put(refusal));
        progress.examples.iter().for_each(|example| self.timeline.example(example.second, &example.text));
        if let (Some(gauges), Some(hello)) = (progress.gauges, &self.workers[worker].hello) {
            self.timeline.gauge(worker, &hello.name, gauges);
        }
    }

    async fn tell(&mut self, told: Told) {
        let until = self.clock.now();
        let second = until - told.began.elapsed().as_secs_f64();
        self.console.say(&format!("{second:6.0} s  {}", told.text));
        self.timeline.events.push(Event { second, until, text: told.text, fault: told.fault });
        self.setup.watched.extend(told.watched);
        if let Some(urls) = told.targets {
            self.say_to_all(&to_worker::Message::Targets(Targets { urls })).await;
        }
    }

    async fn say_to_all(&self, message: &to_worker::Message) {
        for speaker in self.workers.iter().filter_map(|worker| worker.speaker.as_ref()) {
            speaker.say(message.clone()).await;
        }
    }
}
