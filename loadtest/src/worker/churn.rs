//! Sessions that end while streams are held; another opens in the place of each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until, timeout};

use super::sessions::Member;
use super::shared::Shared;
use crate::outcome::{self, Outcome};
use crate::schedule::Arrivals;
use crate::tally::Operation;
use crate::wire;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const END_WITHIN: Duration = Duration::from_secs(15);
/// Clients whose place is being taken at a time; what is due beyond it is not begun.
const LEAVING_MAX: u64 = 1_024;

/// Replaces any client whenever one is due.
pub(super) async fn replace(shared: Rc<Shared>, arrivals: Option<Arrivals>) {
    let Some(mut arrivals) = arrivals else { return };
    loop {
        sleep_until(arrivals.due().into()).await;
        let due = arrivals.take();
        shared.offer(Operation::Leave, due);
        let member = (shared.leaving.get() < LEAVING_MAX).then(|| shared.sessions.borrow_mut().take_any()).flatten();
        match member {
            Some(member) => drop(spawn_local(one(Rc::clone(&shared), member, due))),
            None => shared.end(Operation::Leave, due, Outcome::Unsent, "no session is open, or too many are leaving"),
        }
    }
}

async fn one(shared: Rc<Shared>, member: Member, due: Instant) {
    shared.leaving.set(shared.leaving.get() + 1);
    let (kind, subscribes) = (member.client.kind(), member.subscribes);
    // Requests under way end first: their session must be there. Its stream and this task hold it then.
    while member.client.holders() > 2 {
        sleep(LOOK_EVERY).await;
    }
    member.held.abort();
    let (outcome, why) = end(&shared, member).await;
    shared.end(Operation::Leave, due, outcome, &why);
    shared.leaving.set(shared.leaving.get() - 1);
    shared.replace(kind, subscribes).await;
}

/// Ends the session, where there is one.
async fn end(shared: &Shared, member: Member) -> (Outcome, String) {
    let Some(id) = member.client.id() else { return (Outcome::Ok, String::new()) };
    match timeout(END_WITHIN, shared.send(|target| wire::delete(target, &id))).await {
        Ok(Ok(answer)) => {
            let status = answer.head.status;
            let outcome = outcome::of_status(status, answer.head.says_when, true);
            (outcome.unwrap_or(Outcome::Ok), status.to_string())
        }
        Ok(Err(failed)) => failed,
        Err(_) => (Outcome::Silent, "the session does not end".to_owned()),
    }
}
