//! Calls in flight, all the time: from 1 ms to 5 s long, half of them of the kind that must not run twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Clients, Outcome, Session};
use crate::ledger::Ledger;
use crate::tally::Tally;
use crate::web::To;
use crate::witness::{WORK, WORK_SAFE};

/// Longest call.
const MS_MAX: f64 = 5000.0;

/// Calls that run until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    in_flight: Arc<AtomicU64>,
    callers: JoinSet<()>,
    pub(crate) tally: Tally,
}

impl Load {
    /// `callers` calls at a time over random sessions and nodes.
    pub(crate) fn start(clients: &Clients, sessions: &Arc<Vec<Session>>, ledger: &Ledger, callers: usize) -> Load {
        let mut load =
            Load { stop: Arc::default(), in_flight: Arc::default(), callers: JoinSet::new(), tally: Tally::default() };
        for number in 0..callers {
            let caller = Caller {
                clients: clients.clone(),
                sessions: Arc::clone(sessions),
                ledger: ledger.clone(),
                tally: load.tally.clone(),
                stop: Arc::clone(&load.stop),
                in_flight: Arc::clone(&load.in_flight),
                is_safe: number % 2 == 0,
            };
            load.callers.spawn(caller.run());
        }
        load
    }

    /// Calls that have no outcome yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Begins no further call and waits for the outcomes of the others.
    pub(crate) async fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        self.tally
    }
}

struct Caller {
    clients: Clients,
    sessions: Arc<Vec<Session>>,
    ledger: Ledger,
    tally: Tally,
    stop: Arc<AtomicBool>,
    in_flight: Arc<AtomicU64>,
    is_safe: bool,
}

impl Caller {
    async fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(session) = self.sessions.choose(&mut rand::rng()) else { return };
            let ms = MS_MAX.powf(rand::rng().random_range(0.0..1.0)) as u64;
            let tool = if self.is_safe { WORK_SAFE } else { WORK };
            let call = self.clients.number();
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            let (outcome, _) = self.clients.call(To::Any, session, call, tool, json!({"ms": ms})).await;
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.tally.call(&self.ledger, call, self.is_safe, &outcome);
            if !matches!(outcome, Outcome::Result) {
                // A client that was refused does not come back at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
