//! The ramp: sessions are opened evenly over its time, each at any node, and begin to hold their stream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep_until, timeout};

use super::requests::Failed;
use super::sessions::{Client, Kind, Member};
use super::shared::Shared;
use super::stream::Holding;
use crate::outcome::{self, Outcome};
use crate::scenario::Clients;
use crate::schedule::{part, ramp_due};
use crate::tally::Operation;
use crate::wire::{self, Ask, Asker};

/// Sessions that are being opened at a time.
const OPENING_MAX: usize = 128;
/// A session that does not open is tried this often.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(500);
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Opens this worker's share. Ends when all were opened or given up.
pub(super) async fn all(shared: Rc<Shared>) {
    let scenario = &shared.scenario;
    let count = part(scenario.connections, shared.worker, shared.workers);
    let (start, room) = (shared.clock.at(0), Arc::new(Semaphore::new(OPENING_MAX)));
    let mut opening = JoinSet::new();
    for index in 0..count {
        let due = ramp_due(start, scenario.ramp(), index, count);
        sleep_until(due.into()).await;
        shared.offer(Operation::Open, due);
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        shared.late(due);
        let (shared, kind) = (Rc::clone(&shared), kind(&shared.scenario.clients, index));
        // Independent of the kind.
        let subscribes = spread(index, ROOT_OF_TWO) < shared.scenario.subscribe.share;
        opening.spawn_local(async move {
            shared.open(kind, subscribes, due).await;
            shared.attempted.set(shared.attempted.get() + 1);
            drop(place);
        });
        while opening.try_join_next().is_some() {}
    }
    while opening.join_next().await.is_some() {}
}

/// Kinds are mixed, so that every part of the ramp has its share of each.
fn kind(clients: &Clients, index: u64) -> Kind {
    match spread(index, GOLDEN) {
        place if place < clients.legacy_sse => Kind::Legacy,
        place if place < clients.legacy_sse + clients.modern_listen => Kind::Modern,
        // Shares that add up to a little less than 1 must not bring a kind that nobody asked for.
        _ if clients.websocket > 0.0 => Kind::WebSocket,
        _ if clients.modern_listen > 0.0 => Kind::Modern,
        _ => Kind::Legacy,
    }
}

const GOLDEN: f64 = 0.618_033_988_749_894_9;
const ROOT_OF_TWO: f64 = std::f64::consts::SQRT_2;

/// A place between 0 and 1: those of all indices up to any are spread evenly.
fn spread(index: u64, irrational: f64) -> f64 {
    (index as f64 * irrational).fract()
}

impl Shared {
    /// Opens a session that was offered, and holds its stream.
    pub(super) async fn open(self: &Rc<Self>, kind: Kind, subscribes: bool, due: Instant) {
        let mut last = (Outcome::Silent, String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(TRY_AGAIN * attempt).await;
            }
            match timeout(OPEN_WITHIN, self.open_once(kind, subscribes)).await {
                Ok(Ok(())) => return self.end(Operation::Open, due, Outcome::Ok, ""),
                Ok(Err(failed)) => last = failed,
                Err(_) => last = (Outcome::Silent, "not open in time".to_owned()),
            }
        }
        self.end(Operation::Open, due, last.0, &last.1);
    }

    async fn open_once(self: &Rc<Self>, kind: Kind, subscribes: bool) -> Result<(), Failed> {
        let client = match kind {
            Kind::Legacy => Client::Legacy(self.initialize().await?),
            Kind::Modern => Client::Modern,
            Kind::WebSocket => Client::Socket(Rc::default()),
        };
        if subscribes && let Client::Legacy(_) = client {
            let ask = Ask::of_resource("resources/subscribe", &self.scenario.subscribe.uri);
            self.ask(&client, &ask, None).await?;
        }
        let mut holding = Holding::new(Rc::clone(self), client.clone(), subscribes);
        holding.open().await?;
        let held = spawn_local(holding.hold()).abort_handle();
        self.sessions.borrow_mut().add(Member { client, subscribes, held });
        Ok(())
    }

    /// A legacy session.
    async fn initialize(&self) -> Result<Rc<str>, Failed> {
        let id = self.id();
        let answer = self.send(|target| Ask::initialize().post(target, Asker::Nobody, id)).await?;
        let shown = || format!("{} {}", answer.head.status, String::from_utf8_lossy(&answer.body));
        if let Some(outcome) = outcome::of_status(answer.head.status, answer.head.says_when, false) {
            return Err((outcome, shown()));
        }
        let said: Value = serde_json::from_slice(&answer.body).map_err(|_| (Outcome::Wrong, shown()))?;
        let session: Rc<str> = match (outcome::of_answer(id, &said, None), &answer.head.session) {
            (Outcome::Ok, Some(session)) => session.as_ref().into(),
            (Outcome::Ok, None) => return Err((Outcome::Wrong, "no session id".to_owned())),
            (other, _) => return Err((other, shown())),
        };
        let answer = self.send(|target| wire::initialized(target, &session)).await?;
        match outcome::of_status(answer.head.status, answer.head.says_when, true) {
            Some(outcome) => Err((outcome, format!("initialized: {}", answer.head.status))),
            None => Ok(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_shares_from_the_beginning() {
        let clients = Clients { legacy_sse: 0.5, modern_listen: 0.3, websocket: 0.2 };
        for count in [100, 1_000, 10_000] {
            let of = |wanted| (0..count).filter(|index| kind(&clients, *index) == wanted).count() as f64;
            for (wanted, share) in [(Kind::Legacy, 0.5), (Kind::Modern, 0.3), (Kind::WebSocket, 0.2)] {
                let off = (of(wanted) - share * count as f64).abs();
                assert!(off <= 3.0, "{wanted:?} of {count}: {off} off");
            }
        }
        let one = Clients { legacy_sse: 0.0, modern_listen: 0.999_5, websocket: 0.0 };
        assert!((0..10_000).all(|index| kind(&one, index) == Kind::Modern));
    }
}
