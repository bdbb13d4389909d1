//! The replicated state of the cluster itself: its id, its members and its slots, and the commands that change them.
//! Readers share members and table; a batch of commands copies each at most once.

use std::sync::Arc;

use crate::slots::{self, SlotTable};
use crate::{ClusterId, Command, Configuration, Member, Members, MoveId, NodeId, Outcome, Refusal, Run, Slot};

/// Most entries in one command over slots: more than all slots is a fault of the proposer.
const SLOTS_PER_COMMAND_MAX: usize = crate::SLOTS as usize;

/// Cluster, members and slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) members: Arc<Members>,
    pub(crate) slots: Arc<SlotTable>,
    /// The Raft term of the last leader that began.
    pub(crate) epoch: u64,
    /// The newest format of commands that the cluster may use; 0 is the first.
    pub(crate) version: u32,
    pub(crate) configuration: Arc<Configuration>,
}

impl Placement {
    /// What `apply` would refuse. Commands of sessions are not refused here.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Found { cluster } if self.cluster.is_some_and(|founded| founded != *cluster) => {
                Err(Refusal::OtherCluster)
            }
            Command::Register { formats, .. } if *formats < self.version => {
                Err(Refusal::TooOld { version: self.version })
            }
            Command::Register { run, .. } => match new_member(command) {
                Some(member) => self.members.check_register(run.node, &member),
                None => Ok(()),
            },
            Command::Lead { epoch } if *epoch < self.epoch => Err(Refusal::OldLeader { epoch: self.epoch }),
            Command::Take { epoch, .. } if *epoch != self.epoch => Err(Refusal::OldLeader { epoch: self.epoch }),
            Command::Drain { node, .. } => self.members.check_known(*node),
            Command::Remove { node } => self.check_remove(*node),
            Command::Seconds { slots, .. } | Command::Move { slots, .. } => check_len(slots.len()),
            Command::InSync { slots, .. } => check_len(slots.len()),
            Command::Done { moves } | Command::Abort { moves } => check_len(moves.len()),
            _ => Ok(()),
        }
    }

    fn check_remove(&self, node: NodeId) -> Result<(), Refusal> {
        if self.members.is_removed(node) {
            return Ok(());
        }
        self.members.check_known(node)?;
        let of_node = |run: Run| run.node == node;
        let named = self.slots.records().iter().filter(|record| {
            record.owner.is_some_and(of_node)
                || record.second.is_some_and(of_node)
                || record.moving.is_some_and(|moving| of_node(moving.to))
        });
        match named.count() {
            0 => Ok(()),
            slots => Err(Refusal::NodeInUse { slots }),
        }
    }

    /// Applies a command that was checked.
    pub(crate) fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        match command {
            Command::Found { cluster } => self.cluster = Some(*cluster),
            Command::Register { run, .. } => {
                if let Some(member) = new_member(command) {
                    Arc::make_mut(&mut self.members).register(run.node, member);
                }
            }
            Command::Lead { epoch } => self.epoch = *epoch,
            Command::Finalise { version } => self.version = *version,
            Command::Drain { node, on } => Arc::make_mut(&mut self.members).drain(*node, *on),
            Command::Remove { node } => Arc::make_mut(&mut self.members).remove(*node),
            Command::Move { slots, to } => {
                let slots = slots::begin(Arc::make_mut(&mut self.slots), &self.members, index, slots, *to);
                return Outcome::Moving { id: MoveId(index), slots };
            }
            _ => return Outcome::Slots(self.apply_to_slots(index, command)),
        }
        Outcome::Done
    }

    fn apply_to_slots(&mut self, index: u64, command: &Command) -> Vec<Slot> {
        let (table, members) = (Arc::make_mut(&mut self.slots), &*self.members);
        match command {
            Command::Take { lost, live, upto, .. } => slots::take(table, members, index, *lost, live, *upto),
            Command::Assign { live } => slots::assign(table, members, index, live),
            Command::Seconds { slots, second } => slots::seconds(table, members, index, slots, *second),
            Command::InSync { slots, second, in_sync } => {
                slots::in_sync(table, members, index, slots, *second, *in_sync)
            }
            Command::Done { moves } => slots::done(table, members, index, moves),
            Command::Abort { moves } => slots::abort(table, index, moves),
            // The state machine sends only commands of the cluster here.
            _ => Vec::new(),
        }
    }

    /// See [`crate::StateMachine::plan`].
    pub(crate) fn plan(&self, live: &[Run]) -> Vec<Command> {
        slots::plan(&self.slots, &self.members, live)
    }
}

fn new_member(command: &Command) -> Option<Member> {
    let Command::Register { run, name, link, roles, formats } = command else { return None };
    Some(Member {
        name: name.clone(),
        link: link.clone(),
        roles: *roles,
        generation: run.generation,
        draining: false,
        formats: *formats,
    })
}

fn check_len(len: usize) -> Result<(), Refusal> {
    if len > SLOTS_PER_COMMAND_MAX { Err(Refusal::TooManySlots) } else { Ok(()) }
}
