//! Who is alive: SWIM gossip (foca) over sealed UDP packets.
//!
//! Rule: gossip is a hint. It proposes whom to talk to; the registry disposes who is a member and who owns what.
//! Packets are bounded, sealed and may be lost; whoever was missed is told again, for ever.

mod config;
mod driver;
mod hint;
mod identity;
mod membership;
mod outbox;
mod roster;
mod seal;
mod seat;
mod seeds;
#[cfg(test)]
mod tests;

pub use config::{Config, StartError, Timing};
pub use hint::{Hint, SEES_MAX};
pub use identity::{Identity, LINK_BYTES_MAX, NAME_BYTES_MAX};
pub use membership::Membership;
pub use roster::{Alive, Roster};
pub use seal::{BadGossipKeys, GossipKeys};
pub use seeds::{BoxFuture, Resolve, SystemResolver};
