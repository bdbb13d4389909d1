//! The commands that change the registry, what comes of them, and their bytes.
//! Rule: names and meanings of released commands never change; a new meaning gets a new name and format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Limits, NewSession, SessionId, SessionRecord, UpstreamBinding};

/// Format of the bytes that [`Command::encode`] writes: their first byte. The rest is JSON.
pub const COMMAND_FORMAT: u8 = 1;

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
        let mut bytes = vec![COMMAND_FORMAT];
        // Writing these types to memory cannot fail: string keys only, no failing serialisers.
        serde_json::to_writer(&mut bytes, self).expect("a command is plain data");
        bytes
    }

    /// The command that `bytes` are.
    ///
    /// # Errors
    /// The bytes are of an unknown format, or not a command.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Empty),
            Some((&COMMAND_FORMAT, json)) => Ok(serde_json::from_slice(json)?),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Which.
    pub id: SessionId,
    /// Why.
    pub reason: EndReason,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
        unknown: Vec<SessionId>,
    },
}

impl Outcome {
    /// The sessions that ended by this command.
    pub fn ended(&self) -> &[Ended] {
        match self {
            Outcome::Ended(ended) | Outcome::Ticked { ended, .. } => ended,
            Outcome::Done | Outcome::Created(_) | Outcome::Touched { .. } => &[],
        }
    }
}

/// Why a command did nothing. Every replica refuses alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
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
}
