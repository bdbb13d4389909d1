//! Meshes with real sockets: exchanges, failures, relays, calls and keys.

mod calls;
mod exchanges;
mod failures;
mod fault;
mod links;
mod node;
mod relays;
mod storm;
