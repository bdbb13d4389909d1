//! The ramp: sessions are opened evenly over its time, each at any node, and begin to hold their stream.
//!
//! One that is refused is tried again a few times and then given up; while it waits the others go on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep_until, timeout};

use super::requests::Failed;
use super::sessions::{Client, Kind, Member};
use super::shared::Shared;
use super::stream::Holding;
use crate::outcome::{self, Outcome};
use crate::refusal;
use crate::scenario::Clients;
use crate::schedule::{part, ramp_due};
use crate::tally::Operation;
use crate::wire::{self, Ask, Asker};

/// A session that does not open is tried this often, with pauses that grow by as much each time: 5 s in all.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(500);
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Opens this worker's share. Ends when all were opened or given up; those that were not are given up when it is dropped.
pub(super) async fn all(shared: Rc<Shared>) {
    let scenario = &shared.scenario;
    let count = part(scenario.connections, shared.worker, shared.workers);
    let start = shared.clock.at(0);
    let mut opening = JoinSet::new();
    for index in 0..count {
        let due = ramp_due(start, scenario.ramp(), index, count);
        sleep_until(due.into()).await;
        let kind = kind(&shared.scenario.clients, index);
        // Independent of the kind.
        let subscribes = spread(index, ROOT_OF_TWO) < shared.scenario.subscribe.share;
        let session = Opening::new(&shared, due, true);
        opening.spawn_local(session.open(kind, subscribes));
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

/// A session that is to open. When it is dropped it ends as its last try did, whoever drops it.
struct Opening {
    shared: Rc<Shared>,
    due: Instant,
    is_of_ramp: bool,
    /// Its session, where that is open and its stream is not.
    session: Option<Rc<str>>,
    last: Failed,
}

impl Opening {
    fn new(shared: &Rc<Shared>, due: Instant, is_of_ramp: bool) -> Opening {
        shared.offer(Operation::Open, due);
        let last = (Outcome::Unsent, "not tried before the hold".to_owned());
        Opening { shared: Rc::clone(shared), due, is_of_ramp, session: None, last }
    }

    /// Tries, and holds its stream from then on.
    async fn open(mut self, kind: Kind, subscribes: bool) {
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(TRY_AGAIN * attempt).await;
            }
            let Ok(_place) = self.shared.opening.acquire().await else { return };
            if self.is_of_ramp && attempt == 0 {
                self.shared.late(self.due);
            }
            // On the heap, so that one that waits does not keep the room for it.
            let opening = Box::pin(self.shared.open_once(kind, subscribes, &mut self.session));
            match timeout(OPEN_WITHIN, opening).await {
                Ok(Ok(())) => self.last = (Outcome::Ok, String::new()),
                Ok(Err(failed)) => self.last = failed,
                Err(_) => self.last = (Outcome::Silent, "not open in time".to_owned()),
            }
            match self.last.0 {
                Outcome::Ok => return,
                Outcome::Lost => self.session = None,
                _ => {}
            }
            self.shared.refusals.borrow_mut().at(self.kind()).tries += 1;
        }
    }

    /// Why it is not open.
    fn kind(&self) -> refusal::Kind {
        refusal::Kind::of(self.last.0, &self.last.1)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let kind = self.kind();
        let Opening { shared, due, is_of_ramp, last, .. } = self;
        shared.end(Operation::Open, *due, last.0, &last.1);
        if *is_of_ramp {
            shared.attempted.set(shared.attempted.get() + 1);
            if last.0 != Outcome::Ok {
                shared.refusals.borrow_mut().at(kind).given_up += 1;
            }
        }
    }
}

impl Shared {
    /// Opens a session in the place of another, and holds its stream.
    pub(super) async fn replace(self: &Rc<Self>, kind: Kind, subscribes: bool) {
        Opening::new(self, Instant::now(), false).open(kind, subscribes).await;
    }

    async fn open_once(
        self: &Rc<Self>,
        kind: Kind,
        subscribes: bool,
        session: &mut Option<Rc<str>>,
    ) -> Result<(), Failed> {
        let client = match (kind, session) {
            (Kind::Legacy, Some(session)) => Client::Legacy(Rc::clone(session)),
            (Kind::Legacy, session) => Client::Legacy(Rc::clone(session.insert(self.initialize().await?))),
            (Kind::Modern, _) => Client::Modern,
            (Kind::WebSocket, _) => Client::Socket(Rc::default()),
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
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::{Clock, unix_ms};
    use crate::scenario::Scenario;

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

    const REFUSAL: &str = "{\"error\":{\"message\":\"This node has no memory left\"}}";

    /// Refuses whoever comes; counts them.
    async fn refuse(listener: TcpListener, seen: Rc<Cell<u64>>) {
        let length = REFUSAL.len();
        let answer = format!(
            "HTTP/1.1 503 no\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{REFUSAL}"
        );
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, seen) = (answer.clone(), Rc::clone(&seen));
            spawn_local(async move {
                let mut request = [0; 4_096];
                if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    seen.set(seen.get() + 1);
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    }

    #[tokio::test]
    async fn who_waits_to_be_tried_again_keeps_no_other_waiting_and_ends_with_the_ramp() {
        const SESSIONS: u64 = 400;
        let text = format!(
            "name = \"x\"\nconnections = {SESSIONS}\nopens_per_second = 100000.0\nhold = \"1s\"\n[clients]\nlegacy_sse = 1.0\n"
        );
        let scenario = Scenario::parse(&text).expect("a scenario");
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let urls = [format!("http://{}/mcp", listener.local_addr().expect("an address"))];
            let seen = Rc::new(Cell::new(0));
            let server = spawn_local(refuse(listener, Rc::clone(&seen)));
            let shared = Shared::new(scenario, Clock::starting_at(unix_ms()), 0, 1, &urls, None).await.expect("shared");
            let ramp = spawn_local(all(Rc::clone(&shared)));
            while seen.get() < SESSIONS {
                tokio::task::yield_now().await;
            }
            let begun = |shared: &Shared| {
                let cells = shared.tally.borrow_mut().take();
                cells
                    .iter()
                    .filter(|cell| cell.operation == Operation::Late as u32)
                    .map(|cell| cell.offered)
                    .sum::<u64>()
            };
            assert_eq!(begun(&shared), SESSIONS, "each was tried once before any was tried twice");
            assert_eq!(shared.attempted.get(), 0, "none has given up");
            ramp.abort();
            assert!(ramp.await.is_err_and(|error| error.is_cancelled()));
            while shared.attempted.get() < SESSIONS {
                tokio::task::yield_now().await;
            }
            let mut refusals = crate::refusal::Refusals::default();
            shared.refusals.borrow_mut().take().iter().for_each(|one| refusals.put(one));
            // The last answers may be under way when they are given up.
            let given_up = refusals.listed().iter().find(|one| one.why == "503 (memory)").map_or(0, |one| one.given_up);
            assert!((1..=SESSIONS).contains(&given_up), "{refusals:?}");
            assert_eq!(refusals.listed().iter().map(|one| one.given_up).sum::<u64>(), SESSIONS, "{refusals:?}");
            server.abort();
        };
        tokio::task::LocalSet::new().run_until(timeout(Duration::from_secs(60), test)).await.expect("in time");
    }
}
