//! The commands that change the registry, what comes of them, and their bytes.
//! Rule: names and meanings of released commands never change; a new meaning gets a new name and format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, CopyId, Generation, Limits, MoveId, NewSession, NodeId, Roles, Run, SessionId, SessionRecord, Slot,
    Term, UpstreamBinding,
};

/// The newest format of commands that this release knows. A command's first byte is the first format that has it; the
/// rest is JSON.
pub const COMMAND_FORMAT: u8 = 2;

/// Most sessions in one [`Command::Touch`]: a bound on how long one command stalls the others.
pub const TOUCH_MAX: usize = 4096;

/// One change of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Registry time goes on; sessions whose time is up end.
    Tick {
        /// By how much. The proposer measures it with a monotonic clock.
        elapsed_ms: u64,
    },
    /// Sets the limits for what comes after. Ends no session.
    Configure {
        /// The new limits.
        limits: Limits,
    },
    /// Creates a session. Repeated with equal content it is created once and answered twice.
    CreateSession(NewSession),
    /// Ends a session.
    EndSession {
        /// Which.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Ends all sessions of a principal.
    EndByPrincipal {
        /// Whose.
        principal: Arc<str>,
        /// Why.
        reason: EndReason,
    },
    /// Records what a session has with an upstream, in place of what it had.
    BindUpstream {
        /// The session.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// The upstream's name.
        upstream: Arc<str>,
        /// The binding.
        binding: UpstreamBinding,
    },
    /// Forgets what a session has with an upstream.
    UnbindUpstream {
        /// The session.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// The upstream's name.
        upstream: Arc<str>,
    },
    /// `logging/setLevel`.
    SetLogLevel {
        /// The session.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// The level; `None` unsets it.
        level: Option<Arc<str>>,
    },
    /// `resources/subscribe`.
    Subscribe {
        /// The session.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// The URI as the client knows it.
        uri: Arc<str>,
    },
    /// `resources/unsubscribe`.
    Unsubscribe {
        /// The session.
        #[serde(with = "crate::id::stored")]
        id: SessionId,
        /// The URI as the client knows it.
        uri: Arc<str>,
    },
    /// Idle times that an owner kept, in a batch of at most [`TOUCH_MAX`]. Never shortens a life.
    Touch {
        /// Session and for how long it has been unused, in ms.
        #[serde(with = "crate::id::stored::pairs")]
        idle: Vec<(SessionId, u64)>,
    },
    /// Founds the cluster: its first command. Repeated it changes nothing; another id is refused.
    Found {
        /// The cluster's id.
        cluster: ClusterId,
    },
    /// A node started. A later run takes the place of the earlier one, whose slots wait for a [`Command::Take`].
    Register {
        /// The run that starts.
        run: Run,
        /// What people call the node.
        name: Arc<str>,
        /// `host:port` of its links.
        link: Arc<str>,
        /// What it does.
        roles: Roles,
        /// The highest command format that it supports.
        formats: u32,
    },
    /// Begins or ends to empty a node.
    Drain {
        /// Which.
        node: NodeId,
        /// Begins or ends.
        on: bool,
    },
    /// Removes a node for ever. Refused while a slot names it.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// A leader of the registry begins. From here on no [`Command::Take`] that an earlier one decided on is obeyed,
    /// however late it arrives: it knows nothing of what this leader acknowledges.
    Lead {
        /// Its Raft term. A lower one than the present is refused.
        epoch: u64,
    },
    /// A run lost its lease for good: its slots go to their in-sync live seconds, else to the least loaded of `live`.
    /// Where it was second, there is none now.
    Take {
        /// The lost run.
        lost: Run,
        /// The runs that hold a lease, as the leader sees it.
        live: Vec<Run>,
        /// The leader that decided it, by its [`Command::Lead`].
        epoch: u64,
        /// The index that it had applied then. What the run was given later is not meant.
        upto: u64,
    },
    /// Gives slots without an owner to the least loaded of `live`.
    Assign {
        /// The runs that hold a lease, as the leader sees it.
        live: Vec<Run>,
    },
    /// Chooses the second of slots that have none, or one that drains or restarted. It is not in sync.
    Seconds {
        /// The slots, as the planner saw them.
        slots: Vec<(Slot, Term)>,
        /// The second.
        second: Run,
    },
    /// The owner says whether the second has everything. Copies that were given up since are not meant.
    InSync {
        /// The slots and which copy of each.
        slots: Vec<(Slot, Term, CopyId)>,
        /// The second.
        second: Run,
        /// Whether it has everything.
        in_sync: bool,
    },
    /// Begins to move slots. The id of the move is the index of the commit.
    Move {
        /// The slots, as the planner saw them.
        slots: Vec<(Slot, Term)>,
        /// Where to.
        to: Run,
    },
    /// The target has everything: it becomes the owner, and the owner its in-sync second.
    Done {
        /// Slots and their moves.
        moves: Vec<(Slot, MoveId)>,
    },
    /// The move ends where it began, under a new term.
    Abort {
        /// Slots and their moves.
        moves: Vec<(Slot, MoveId)>,
    },
    /// The cluster may use commands up to this format from now on, and nobody who does not know them is registered.
    Finalise {
        /// The format.
        version: u32,
    },
    /// A new version of the configuration: the present one plus one. Repeated it changes nothing.
    ApplyConfiguration {
        /// The new version.
        version: u64,
        /// The whole document.
        document: Arc<str>,
        /// The version that it puts back, if that is its purpose.
        reverts: Option<u64>,
    },
}

