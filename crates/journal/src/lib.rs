//! Durable state of one node: an append-only log with snapshots, and the registry kept in it.
//!
//! Rule: what was acknowledged survives a crash; what is damaged is refused by name, never skipped.

mod error;
mod files;
mod frame;
mod journal;
pub mod local;
mod segment;
mod snapshot;
mod snapshots;

pub use error::JournalError;
pub use frame::BATCH_BYTES_MAX;
pub use journal::{BatchPlace, Compacted, Compaction, Journal, Recovered};
pub use local::{LocalConfig, LocalRegistry, NowMs, OpenError};
pub use snapshots::Snapshots;
