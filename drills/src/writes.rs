//! Whether the registry takes writes: new sessions, one after the other, without waiting for the one before.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::Clients;
use crate::web::{Message, To};

/// Between two attempts.
const EVERY: Duration = Duration::from_millis(50);
/// An attempt that took longer was held up.
const USUAL: Duration = Duration::from_millis(500);
/// When all attempts of this long were good, it is over.
const QUIET: Duration = Duration::from_secs(2);
/// It is not watched any longer than this.
const GIVE_UP: Duration = Duration::from_secs(45);

/// The time from `since` until the last attempt that failed or was held up. Zero if none was.
pub(crate) async fn until_taken(clients: Clients, since: Instant) -> Duration {
    let mut attempts = JoinSet::new();
    let mut last_bad = since;
    let mut ticks = tokio::time::interval(EVERY);
    let begun = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let waiting = attempts.len() > 400;
                if begun.elapsed() > GIVE_UP {
                    return since.elapsed();
                }
                if !waiting {
                    attempts.spawn(attempt(clients.clone()));
                }
            }
            Some(done) = attempts.join_next(), if !attempts.is_empty() => {
                if let Ok(Some(bad)) = done {
                    last_bad = last_bad.max(bad);
                }
            }
        }
        if begun.elapsed() > QUIET && last_bad.elapsed() > QUIET && attempts.len() < 10 {
            return last_bad - since;
        }
    }
}

/// When a bad attempt ended.
async fn attempt(clients: Clients) -> Option<Instant> {
    let begun = Instant::now();
    let opened = clients.open(To::Any).await;
    let ended = Instant::now();
    let bad = opened.is_err() || ended - begun > USUAL;
    if let Ok(session) = opened {
        // It was only to see whether it opens; one that stays does no harm.
        let _ = clients.web.send(To::Any, &Message::delete(&session.id)).await;
    }
    bad.then_some(ended)
}
