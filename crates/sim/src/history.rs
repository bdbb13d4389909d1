//! The histories of the registry's clients: one register each key, written and read from any node.

use enfilade_registry::{Command, Outcome, Refusal, SlotTable, StateMachine};
use rand::Rng;

use crate::checks::Invariant;
use crate::clock::{MILLI, SECOND};
use crate::ctx::Ctx;
use crate::event::{Event, Input, RegistryAsk};
use crate::linear::{Did, OPERATIONS_MAX, Operation, is_linearizable};

/// How many registers, and clients of each.
const KEYS: usize = 2;
const CLIENTS_PER_KEY: usize = 2;

#[derive(Default)]
pub(crate) struct Histories {
    operations: Vec<(usize, Operation)>,
    /// What each client waits for, and until when it does.
    waits: [Option<(usize, u64)>; KEYS * CLIENTS_PER_KEY],
}

impl Ctx {
    pub(crate) fn start_registry_clients(&mut self) {
        for client in 0..KEYS * CLIENTS_PER_KEY {
            let at = self.now + self.rng.random_range(2 * SECOND..=3 * SECOND);
            self.queue.push(at, Event::Register { client });
        }
    }

    /// A client's turn: if it has its answer, or waited long enough, it asks for the next thing.
    pub(crate) fn registry_client(&mut self, client: usize) {
        let key = client % KEYS;
        let of_key = self.histories.operations.iter().filter(|(of, _)| *of == key).count();
        if of_key >= OPERATIONS_MAX {
            return;
        }
        let waiting = self.histories.waits[client].is_some_and(|(_, until)| self.now < until);
        if !waiting {
            self.ask_registry(client, key);
        }
        let at = self.now + self.rng.random_range(50 * MILLI..=900 * MILLI);
        self.queue.push(at, Event::Register { client });
    }

    fn ask_registry(&mut self, client: usize, key: usize) {
        let node = self.rng.random_range(0..self.options.nodes);
        let operation = self.histories.operations.len();
        let write = self.rng.random_ratio(1, 2);
        let value = operation as u64 + 1;
        let (did, ask) = if write {
            (Did::Write(value), RegistryAsk::Write { operation, value })
        } else {
            (Did::Read(0), RegistryAsk::Read { operation })
        };
        self.histories.operations.push((key, Operation { began: self.now, ended: None, did }));
        self.histories.waits[client] = Some((operation, self.now + 3 * SECOND));
        self.input(0, node, Input::Registry { client: key, ask });
    }

    /// An operation is answered: a read with what it read.
    pub(crate) fn registry_done(&mut self, operation: usize, read: Option<u64>) {
        let now = self.at();
        let Some((_, entry)) = self.histories.operations.get_mut(operation) else { return };
        entry.ended = Some(now);
        if let Some(value) = read {
            entry.did = Did::Read(value);
        }
        self.stats.registry += 1;
        for wait in &mut self.histories.waits {
            if wait.is_some_and(|(waits, _)| waits == operation) {
                *wait = None;
            }
        }
        self.line(format_args!("registry operation {operation} is answered: {read:?}"));
    }

    /// At the end: every history must be linearizable.
    pub(crate) fn check_histories(&mut self) {
        for key in 0..KEYS {
            let of_key = self.histories.operations.iter().filter(|(of, _)| *of == key);
            let history: Vec<Operation> = of_key.map(|(_, operation)| *operation).collect();
            if !is_linearizable(&history) {
                self.violated(Invariant::Linearizable, format_args!("register {key}: {history:?}"));
            }
        }
    }

    /// A replica applied an entry: replicas must agree, and what it did is counted once.
    pub(crate) fn committed(
        &mut self,
        node: usize,
        index: u64,
        command: Option<&Command>,
        before: &SlotTable,
        machine: &StateMachine,
        result: Option<&Result<Outcome, Refusal>>,
    ) {
        if index.is_multiple_of(DIGEST_EVERY) {
            let digest = machine.digest();
            let digest = u64::from_be_bytes(digest[..8].try_into().unwrap_or_default());
            self.applied(node, index, digest);
        }
        if index <= self.checks.committed {
            return;
        }
        self.checks.committed = index;
        let (Some(command), Some(result)) = (command, result) else { return };
        self.stats.commands += 1;
        self.line(format_args!("#{index} {} -> {}", crate::setup::short(command), outcome(result)));
        let Ok(result) = result else { return };
        match command {
            Command::Move { .. } => self.stats.moves[0] += result.slots().len() as u64,
            Command::Done { .. } => self.stats.moves[1] += result.slots().len() as u64,
            Command::Abort { .. } => self.stats.moves[2] += result.slots().len() as u64,
            Command::Take { lost, .. } => self.taken(*lost, before, machine.slots()),
            _ => {}
        }
    }

    /// Slots were taken: without a second in step their events are gone, as the gap rule says.
    fn taken(&mut self, lost: enfilade_registry::Run, before: &SlotTable, after: &SlotTable) {
        for (slot, record) in before.iter().filter(|(_, record)| record.owner == Some(lost)) {
            let owner = after.get(slot).owner;
            if owner == Some(lost) {
                continue;
            }
            if record.in_sync && record.second == owner {
                self.stats.takes[0] += 1;
            } else {
                self.stats.takes[1] += 1;
                self.gap(slot, after.get(slot).term);
            }
        }
    }
}

/// The state is compared each so many entries: a digest reads all of it.
const DIGEST_EVERY: u64 = 16;

fn outcome(result: &Result<Outcome, Refusal>) -> String {
    match result {
        Ok(Outcome::Created(_)) => "created".to_owned(),
        Ok(outcome) => format!("{outcome:?}"),
        Err(refusal) => refusal.to_string(),
    }
}
