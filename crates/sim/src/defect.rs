//! The seeded defects: faults of the protocol that the simulator must find. A closed list.
//! Rule: each one lives in the simulator's wiring, never in the code that it drives.

use std::fmt;
use std::str::FromStr;

/// One way to break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// An owner acts without asking whether its lease still holds.
    NoFence,
    /// The leader gives slots away before their owner has stopped.
    LeaseTooShort,
    /// Edges and seconds accept effects of any term.
    TermUnchecked,
    /// The leader acknowledges heartbeats, and reads, without asking a majority.
    AckWithoutQuorum,
    /// A new leader gives slots away without waiting for the leases of the one before.
    NoNewLeaderWait,
    /// The old owner of a move goes on by its own clock instead of by a committed abort.
    LocalUnfreeze,
    /// An event leaves before the second acknowledged it.
    BytesBeforeCopy,
    /// The second is promoted as if it held everything, although it was told to be behind.
    UnsyncedSecondPromoted,
    /// A node starts again under the generation that it had.
    GenerationReused,
    /// An owner accepts a message that was sent to it under an older term.
    StaleEdgeAccepted,
    /// An edge sends an unsafe call again after its connection was lost.
    UnsafeReplayed,
    /// A second that was told to be behind is declared in step without the events it lacks.
    NoResync,
    /// A copy that begins while a stream goes on takes nothing from before the first event that is new.
    HoleInCopy,
}

impl Defect {
    /// All of them: in the order of the protocol's page, then those that it does not name.
    pub const ALL: [Defect; 13] = [
        Defect::NoFence,
        Defect::LeaseTooShort,
        Defect::TermUnchecked,
        Defect::AckWithoutQuorum,
        Defect::NoNewLeaderWait,
        Defect::LocalUnfreeze,
        Defect::BytesBeforeCopy,
        Defect::UnsyncedSecondPromoted,
        Defect::GenerationReused,
        Defect::StaleEdgeAccepted,
        Defect::UnsafeReplayed,
        Defect::NoResync,
        Defect::HoleInCopy,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Defect::NoFence => "no-fence",
            Defect::LeaseTooShort => "lease-too-short",
            Defect::TermUnchecked => "term-unchecked",
            Defect::AckWithoutQuorum => "ack-without-quorum",
            Defect::NoNewLeaderWait => "no-new-leader-wait",
            Defect::LocalUnfreeze => "local-unfreeze",
            Defect::BytesBeforeCopy => "bytes-before-copy",
            Defect::UnsyncedSecondPromoted => "unsynced-second-promoted",
            Defect::GenerationReused => "generation-reused",
            Defect::StaleEdgeAccepted => "stale-edge-accepted",
            Defect::UnsafeReplayed => "unsafe-replayed",
            Defect::NoResync => "no-resync",
            Defect::HoleInCopy => "hole-in-copy",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(name: &str) -> Result<Defect, String> {
        let found = Defect::ALL.into_iter().find(|defect| defect.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
            format!("there is no defect {name:?}; there are {}", names.join(", "))
        })
    }
}
