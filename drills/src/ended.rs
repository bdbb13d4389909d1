//! Sessions that their clients end while nodes fail: once DELETE was answered, no node serves them any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::task::JoinSet;

use crate::client::{Clients, Outcome, Session};
use crate::web::{Message, To};

/// Clients that do this at a time, and how long each waits until it does it again.
const CLIENTS: usize = 4;
const EVERY: Duration = Duration::from_millis(50);

/// Sessions that are asked at a time in the end.
const AT_A_TIME: usize = 64;

/// Clients that open sessions and end them until they are told to stop.
pub(crate) struct Enders {
    clients: Clients,
    stop: Arc<AtomicBool>,
    enders: JoinSet<Vec<Session>>,
}

/// What became of the sessions whose end was confirmed.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) sessions: usize,
    /// Those that are served all the same.
    pub(crate) served: Vec<String>,
    /// What else was said of one than that it is not known.
    pub(crate) other: Option<Outcome>,
}

impl Enders {
    pub(crate) fn start(clients: &Clients) -> Enders {
        let mut all = Enders { clients: clients.clone(), stop: Arc::default(), enders: JoinSet::new() };
        for _ in 0..CLIENTS {
            let (clients, stop) = (clients.clone(), Arc::clone(&all.stop));
            all.enders.spawn(async move {
                let mut ended = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    ended.extend(open_and_end(&clients).await);
                    tokio::time::sleep(EVERY).await;
                }
                ended
            });
        }
        all
    }

    /// Stops, and asks for each of the sessions: nobody must know it.
    pub(crate) async fn end(mut self) -> Ended {
        self.stop.store(true, Ordering::Relaxed);
        let mut sessions = Vec::new();
        while let Some(Ok(ended)) = self.enders.join_next().await {
            sessions.extend(ended);
        }
        let mut ended = Ended { sessions: sessions.len(), ..Ended::default() };
        let asked = stream::iter(&sessions).map(async |session| (session, self.clients.ping(To::Any, session).await));
        let mut asked = asked.buffer_unordered(AT_A_TIME);
        while let Some((session, outcome)) = asked.next().await {
            match outcome {
                Outcome::Lost(_) => {}
                Outcome::Result => ended.served.push(session.id.clone()),
                other => ended.other = Some(other),
            }
        }
        ended
    }
}

/// The session, where its end was confirmed. What was not answered may have happened or not.
async fn open_and_end(clients: &Clients) -> Option<Session> {
    let session = clients.open(To::Any).await.ok()?;
    let (_, response) = clients.web.send(To::Any, &Message::delete(&session.id)).await.ok()?;
    response.status().is_success().then_some(session)
}
