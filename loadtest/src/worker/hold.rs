//! What clients do while their streams are held: calls, lists, subscriptions, announcements, and others in their place,
//! each due at its own rate.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use serde_json::json;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::sleep_until;

use super::churn;
use super::sessions::Client;
use super::shared::Shared;
use crate::outcome::Outcome;
use crate::schedule::{Arrivals, Evenly};
use crate::tally::Operation;
use crate::wire::{Ask, arguments};

/// What is due is begun this many at a time; answers are read in between.
const AT_A_TIME: u32 = 64;

/// Until when something is due; nothing: for ever.
type Until = Rc<Cell<Option<Instant>>>;

/// All of it. It ends when this is dropped.
pub(super) struct Load {
    shared: Rc<Shared>,
    tasks: JoinSet<()>,
    calls_until: Until,
}

impl Load {
    /// Begins with the scenario's rates.
    pub(super) fn begin(shared: &Rc<Shared>, from: u32) -> Load {
        let mut load = Load { shared: Rc::clone(shared), tasks: JoinSet::new(), calls_until: Until::default() };
        let scenario = &shared.scenario;
        load.calls(from, scenario.calls.per_second);
        for (operation, per_second) in
            [(Operation::List, scenario.lists.per_second), (Operation::Subscribe, scenario.subscribe.per_second)]
        {
            let arrivals = load.arrivals(operation, from, per_second);
            load.tasks.spawn_local(repeat(Rc::clone(shared), operation, arrivals, Until::default()));
        }
        let leaving = load.arrivals(Operation::Leave, from, scenario.churn.per_second);
        load.tasks.spawn_local(churn::replace(Rc::clone(shared), leaving));
        load.tasks.spawn_local(announce(Rc::clone(shared), shared.clock.at(from)));
        load
    }

    /// From a second on, which has not begun, calls are due at this rate and at no other.
    pub(super) fn calls(&mut self, from: u32, per_second: f64) {
        self.calls_until.set(Some(self.shared.clock.at(from)));
        self.calls_until = Until::default();
        let arrivals = self.arrivals(Operation::Call, from, per_second);
        let until = Rc::clone(&self.calls_until);
        self.tasks.spawn_local(repeat(Rc::clone(&self.shared), Operation::Call, arrivals, until));
        while self.tasks.try_join_next().is_some() {}
    }

    /// This worker's share.
    fn arrivals(&self, operation: Operation, from: u32, per_second: f64) -> Option<Arrivals> {
        let Shared { clock, worker, workers, .. } = &*self.shared;
        let seed = u64::from(from) << 32 | worker << 8 | operation as u64;
        Arrivals::new(clock.at(from), per_second / *workers as f64, seed)
    }
}

async fn repeat(shared: Rc<Shared>, operation: Operation, arrivals: Option<Arrivals>, until: Until) {
    let Some(mut arrivals) = arrivals else { return };
    loop {
        sleep_until(arrivals.due().into()).await;
        for _ in 0..AT_A_TIME {
            if until.get().is_some_and(|until| arrivals.due() >= until) {
                return;
            }
            if arrivals.due() > Instant::now() {
                break;
            }
            let due = arrivals.take();
            shared.offer(operation, due);
            shared.late(due);
            begin(&shared, operation, due);
        }
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
            Some((sessions.any()?, Ask::call(&scenario.calls.tool, &arguments), text))
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
    let Some(evenly) = Evenly::new(start, shared.scenario.notify.per_second) else { return };
    shared.announcements.set(Some(evenly));
    let mut due = evenly.next(start);
    loop {
        sleep_until(due.into()).await;
        let listening = shared.subscribed.get();
        shared.tally.borrow_mut().at(shared.clock.second(due), Operation::Deliver).offered += listening;
        if shared.worker == 0
            && let Some(client) = { shared.sessions.borrow().any() }
        {
            shared.offer(Operation::Notify, due);
            let uri = json!({"uri": shared.scenario.subscribe.uri}).to_string();
            let ask = Ask::call(&shared.scenario.notify.tool, &uri);
            spawn_local(Rc::clone(&shared).perform(Operation::Notify, due, client, ask, None));
        }
        due = evenly.next(due);
    }
}