/// Why bytes are not a command.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("an empty command")]
    Empty,
    /// Written by a newer release: the node must stop, not skip it.
    #[error("command format {0} is newer than this release")]
    UnknownFormat(u8),
    /// Not a command of its format.
    #[error("not a command: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Command {
    /// The command's bytes: format, then JSON.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.format()];
        // Writing these types to memory cannot fail: string keys only, no failing serialisers.
        serde_json::to_writer(&mut bytes, self).expect("a command is plain data");
        bytes
    }

    /// The session whose record it changes; none for commands over many, whose outcomes say which ended.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Command::CreateSession(new) => Some(&new.id),
            Command::EndSession { id, .. }
            | Command::BindUpstream { id, .. }
            | Command::UnbindUpstream { id, .. }
            | Command::SetLogLevel { id, .. }
            | Command::Subscribe { id, .. }
            | Command::Unsubscribe { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The command that `bytes` are.
    ///
    /// # Errors
    /// The bytes are of an unknown format, or not a command.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Empty),
            Some((1..=COMMAND_FORMAT, json)) => Ok(serde_json::from_slice(json)?),
            Some((&format, _)) => Err(DecodeError::UnknownFormat(format)),
        }
    }
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The client ended it (`DELETE`, or its connection was the session).
    Client,
    /// An operator ended it.
    Operator,
    /// A stateful upstream lost its side of it.
    Upstream,
    /// Unused for too long.
    Idle,
    /// Too old.
    Absolute,
}

/// A session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    #[serde(with = "crate::id::stored")]
    pub id: SessionId,
    /// Why.
    pub reason: EndReason,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, nothing to say.
    Done,
    /// The session as created.
    Created(Arc<SessionRecord>),
    /// The sessions that ended, in the order of ids.
    Ended(Vec<Ended>),
    /// Registry time went on.
    Ticked {
        /// Registry time now.
        now_ms: u64,
        /// Sessions whose time was up, earliest first.
        ended: Vec<Ended>,
    },
    /// Idle times are recorded.
    Touched {
        /// Touched sessions that do not exist: their owner may let go of them.
        #[serde(with = "crate::id::stored::list")]
        unknown: Vec<SessionId>,
    },
    /// The slots to which the command applied, in order. Those that were not as the proposer saw them are left out.
    Slots(Vec<Slot>),
    /// The slots that move now.
    Moving {
        /// The move.
        id: MoveId,
        /// The slots to which the command applied.
        slots: Vec<Slot>,
    },
}

