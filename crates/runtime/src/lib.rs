//! What a process needs around its parts: signals, shutdown in order, a clock, secrets on disk.
//! Nothing here knows what a gateway is.

mod clock;
mod secret;
mod shutdown;
mod signals;

pub use clock::monotonic;
pub use secret::{SECRET_BYTES, SecretError, is_exposed, secret};
pub use shutdown::Shutdown;
pub use signals::Signals;
