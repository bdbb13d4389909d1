//! What can go wrong between two nodes: one enum per operation, each variant says whether anything was executed.

/// Why an exchange was not opened. Nothing was written to any node: it may be tried elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// There is no link to the node, neither direct nor over another node.
    #[error("no link to the node")]
    Unreachable,
    /// The link's queue stayed full until the deadline.
    #[error("the link stayed full until the deadline")]
    Deadline,
    /// The message is larger than [`Limits::message_bytes_max`](crate::Limits).
    #[error("the message is too large")]
    TooLarge,
}

/// Why an open exchange is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The other side never saw it, or did not take it: nothing was executed, it may be tried elsewhere.
    #[error("the exchange did not reach its destination")]
    Unsent,
    /// The link was lost after the exchange was written: what became of it is not known.
    #[error("the link was lost")]
    Lost,
    /// The other side dropped it.
    #[error("the other side ended the exchange")]
    Reset,
    /// Its time is over.
    #[error("the deadline passed")]
    Deadline,
    /// The message is larger than [`Limits::message_bytes_max`](crate::Limits); it was not sent.
    #[error("the message is too large")]
    TooLarge,
    /// This side has already said `last`.
    #[error("nothing can be sent after the last message")]
    Finished,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// No connection to the node: nothing was written.
    #[error("no connection to the node")]
    NotSent,
    /// The connection was lost after the call was written: what became of it is not known.
    #[error("the connection was lost")]
    Lost,
    /// No answer in time: what became of it is not known.
    #[error("no answer in time")]
    Deadline,
    /// Request or answer is larger than [`Limits::call_bytes_max`](crate::Limits).
    #[error("the message is too large")]
    TooLarge,
    /// The other node refused it: nothing was executed.
    #[error(transparent)]
    Refused(#[from] CallError),
}

/// Why a node refused a call. Nothing was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It does not know this kind of call.
    #[error("unknown kind of call")]
    Unsupported,
    /// Not now: it is busy, starting or stopping.
    #[error("the node cannot answer now")]
    Unavailable,
    /// It could not read the body.
    #[error("the body could not be read")]
    Invalid,
    /// The two nodes do not belong together: another cluster, or another protocol.
    #[error("the nodes belong to different clusters or speak different protocols")]
    Stranger,
}

/// Why a mesh could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates cannot be used.
    #[error("the cluster's certificates cannot be used: {0}")]
    Tls(String),
    /// The listening socket cannot be used.
    #[error("the socket for links cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}
