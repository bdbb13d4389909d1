//! Short calls at a steady rate, whatever becomes of those before: clients that do not wait for one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::client::{Clients, Session};
use crate::ledger::Ledger;
use crate::report::Times;
use crate::tally::Tally;
use crate::web::To;
use crate::witness::WORK;

/// Calls are begun so often, some at a time.
const EVERY: Duration = Duration::from_millis(10);
/// Beyond so many without an answer none is begun; that is counted.
const IN_FLIGHT_MAX: usize = 4096;

/// Calls that come until they are told to stop.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    skipped: Arc<AtomicU64>,
    task: JoinHandle<Times>,
    begun: Instant,
}

/// What came of them.
pub(crate) struct Answered {
    pub(crate) times: Times,
    /// Calls that were not begun because too many had no answer.
    pub(crate) skipped: u64,
    /// Calls that were begun, per second.
    pub(crate) rate: f64,
}

impl Steady {
    pub(crate) fn start(
        clients: &Clients,
        sessions: &Arc<Vec<Session>>,
        (tally, ledger): (&Tally, &Ledger),
        per_second: usize,
    ) -> Steady {
        let (stop, skipped) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let caller = Caller {
            clients: clients.clone(),
            sessions: Arc::clone(sessions),
            tally: tally.clone(),
            ledger: ledger.clone(),
        };
        let task = tokio::spawn(caller.run(per_second, Arc::clone(&stop), Arc::clone(&skipped)));
        Steady { stop, skipped, task, begun: Instant::now() }
    }

    pub(crate) async fn end(self) -> Answered {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.begun.elapsed().as_secs_f64();
        let times = self.task.await.unwrap_or_default();
        let rate = times.count() as f64 / took;
        Answered { times, skipped: self.skipped.load(Ordering::Relaxed), rate }
    }
}

#[derive(Clone)]
struct Caller {
    clients: Clients,
    sessions: Arc<Vec<Session>>,
    tally: Tally,
    ledger: Ledger,
}

impl Caller {
    async fn run(self, per_second: usize, stop: Arc<AtomicBool>, skipped: Arc<AtomicU64>) -> Times {
        let mut ticks = tokio::time::interval(EVERY);
        // What was missed while this machine was busy is not made up for at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (begun, mut count, mut calls, mut times) = (Instant::now(), 0, JoinSet::new(), Times::default());
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * per_second as f64) as usize;
            for _ in count..due.min(count + per_second / 10 + 1) {
                if calls.len() >= IN_FLIGHT_MAX {
                    skipped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                calls.spawn(self.clone().call());
            }
            count = due;
            while let Some(Ok(took)) = calls.try_join_next() {
                times.add(took);
            }
        }
        while let Some(done) = calls.join_next().await {
            done.into_iter().for_each(|took| times.add(took));
        }
        times
    }

    async fn call(self) -> Duration {
        let begun = Instant::now();
        let chosen = self.sessions.choose(&mut rand::rng());
        if let Some(session) = chosen {
            let call = self.clients.number();
            self.tally.begin();
            let (outcome, _) = self.clients.call(To::Any, session, call, WORK, json!({"ms": 0})).await;
            self.tally.call(&self.ledger, call, false, &outcome);
        }
        begun.elapsed()
    }
}
