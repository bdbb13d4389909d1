//! WebSocket (RFC 6455): one connection carries everything that a client says and hears, one JSON-RPC message in each text
//! message. Opened at the paths of Streamable HTTP; docs/WEBSOCKET.md is the contract with clients.

mod ask;
mod boundary;
mod handshake;
mod hearing;
mod life;
mod meter;
mod outgoing;
mod socket;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use handshake::{Opening, is_asked, open};
pub(crate) use life::serve;
