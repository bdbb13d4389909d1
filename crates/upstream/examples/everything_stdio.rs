//! The testkit's everything server over stdio, for the tests of the connectors: `legacy`, `modern`, or both eras.

use enfilade_testkit::everything::{self, Era, Options};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let era = match std::env::args().nth(1).as_deref() {
        Some("legacy") => Era::Legacy,
        Some("modern") => Era::Modern,
        _ => Era::Both,
    };
    everything::serve_stdio(Options { era, ..Options::default() }).await
}
