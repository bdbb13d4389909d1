//! What all tasks of a worker have in common. One thread: plain cells.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use enfilade_process::{CpuTime, resident_bytes};
use tokio::sync::Semaphore;

use super::pool::Pool;
use super::sessions::{KINDS, Kind, Sessions};
use super::targets::Targets;
use crate::clock::Clock;
use crate::outcome::Outcome;
use crate::proto::{Example, Gauges};
use crate::refusal::Refusals;
use crate::scenario::Scenario;
use crate::schedule::Evenly;
use crate::tally::{Operation, Tally};

/// Sessions that are being opened at a time; those that wait to be tried again are not.
const OPENING_MAX: usize = 128;
/// Examples of one report; more are not sent.
const EXAMPLES_MAX: usize = 20;
/// Idle connections to one address that are kept in any case.
const IDLE_MIN: usize = 64;

pub(super) struct Shared {
    pub(super) scenario: Scenario,
    pub(super) clock: Clock,
    pub(super) worker: u64,
    pub(super) workers: u64,
    pub(super) targets: Targets,
    pub(super) pool: Pool,
    /// The address of this machine that connections come from, if not any.
    pub(super) source: Option<IpAddr>,
    pub(super) sessions: RefCell<Sessions>,
    pub(super) tally: RefCell<Tally>,
    /// Why sessions did not open.
    pub(super) refusals: RefCell<Refusals>,
    /// Tries to open a session that go on at a time.
    pub(super) opening: Semaphore,
    pub(super) examples: RefCell<Vec<Example>>,
    /// Streams that are open, by kind.
    pub(super) streams: [Cell<u64>; KINDS],
    /// Of these, those that hear of the resource.
    pub(super) subscribed: Cell<u64>,
    /// Sessions that were opened or given up.
    pub(super) attempted: Cell<u64>,
    pub(super) in_flight: Cell<usize>,
    /// Sessions that are asked until they are served again.
    pub(super) recovering: Cell<u64>,
    /// Sessions that end so that others take their place.
    pub(super) leaving: Cell<u64>,
    /// When announcements are due, once streams are held.
    pub(super) announcements: Cell<Option<Evenly>>,
    /// Streams are taken down on purpose.
    pub(super) ending: Cell<bool>,
    ids: Cell<u64>,
}

impl Shared {
    pub(super) async fn new(
        scenario: Scenario,
        clock: Clock,
        worker: u32,
        workers: u32,
        urls: &[String],
        source: Option<IpAddr>,
    ) -> Result<Rc<Shared>> {
        let targets = Targets::default();
        targets.replace(urls).await?;
        Ok(Rc::new(Shared {
            scenario,
            clock,
            worker: worker.into(),
            workers: workers.into(),
            targets,
            pool: Pool::default(),
            source,
            sessions: RefCell::default(),
            tally: RefCell::default(),
            refusals: RefCell::default(),
            opening: Semaphore::new(OPENING_MAX),
            examples: RefCell::default(),
            streams: Default::default(),
            subscribed: Cell::default(),
            attempted: Cell::default(),
            in_flight: Cell::default(),
            recovering: Cell::default(),
            leaving: Cell::default(),
            announcements: Cell::default(),
            ending: Cell::default(),
            // No two workers use the same ids, so that an answer to another's request shows.
            ids: Cell::new(u64::from(worker) << 40 | 1),
        }))
    }

    /// An id that no other request has.
    pub(super) fn id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    /// Connections that are kept to one address while nothing is under way on them: as many as are needed at a time.
    pub(super) fn idle_max(&self) -> usize {
        self.scenario.calls.in_flight_max.div_ceil(self.targets.count().max(1)).max(IDLE_MIN)
    }

    /// Something is due: it will have exactly one outcome.
    pub(super) fn offer(&self, operation: Operation, due: Instant) {
        self.tally.borrow_mut().at(self.clock.second(due), operation).offered += 1;
    }

    /// It ended so.
    pub(super) fn end(&self, operation: Operation, due: Instant, outcome: Outcome, why: &str) {
        let second = self.clock.second(due);
        self.tally.borrow_mut().at(second, operation).end(outcome, due.elapsed());
        if outcome != Outcome::Ok {
            let mut examples = self.examples.borrow_mut();
            if examples.len() < EXAMPLES_MAX {
                let text = format!("{} {}: {why}", operation.name(), outcome.name());
                examples.push(Example { second, text });
            }
        }
    }

    /// The generator begins to do at last what was due.
    pub(super) fn late(&self, due: Instant) {
        let mut tally = self.tally.borrow_mut();
        let cell = tally.at(self.clock.second(due), Operation::Late);
        cell.offered += 1;
        cell.end(Outcome::Ok, due.elapsed());
    }

    pub(super) fn stream_opened(&self, kind: Kind, subscribed: bool, by: i64) {
        let add = |cell: &Cell<u64>| cell.set(cell.get().saturating_add_signed(by));
        add(&self.streams[kind as usize]);
        if subscribed {
            add(&self.subscribed);
        }
    }

    pub(super) fn gauges(&self) -> Gauges {
        let own = nix::unistd::getpid().as_raw();
        let cpu = CpuTime::of(&[own]).unwrap_or_default().clock;
        Gauges {
            second: self.clock.now(),
            streams: self.streams.iter().map(Cell::get).collect(),
            attempted: self.attempted.get(),
            sessions: self.sessions.borrow().len() as u64,
            calls_in_flight: self.in_flight.get() as u64,
            cpu_us: u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: resident_bytes(own).unwrap_or(0),
        }
    }
}
