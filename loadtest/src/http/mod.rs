//! HTTP/1.1 as a client needs it to hold very many streams: one head, a body in pieces, nothing kept in between.

mod body;
mod connection;
mod events;
pub(crate) mod frames;
mod head;

pub(crate) use body::Body;
pub(crate) use connection::{Answer, Connection, Fault};
pub(crate) use events::{Events, Line};
pub(crate) use head::Head;
