//! The "everything" server: every MCP feature behind known names, in both protocol eras.
//! It is the demo upstream of the gateway and the other end of the end-to-end tests.

#![expect(deprecated, reason = "the SDK deprecates logging, sampling and roots; the legacy revisions have them")]

mod ask;
mod call;
mod completion;
mod content;
mod http;
mod hub;
mod page;
mod prompts;
mod resources;
mod server;
mod sessions;
mod shared;
mod stdio;
mod tools;

pub use http::serve_http;
pub use stdio::{serve_io, serve_stdio};

/// Which protocol revisions the server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Era {
    /// Legacy and modern, chosen per request.
    #[default]
    Both,
    /// Only 2024-11-05 … 2025-11-25; modern requests are refused the way an old server does.
    Legacy,
    /// Only 2026-07-28; `initialize` is refused with the supported version named.
    Modern,
}

/// What the server looks like and how it answers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name in `serverInfo` and in the answer of `whoami`.
    pub name: String,
    /// The revisions that are spoken.
    pub era: Era,
    /// Items per page of every list; `None` gives all of them at once.
    pub page_size: Option<usize>,
    /// How many numbered tools (`extra_0001` …) are listed after the others.
    pub extra_tools: usize,
    /// Answer a modern request whose first message is its result with plain JSON instead of SSE.
    pub json_response: bool,
    /// Serve requests with any `Host` header; otherwise only loopback names are accepted.
    pub any_host: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "everything".to_owned(),
            era: Era::Both,
            page_size: None,
            extra_tools: 0,
            json_response: true,
            any_host: false,
        }
    }
}