impl Outcome {
    /// The sessions that ended by this command.
    pub fn ended(&self) -> &[Ended] {
        match self {
            Outcome::Ended(ended) | Outcome::Ticked { ended, .. } => ended,
            _ => &[],
        }
    }

    /// The slots to which the command applied.
    pub fn slots(&self) -> &[Slot] {
        match self {
            Outcome::Slots(slots) | Outcome::Moving { slots, .. } => slots,
            _ => &[],
        }
    }
}

/// Why a command did nothing. Every replica refuses alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such session (any more).
    #[error("no such session")]
    UnknownSession,
    /// The id is taken by a session with other content.
    #[error("the session id is taken")]
    AlreadyExists,
    /// The principal has as many sessions as it may.
    #[error("the principal has {max} sessions, the most it may have")]
    PrincipalQuota {
        /// How many it may have.
        max: u64,
    },
    /// The registry has as many sessions as it may.
    #[error("there are {max} sessions, the most there may be")]
    RegistryFull {
        /// How many it may have.
        max: u64,
    },
    /// The session has as many subscriptions as it may.
    #[error("the session has {max} subscriptions, the most it may have")]
    SubscriptionQuota {
        /// How many it may have.
        max: u32,
    },
    /// The record would grow too large.
    #[error("the session's record would exceed {bytes_max} bytes")]
    RecordTooLarge {
        /// How large it may be.
        bytes_max: u32,
    },
    /// More than [`TOUCH_MAX`] sessions in one touch.
    #[error("too many sessions in one touch")]
    TouchTooLong,
    /// Limits under which no session could live.
    #[error("idle and absolute lifetimes must be above zero")]
    BadLimits,
    /// The index was applied before: a fault of the caller.
    #[error("index {applied} was applied already")]
    OldIndex {
        /// The last index applied.
        applied: u64,
    },
    /// The cluster was founded under another id.
    #[error("this is another cluster")]
    OtherCluster,
    /// The node was removed; its id is never used again.
    #[error("the node was removed from the cluster")]
    NodeRemoved,
    /// There is no such member.
    #[error("no such node")]
    UnknownNode,
    /// A later run, or another process of this generation, is registered.
    #[error("run {} of the node is registered already", registered.0)]
    OldRun {
        /// The registered generation.
        registered: Generation,
    },
    /// Slots name the node.
    #[error("the node is owner, second or target of {slots} slots")]
    NodeInUse {
        /// How many.
        slots: usize,
    },
    /// A later leader began.
    #[error("a leader of epoch {epoch} began")]
    OldLeader {
        /// The present leader's.
        epoch: u64,
    },
    /// A member does not know that format.
    #[error("node {node} does not support it: upgrade or remove it first")]
    NotSupported {
        /// Which.
        node: NodeId,
    },
    /// The node that registers does not know the commands that the cluster uses.
    #[error("the cluster uses format {version}, which this release does not know: start a newer one")]
    TooOld {
        /// The cluster's format.
        version: u32,
    },
    /// The cluster may not use such a command yet.
    #[error("the cluster does not use format {needs} yet: finalise it once all nodes run this release")]
    NotFinalised {
        /// The format of the command.
        needs: u32,
    },
    /// Somebody else was first, or it would go back.
    #[error("version {current} is the present one")]
    OtherVersion {
        /// The present version.
        current: u64,
    },
    /// The document is too large.
    #[error("a configuration has at most {bytes_max} bytes")]
    DocumentTooLarge {
        /// How large it may be.
        bytes_max: u64,
    },
    /// More entries than there are slots.
    #[error("too many slots in one command")]
    TooManySlots,
}
