//! A stand-in for the gateway, to be killed: opens a session in the process that its arguments name, prints that
//! process's id, and waits for ever.

use enfilade_mcp::Version;
use enfilade_upstream::{Call, Config, Connector, Exchange, Hello};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let connector = Connector::new(Config::stdio("held", command, arguments)).expect("the configuration is good");
    let hello = Hello { version: Version::V2025_11_25, client_info: "{}".into(), capabilities: "{}".into() };
    let opened = connector.open(&hello).await.expect("the process starts");
    let id = opened.peer.next_id();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"pid"}}}}"#);
    let call = Call {
        id,
        message: message.into(),
        method: "tools/call",
        name: None,
        headers: Vec::new(),
        progress_token: None,
    };
    let Ok(Exchange::Answer(answer)) = opened.peer.call(call).await else { return };
    let pid = std::str::from_utf8(&answer).ok().and_then(|text| enfilade_mcp::json::get(text, "result"));
    println!("{}", pid.unwrap_or("none"));
    std::future::pending::<()>().await;
}
