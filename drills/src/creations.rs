//! Clients that come all the time: each opens a session at one node and uses it at others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Clients, Outcome, Session};
use crate::ledger::Ledger;
use crate::report::Times;
use crate::tally::Tally;
use crate::web::To;
use crate::witness::WORK;

/// Clients that come at a time, and how long each of them is gone before the next one.
const AT_A_TIME: usize = 4;
const EVERY: Duration = Duration::from_millis(200);

/// Sessions that are opened until it is told to stop.
pub(crate) struct Creations {
    stop: Arc<AtomicBool>,
    clients: JoinSet<(Vec<Session>, Times)>,
}

impl Creations {
    pub(crate) fn start(clients: &Clients, tally: &Tally, ledger: &Ledger) -> Creations {
        let mut creations = Creations { stop: Arc::default(), clients: JoinSet::new() };
        for _ in 0..AT_A_TIME {
            let (clients, tally, ledger) = (clients.clone(), tally.clone(), ledger.clone());
            let stop = Arc::clone(&creations.stop);
            creations.clients.spawn(async move {
                let (mut sessions, mut times) = (Vec::new(), Times::default());
                while !stop.load(Ordering::Relaxed) {
                    sessions.extend(create(&clients, &tally, &ledger, &mut times).await);
                    tokio::time::sleep(EVERY).await;
                }
                (sessions, times)
            });
        }
        creations
    }

    /// The sessions, and how long their creation took.
    pub(crate) async fn end(mut self) -> (Vec<Session>, Times) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut times) = (Vec::new(), Times::default());
        while let Some(Ok((sessions, took))) = self.clients.join_next().await {
            all.extend(sessions);
            times.merge(&took);
        }
        (all, times)
    }
}

/// Every step counts: one that fails is a failure.
async fn create(clients: &Clients, tally: &Tally, ledger: &Ledger, times: &mut Times) -> Option<Session> {
    let begun = Instant::now();
    let session = match clients.open(To::Any).await {
        Ok(session) => session,
        Err(why) => {
            tally.add(&why);
            return None;
        }
    };
    times.add(begun.elapsed());
    tally.add(&Outcome::Result);
    let opened = clients.opened(To::AnyBut(session.node), &session).await;
    tally.add(&opened.err().unwrap_or(Outcome::Result));
    let call = clients.number();
    tally.begin();
    let (outcome, _) = clients.call(To::Any, &session, call, WORK, json!({"ms": 0})).await;
    tally.call(ledger, call, false, &outcome);
    Some(session)
}
