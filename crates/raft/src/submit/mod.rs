//! From a caller's command to its outcome: commands that wait share an entry of the log, the leader proposes it, and
//! the callers hear when this node applies it.
//!
//! Recovery: a batch that is not known to be in the log is sent again, as long as its deadline allows. It is applied
//! once, however often it comes to the log: see `state/origins.rs`.

mod batcher;
mod deliver;
mod way;

pub(crate) use self::batcher::{Batcher, Submitter};
pub(crate) use self::way::{Lead, Way};
