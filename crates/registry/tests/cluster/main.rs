//! The cluster's part of the registry: members, slots, leases, copies and duties, case by case and at random.

mod copies;
mod duties;
mod edge_rule;
mod lease;
mod lease_properties;
mod members;
mod plan;
mod refound;
mod slot_properties;
mod slots;
mod versions;
mod waits;
mod world;

use enfilade_registry::{Command, Generation, NodeId, Outcome, Refusal, Roles, Run, Slot, SlotRecord, StateMachine};

/// Run `generation` of node `node`.
pub(crate) fn run(node: u64, generation: u64) -> Run {
    Run { node: NodeId(node), generation: Generation(generation) }
}

pub(crate) fn slot(number: u16) -> Slot {
    Slot::new(number).expect("in range")
}

pub(crate) fn register(run: Run) -> Command {
    let (name, link) = (format!("n{}", run.node.0).into(), format!("n{}:7000", run.node.0).into());
    Command::Register { run, name, link, roles: Roles::ALL, formats: 1 }
}

/// A registry to which commands are applied at rising indexes.
pub(crate) struct Cluster(pub(crate) StateMachine);

impl Cluster {
    /// `nodes` nodes in their first run, and nothing assigned.
    pub(crate) fn new(slots: u16, nodes: u64) -> Cluster {
        let mut cluster = Cluster(StateMachine::with_slots(slots));
        for node in 1..=nodes {
            cluster.ok(register(run(node, 1)));
        }
        cluster
    }

    pub(crate) fn apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.0.apply(self.0.applied() + 1, &command)
    }

    pub(crate) fn ok(&mut self, command: Command) -> Outcome {
        self.apply(command).expect("not refused")
    }

    /// How many slots the command changed.
    pub(crate) fn count(&mut self, command: Command) -> usize {
        self.ok(command).slots().len()
    }

    pub(crate) fn record(&self, number: u16) -> SlotRecord {
        *self.0.slots().get(slot(number))
    }

    pub(crate) fn assign(&mut self, live: &[Run]) {
        self.ok(Command::Assign { live: live.to_vec() });
    }

    pub(crate) fn take(&mut self, lost: Run, live: &[Run]) -> usize {
        let upto = self.0.applied();
        self.count(Command::Take { lost, live: live.to_vec(), epoch: self.0.epoch(), upto })
    }

    pub(crate) fn second(&mut self, number: u16, second: Run) -> usize {
        let term = self.record(number).term;
        self.count(Command::Seconds { slots: vec![(slot(number), term)], second })
    }

    pub(crate) fn in_sync(&mut self, number: u16, in_sync: bool) -> usize {
        let record = self.record(number);
        let second = record.second.expect("has a second");
        self.count(Command::InSync { slots: vec![(slot(number), record.term, record.copy)], second, in_sync })
    }

    pub(crate) fn begin_move(&mut self, number: u16, to: Run) -> usize {
        let term = self.record(number).term;
        self.count(Command::Move { slots: vec![(slot(number), term)], to })
    }

    pub(crate) fn load(&self, run: Run) -> usize {
        self.0.slots().loads().get(&run).copied().unwrap_or(0)
    }
}
