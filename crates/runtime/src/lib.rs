//! What a process needs around its parts: signals, shutdown in order, a clock, secrets on disk, metrics as text, how near it
//! is to the end of its memory, and bounds on what it takes on.
//! Nothing here knows what a gateway is.

mod clock;
mod limit;
mod memory;
pub mod metrics;
mod pressure;
mod secret;
mod shutdown;
mod signals;
pub mod usage;
mod watch;

pub use clock::monotonic;
pub use limit::{COUNTED_BYTES, Limit, Permit};
pub use pressure::{Memory, Pressure, Step};
pub use secret::{SECRET_BYTES, SecretError, is_exposed, secret};
pub use shutdown::Shutdown;
pub use signals::Signals;
pub use watch::{Watching, watch};
