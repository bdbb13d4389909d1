//! Calls in flight, all the time: from 1 ms to 5 s long, half of them of the kind that must not run twice, and some
//! of those with numbered events on a stream that clients resume.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Clients, Outcome, Session};
use crate::ledger::Ledger;
use crate::numbered;
use crate::tally::Tally;
use crate::web::To;
use crate::witness::{EVENTS, WORK, WORK_SAFE};

/// Longest call.
const MS_MAX: f64 = 5000.0;
/// Between two events of a call.
const EVENT_EVERY_MS: u64 = 5;

/// Calls that run until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    in_flight: InFlight,
    callers: JoinSet<()>,
    pub(crate) tally: Tally,
}

/// The calls that have no outcome yet, by their number.
type InFlight = Arc<Mutex<HashMap<u64, Asked>>>;

#[derive(Clone, Copy)]
struct Asked {
    ms: u64,
    kind: Kind,
}

/// What a caller calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// May run again.
    Safe,
    Once,
    /// Runs once, and says numbers meanwhile.
    Events,
}

/// The calls in flight at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) calls: u64,
    /// Those that must not run twice.
    pub(crate) not_safe: u64,
    pub(crate) streams: u64,
    pub(crate) ms_min: u64,
    pub(crate) ms_max: u64,
    /// Those that the upstream executes.
    pub(crate) executed: u64,
}

impl Load {
    /// `callers` calls at a time over random sessions and nodes.
    pub(crate) fn start(clients: &Clients, sessions: &Arc<Vec<Session>>, ledger: &Ledger, callers: usize) -> Load {
        Load::start_with(clients, sessions, ledger, callers, Tally::default())
    }

    /// Likewise, with others counting into the same tally.
    pub(crate) fn start_with(
        clients: &Clients,
        sessions: &Arc<Vec<Session>>,
        ledger: &Ledger,
        callers: usize,
        tally: Tally,
    ) -> Load {
        let mut load = Load { stop: Arc::default(), in_flight: Arc::default(), callers: JoinSet::new(), tally };
        for number in 0..callers {
            let caller = Caller {
                clients: clients.clone(),
                sessions: Arc::clone(sessions),
                ledger: ledger.clone(),
                tally: load.tally.clone(),
                stop: Arc::clone(&load.stop),
                in_flight: Arc::clone(&load.in_flight),
                kind: Kind::of(number),
            };
            load.callers.spawn(caller.run());
        }
        load
    }

    /// Calls that have no outcome yet.
    pub(crate) fn in_flight(&self) -> u64 {
        with(&self.in_flight, |all| all.len() as u64)
    }

    /// What they are.
    pub(crate) fn flight(&self, ledger: &Ledger) -> Flight {
        let of = |all: &HashMap<u64, Asked>, kind| all.values().filter(|asked| asked.kind == kind).count() as u64;
        with(&self.in_flight, |all| Flight {
            calls: all.len() as u64,
            not_safe: all.len() as u64 - of(all, Kind::Safe),
            streams: of(all, Kind::Events),
            ms_min: all.values().map(|asked| asked.ms).min().unwrap_or(0),
            ms_max: all.values().map(|asked| asked.ms).max().unwrap_or(0),
            executed: ledger.executing(),
        })
    }

    /// Begins no further call and waits for the outcomes of the others.
    pub(crate) async fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        self.tally
    }
}

fn with<T>(in_flight: &InFlight, work: impl FnOnce(&mut HashMap<u64, Asked>) -> T) -> T {
    work(&mut in_flight.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Kind {
    /// Half of the callers make calls that may run once; a tenth of all makes them with events.
    fn of(number: usize) -> Kind {
        match number {
            _ if number.is_multiple_of(2) => Kind::Safe,
            _ if number % 10 == 9 => Kind::Events,
            _ => Kind::Once,
        }
    }
}

struct Caller {
    clients: Clients,
    sessions: Arc<Vec<Session>>,
    ledger: Ledger,
    tally: Tally,
    stop: Arc<AtomicBool>,
    in_flight: InFlight,
    kind: Kind,
}

impl Caller {
    async fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(session) = self.sessions.choose(&mut rand::rng()) else { return };
            let ms = MS_MAX.powf(rand::rng().random_range(0.0..1.0)) as u64;
            let call = self.clients.number();
            self.tally.begin();
            with(&self.in_flight, |all| all.insert(call, Asked { ms, kind: self.kind }));
            let outcome = self.call(session, call, ms).await;
            with(&self.in_flight, |all| all.remove(&call));
            self.tally.call(&self.ledger, call, self.kind == Kind::Safe, &outcome);
            if !matches!(outcome, Outcome::Result) {
                // A client that was refused does not come back at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn call(&self, session: &Session, call: u64, ms: u64) -> Outcome {
        let count = (ms / EVENT_EVERY_MS).max(1);
        let (tool, arguments) = match self.kind {
            Kind::Safe => (WORK_SAFE, json!({"ms": ms})),
            Kind::Once => (WORK, json!({"ms": ms})),
            Kind::Events => (EVENTS, json!({"count": count, "every_ms": EVENT_EVERY_MS})),
        };
        let (outcome, stream) = self.clients.call(To::Any, session, call, tool, arguments).await;
        let outcome = match outcome {
            Outcome::Wrong(why) => {
                Outcome::Wrong(format!("{why}; {tool} of {ms} ms ran {} times", self.ledger.seen(call).executions))
            }
            other => other,
        };
        let heard = numbered::heard(&stream.notices, call);
        let fault = numbered::fault(&heard, if self.kind == Kind::Events { count } else { 0 }, &outcome);
        fault.map_or(outcome, |fault| Outcome::Wrong(format!("call {call}: {fault}")))
    }
}
