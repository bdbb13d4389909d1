//! Tells which era an MCP server at a URL speaks: `cargo run -p enfilade-upstream --example era -- https://…/mcp`.

use enfilade_upstream::{Config, Connector};

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap_or_default();
    match Connector::new(Config::http("asked", url)) {
        Ok(connector) => println!("{:?}", connector.era().await),
        Err(error) => println!("{error}"),
    }
}
