//! The edge: terminates client transports and admits what may come in. It reaches sessions only through
//! [`enfilade_session::owner::Owner`] and keeps nothing of them, so it may die at any time.

mod answers;
mod body;
mod config;
mod connection;
mod ending;
mod entrance;
mod guard;
mod hand_over;
mod headers;
mod hold;
mod ladder;
mod linger;
mod listener;
mod load;
mod media;
mod metrics;
mod respond;
mod service;
mod sse;
mod stop;
mod streaming;
mod ticket;
mod ws;

pub use config::{Config, ConfigError, Listen, Protocol};
pub use ending::Ending;
pub use listener::{BindError, Bound, bind, serve};
pub use metrics::{FAMILIES, Figures};
pub use service::HEALTH;
pub use ticket::{Outcome, Reason};
