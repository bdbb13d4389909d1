//! Peers for tests: a scripted MCP server that is built on the official Rust SDK, so that the other
//! end of every test speaks MCP with code that is not ours.

pub mod everything;
