//! How long sessions are held up while slots move: each of them is asked again and again, one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Clients, Session};
use crate::report::Times;
use crate::web::To;

/// Between two questions to a session.
const EVERY: Duration = Duration::from_millis(100);

/// Sessions that are asked until they are told to stop.
pub(crate) struct Pauses {
    stop: Arc<AtomicBool>,
    asked: JoinSet<Duration>,
}

impl Pauses {
    pub(crate) fn start(clients: &Clients, sessions: &Arc<Vec<Session>>, count: usize) -> Pauses {
        let mut pauses = Pauses { stop: Arc::default(), asked: JoinSet::new() };
        for index in 0..count.min(sessions.len()) {
            let (clients, sessions, stop) = (clients.clone(), Arc::clone(sessions), Arc::clone(&pauses.stop));
            pauses.asked.spawn(async move {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    // What goes wrong is the load's to count.
                    let _ = clients.ping(To::Any, &sessions[index]).await;
                    longest = longest.max(begun.elapsed());
                    tokio::time::sleep(EVERY).await;
                }
                longest
            });
        }
        pauses
    }

    /// The longest wait of each session.
    pub(crate) async fn end(mut self) -> Times {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Times::default();
        while let Some(Ok(longest)) = self.asked.join_next().await {
            times.add(longest);
        }
        times
    }
}
