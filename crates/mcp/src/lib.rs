//! The Model Context Protocol, as pure functions over bytes: no sockets, no clock, no tasks.
//!
//! A message is read once ([`envelope`]) and passed on by replacing the few spans that must differ ([`splice`]);
//! params and results are never re-serialised. What the five revisions disagree on is asked of [`version::Version`].

pub mod classify;
pub mod cursor;
pub mod envelope;
pub mod error;
mod grammar;
pub mod header;
pub mod id;
pub mod json;
pub mod line;
pub mod meta;
pub mod method;
pub mod names;
mod near;
pub mod param_headers;
pub mod splice;
pub mod sse;
pub mod translate;
pub mod uris;
pub mod version;

pub use envelope::{Envelope, Kind};
pub use error::{Fault, RpcError};
pub use id::Id;
pub use json::Fields;
pub use splice::Splice;
pub use version::{Era, Version};

/// Largest message that is accepted on any transport, in bytes (16 MiB); it is counted while reading.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
