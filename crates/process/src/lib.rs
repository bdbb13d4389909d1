//! Processes on this machine: those that a tool starts ([`Process`]), and what any of them uses ([`CpuTime`] and others).
//! For the tools that measure and break the gateway from outside; no part of the gateway uses it.

mod parent;
mod process;
mod usage;

pub use parent::parent_gone;
pub use process::{Failure, Process, Said};
pub use usage::{CpuTime, MachineTime, children, descriptors, resident_bytes, threads};
