//! What clients do while their streams are held: calls, lists, subscriptions and announcements, each due at its own rate.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::spawn_local;
use tokio::time::sleep_until;

use super::sessions::Client;
use super::shared::Shared;
use crate::outcome::Outcome;
use crate::schedule::Arrivals;
use crate::tally::Operation;
use crate::wire::{Ask, arguments};

/// Does all of it from a second on, until it is aborted.
pub(super) async fn calls(shared: Rc<Shared>, from: u32) {
    let scenario = &shared.scenario;
    let rates = [
        (Operation::Call, scenario.calls.per_second),
        (Operation::List, scenario.lists.per_second),
        (Operation::Subscribe, scenario.subscribe.per_second),
    ];
    let start = shared.clock.at(from);
    let each = rates.map(|(operation, per_second)| {
        let seed = shared.worker << 8 | operation as u64;
        let arrivals = Arrivals::new(start, per_second / shared.workers as f64, seed);
        repeat(Rc::clone(&shared), operation, arrivals)
    });
    let [calls, lists, subscribe] = each;
    tokio::join!(calls, lists, subscribe, announce(Rc::clone(&shared), start));
}

async fn repeat(shared: Rc<Shared>, operation: Operation, arrivals: Option<Arrivals>) {
    let Some(mut arrivals) = arrivals else { return };
    loop {
        sleep_until(arrivals.due().into()).await;
        let due = arrivals.take();
        shared.offer(operation, due);
        shared.late(due);
        begin(&shared, operation, due);
    }
}

/// Begins what is due; it is not waited for.
fn begin(shared: &Rc<Shared>, operation: Operation, due: Instant) {
    if shared.in_flight.get() >= shared.scenario.calls.in_flight_max {
        return shared.end(operation, due, Outcome::Unsent, "too many calls are in flight");
    }
    let Some((client, ask, text)) = choose(shared, operation) else {
        return shared.end(operation, due, Outcome::Unsent, "no session is open");
    };
    let in_flight = InFlight::new(shared);
    let performing = Rc::clone(shared).perform(operation, due, client, ask, text);
    spawn_local(async move {
        performing.await;
        drop(in_flight);
    });
}

fn choose(shared: &Shared, operation: Operation) -> Option<(Client, Ask, Option<String>)> {
    let sessions = shared.sessions.borrow();
    let scenario = &shared.scenario;
    match operation {
        Operation::Call => {
            let text = scenario.calls.echo.then(|| payload(shared.id(), scenario.calls.payload_bytes));
            let arguments = arguments(&scenario.calls.arguments, text.as_deref());
            Some((sessions.any()?, Ask::call(&scenario.calls.tool, arguments), text))
        }
        Operation::List => Some((sessions.any()?, Ask::plain("tools/list"), None)),
        _ => {
            let method = if rand::random() { "resources/subscribe" } else { "resources/unsubscribe" };
            Some((sessions.any_with_id()?, Ask::of_resource(method, &scenario.subscribe.other_uri), None))
        }
    }
}

/// A text that no other call has.
fn payload(number: u64, bytes: usize) -> String {
    format!("{number:016x}{:.<1$}", "", bytes.saturating_sub(16))
}

struct InFlight(Rc<Shared>);

impl InFlight {
    fn new(shared: &Rc<Shared>) -> InFlight {
        shared.in_flight.set(shared.in_flight.get() + 1);
        InFlight(Rc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// Announcements are due at even distances, so that every worker knows when; the first worker makes the calls.
async fn announce(shared: Rc<Shared>, start: Instant) {
    let per_second = shared.scenario.notify.per_second;
    let Ok(every) = Duration::try_from_secs_f64(1.0 / per_second) else { return };
    let mut due = start + every;
    loop {
        sleep_until(due.into()).await;
        shared.announced.set(Some(due));
        let listening = shared.subscribed.get();
        shared.tally.borrow_mut().at(shared.clock.second(due), Operation::Deliver).offered += listening;
        if shared.worker == 0
            && let Some(client) = { shared.sessions.borrow().any() }
        {
            shared.offer(Operation::Notify, due);
            let ask = Ask::call(&shared.scenario.notify.tool, json!({"uri": shared.scenario.subscribe.uri}));
            spawn_local(Rc::clone(&shared).perform(Operation::Notify, due, client, ask, None));
        }
        due += every;
    }
}
