//! Which commands a cluster may use. A command of a newer format stops a node that does not know it, so it is proposed
//! only once all members know it and an operator has said that nobody goes back: `Finalise`.
//! Rule: the cluster's format only rises, and whoever does not know it is not registered.

use crate::{COMMAND_FORMAT, Command, Members, NodeId, Refusal, StateMachine};

/// What every release knows.
const FIRST: u8 = 1;

impl Command {
    /// The first format that has this command.
    pub fn format(&self) -> u8 {
        match self {
            Command::ApplyConfiguration { .. } => 2,
            _ => FIRST,
        }
    }
}

impl StateMachine {
    /// The newest format of commands that the cluster may use.
    pub fn cluster_version(&self) -> u32 {
        self.placement.version.max(u32::from(FIRST))
    }

    /// Whether the cluster may use a command. Asked before it is proposed: nobody has to be able to read it then. What
    /// is allowed stays so.
    ///
    /// # Errors
    /// Its format is not finalised.
    pub fn may_propose(&self, command: &Command) -> Result<(), Refusal> {
        let needs = u32::from(command.format());
        if needs <= self.cluster_version() { Ok(()) } else { Err(Refusal::NotFinalised { needs }) }
    }

    pub(crate) fn check_finalise(&self, version: u32) -> Result<(), Refusal> {
        if version < self.cluster_version() || version > u32::from(COMMAND_FORMAT) {
            return Err(Refusal::OtherVersion { current: u64::from(self.cluster_version()) });
        }
        match lagging(self.members(), version) {
            Some(node) => Err(Refusal::NotSupported { node }),
            None => Ok(()),
        }
    }
}

/// A member that does not know a format.
fn lagging(members: &Members, version: u32) -> Option<NodeId> {
    members.iter().find(|(_, member)| member.formats < version).map(|(node, _)| node)
}
