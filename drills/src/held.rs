//! Streams that stay open: GET of sessions, and `subscriptions/listen` of 2026-07-28. Their nodes may end them in order;
//! then they are opened again at once, elsewhere. What the upstream announces must reach each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::{Clients, Outcome, Session, is_stream, of_status};
use crate::sse::Reader;
use crate::tally::Tally;
use crate::web::{self, Message, To};
use crate::wire;
use crate::witness::Witness;

/// How long an announcement may take to reach everybody.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to open a stream.
const AGAIN: Duration = Duration::from_millis(100);

const CHANGED: &str = "notifications/tools/list_changed";

/// What is held open.
#[derive(Clone, Copy)]
enum Kind {
    Get,
    Listen,
}

/// One of them, as others see it.
#[derive(Debug, Default)]
struct Seen {
    /// Announcements that came.
    heard: AtomicU64,
    /// How often it was opened.
    opened: AtomicU64,
}

/// Streams that are held open until this is dropped.
pub(crate) struct Held {
    seen: Vec<Arc<Seen>>,
    tasks: JoinSet<()>,
}

impl Held {
    /// Some of the sessions with a GET stream each, and as many listens.
    pub(crate) fn start(clients: &Clients, sessions: &Arc<Vec<Session>>, tally: &Tally, count: usize) -> Held {
        let mut held = Held { seen: Vec::new(), tasks: JoinSet::new() };
        for number in 0..2 * count.min(sessions.len()) {
            let seen = Arc::new(Seen::default());
            let one = One {
                clients: clients.clone(),
                sessions: Arc::clone(sessions),
                tally: tally.clone(),
                seen: Arc::clone(&seen),
                kind: if number % 2 == 0 { Kind::Get } else { Kind::Listen },
                session: number / 2,
            };
            held.seen.push(seen);
            held.tasks.spawn(one.hold());
        }
        held
    }

    /// Lets the upstream announce something; returns on how many streams it was not heard in time.
    pub(crate) async fn announce(&self, witness: &Witness) -> usize {
        let heard = |seen: &Arc<Seen>| seen.heard.load(Ordering::Relaxed);
        let before: Vec<u64> = self.seen.iter().map(heard).collect();
        let silent = || self.seen.iter().zip(&before).filter(|(seen, before)| heard(seen) <= **before).count();
        let begun = Instant::now();
        witness.announce();
        while silent() > 0 && begun.elapsed() < HEARD_WITHIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        silent()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.len()
    }

    /// How often streams were opened again.
    pub(crate) fn reopened(&self) -> u64 {
        self.seen.iter().map(|seen| seen.opened.load(Ordering::Relaxed).saturating_sub(1)).sum()
    }
}

struct One {
    clients: Clients,
    sessions: Arc<Vec<Session>>,
    tally: Tally,
    seen: Arc<Seen>,
    kind: Kind,
    session: usize,
}

impl One {
    async fn hold(self) {
        let mut not = None;
        loop {
            let to = not.map_or(To::Any, To::AnyBut);
            match self.open(to).await {
                Ok((node, response)) => {
                    self.seen.opened.fetch_add(1, Ordering::Relaxed);
                    self.tally.add(&Outcome::Result);
                    if let Some(fault) = self.read(response).await {
                        self.tally.add(&fault);
                    }
                    not = Some(node);
                }
                Err(why) => {
                    self.tally.add(&why);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn open(&self, to: To) -> Result<(usize, Response<Incoming>), Outcome> {
        let number = self.clients.number();
        let message = match self.kind {
            Kind::Get => Message::get(&self.sessions[self.session].id, None),
            Kind::Listen => Message::modern("subscriptions/listen", wire::listen(number)),
        };
        let (node, response) = self.clients.web.send(to, &message).await?;
        match response.status() {
            StatusCode::OK if is_stream(&response) => Ok((node, response)),
            status => Err(of_status(status, &web::body(response).await?)),
        }
    }

    /// Reads until the end; what is wrong with that, if anything is. A listen ends with its result, or has broken.
    async fn read(&self, response: Response<Incoming>) -> Option<Outcome> {
        let (mut body, mut reader, mut ended) = (response.into_body(), Reader::default(), false);
        while let Some(frame) = body.frame().await {
            let bytes = match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(_)) => continue,
                Err(error) => return Some(Outcome::Broken(format!("a stream that was held: {error}"))),
            };
            for message in reader.read(&bytes).into_iter().filter_map(|event| event.data) {
                let Ok(message) = serde_json::from_str::<Value>(&message) else { continue };
                self.seen.heard.fetch_add(u64::from(message["method"] == CHANGED), Ordering::Relaxed);
                ended |= message["result"].is_object();
            }
        }
        let good = ended || matches!(self.kind, Kind::Get);
        (!good).then(|| Outcome::Broken("subscriptions/listen ended without its result".to_owned()))
    }
}
