//! The end: calls in flight finish, every session is asked once whether it is there, and is ended.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use tokio::time::{sleep, timeout};

use super::sessions::Client;
use super::shared::Shared;
use crate::outcome::Outcome;
use crate::tally::Operation;
use crate::wire::{self, Ask};

/// Sessions that are asked at a time.
const AT_A_TIME: usize = 32;
/// Sessions that are not asked by then are not asked: a gateway that answers nothing would make it endless.
const ASKED_WITHIN: Duration = Duration::from_secs(240);
/// Nor are they ended after this time.
const ALL_ENDED_WITHIN: Duration = Duration::from_secs(120);
/// Longest time for calls in flight to end by themselves.
const FINISH_WITHIN: Duration = Duration::from_secs(35);
const END_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn finish(shared: Rc<Shared>) {
    let begun = Instant::now();
    while shared.in_flight.get() > 0 && begun.elapsed() < FINISH_WITHIN {
        sleep(LOOK_EVERY).await;
    }
    let sessions = shared.sessions.borrow().all_with_id();
    let until = Instant::now() + ASKED_WITHIN;
    stream::iter(&sessions).for_each_concurrent(AT_A_TIME, |session| ask(&shared, session, until)).await;
    // Streams that end from here on are not opened again.
    shared.ending.set(true);
    let ends = stream::iter(&sessions).for_each_concurrent(AT_A_TIME, |session| end(&shared, session));
    // Those that are left end when nobody asks for them any more.
    let _ = timeout(ALL_ENDED_WITHIN, ends).await;
}

/// What becomes of it is not part of the test.
async fn end(shared: &Shared, session: &Client) {
    let Some(id) = session.id() else { return };
    let _ = timeout(END_WITHIN, shared.send(|target| wire::delete(target, &id))).await;
}

async fn ask(shared: &Shared, session: &Client, until: Instant) {
    let due = Instant::now();
    shared.offer(Operation::Sweep, due);
    if due > until {
        return shared.end(Operation::Sweep, due, Outcome::Unsent, "no time is left");
    }
    match shared.ask(session, &Ask::plain("ping"), None).await {
        Ok(()) => shared.end(Operation::Sweep, due, Outcome::Ok, ""),
        Err((outcome, why)) => shared.end(Operation::Sweep, due, outcome, &why),
    }
}
