//! What a process needs around its parts: signals, shutdown in order, a clock, secrets on disk, metrics as text.
//! Nothing here knows what a gateway is.

mod clock;
pub mod metrics;
mod secret;
mod shutdown;
mod signals;
pub mod usage;

pub use clock::monotonic;
pub use secret::{SECRET_BYTES, SecretError, is_exposed, secret};
pub use shutdown::Shutdown;
pub use signals::Signals;
