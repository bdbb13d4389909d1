//! What this node may do: its slots, and the lease without which it does nothing for them.

mod lease;
mod slots;

pub(crate) use lease::Lease;
pub(crate) use slots::{OwnSlots, State};
