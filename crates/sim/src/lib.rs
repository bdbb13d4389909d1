//! The cluster in a deterministic world: faults, clocks and messages from one seed, invariants after every step.
//!
//! Rule: what is under test are the state machines of the registry crate; here are only wires, a network, clocks, a
//! model of Raft, clients and upstreams. One seed gives one trace.

mod call;
mod checks;
mod client;
mod clock;
mod ctx;
mod defect;
mod event;
mod faults;
mod history;
pub mod linear;
mod net;
mod node;
mod options;
mod queue;
mod raft;
mod scenario;
pub mod search;
mod setup;
mod stats;
mod trace;
mod trouble;
mod upstream;
mod world;

pub use checks::{Invariant, Violation};
pub use defect::Defect;
pub use options::Options;
pub use scenario::{Hit, MoveStep, Scenario};
pub use stats::Stats;
pub use world::{Report, run};
