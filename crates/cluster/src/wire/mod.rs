//! What nodes say to each other about slots, as bytes: `proto/owner.proto` and the types of the other crates.

mod ask;
mod finish;
mod lease;
mod reply;
mod words;

pub(crate) use ask::{Asked, Kind, ask, decode as decode_ask};
pub(crate) use finish::{decode_asides, decode_finish, encode_aside, encode_finish};
pub(crate) use lease::{HeartbeatAnswer, decode_answer, decode_heartbeat, encode_answer, encode_heartbeat};
pub(crate) use reply::{
    Head, decode_events, decode_reply, encode_events, encode_moved, encode_not_served, encode_reply,
};
pub(crate) use words::{Word, decode_words, encode_words};

/// Kinds of exchanges, as an exchange's opening names them.
pub(crate) mod kind {
    /// One message for the owner of a slot.
    pub(crate) const ASK: u32 = 1;
    /// What the nodes of slots say to each other.
    pub(crate) const WORDS: u32 = 2;
    /// What becomes of calls that were under way when their slot was moved.
    pub(crate) const FINISH: u32 = 3;
    /// What a node without a replica of the registry is to know of it.
    pub(crate) const WATCH: u32 = 4;
}

/// Bytes that are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of another node cannot be read: {0}")]
pub(crate) struct Unreadable(pub(crate) &'static str);

impl From<prost::DecodeError> for Unreadable {
    fn from(_: prost::DecodeError) -> Self {
        Self("not the expected message")
    }
}
