//! Against a real server in all its forms: both eras, HTTP and stdio.

mod support;

use enfilade_mcp::{Era, Version, json as walk};
use enfilade_testkit::everything::{self, Options};
use enfilade_upstream::{Call, CallError, Config, Connector, Exchange, Peer};
use std::sync::Arc;
use support::*;

async fn serve(era: everything::Era, json_response: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/mcp", listener.local_addr().unwrap().port());
    let options = Options { era, json_response, ..Options::default() };
    tokio::spawn(everything::serve_http(listener, options, std::future::pending()));
    url
}

fn process(era: &str) -> Config {
    Config::stdio("main", example("everything_stdio").to_str().unwrap(), [era.to_owned()])
}

async fn legacy_works(connector: Arc<Connector>) {
    assert_eq!(connector.era().await, Ok(Era::Legacy));
    let opened = connector.open(&hello()).await.unwrap();
    assert_eq!(opened.version, Version::V2025_11_25);
    assert!(walk::get(&opened.result, "capabilities").is_some());
    assert!(result_of(&*opened.peer, "echo", r#"{"text":"hi"}"#).await.contains("hi"));
    let all = call(&*opened.peer, "test_tool_with_progress", "{}").await.unwrap();
    assert!(all.len() > 1 && all[..all.len() - 1].iter().all(|m| m.contains("notifications/")), "{all:?}");
    asks(&*opened.peer).await;
    opened.peer.close().await;
    connector.shutdown().await;
    assert_eq!((connector.processes(), connector.in_flight()), (0, 0));
}

/// The server asks during a call, on that call's stream, and gets its answer.
async fn asks(peer: &dyn Peer) {
    let (_, started) = start_call(peer, "test_elicitation", r#"{"message":"Who are you?"}"#).await;
    let Ok(Exchange::Stream(mut messages)) = started else { panic!("{started:?}") };
    let request = text(&within("the question", messages.next()).await.unwrap().unwrap());
    assert!(request.contains("elicitation/create"), "{request}");
    let id = walk::get(&request, "id").unwrap();
    let answer =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"accept","content":{{"username":"ann"}}}}}}"#);
    peer.send(answer.into()).await.unwrap();
    assert!(rest(&mut messages).await.unwrap().last().unwrap().contains("ann"));
}

async fn modern_works(connector: Arc<Connector>) {
    assert_eq!(connector.era().await, Ok(Era::Modern));
    assert!(connector.discover().await.unwrap().contains("2026-07-28"));
    let peer = connector.modern().await.unwrap();
    for tool in ["echo", "test_tool_with_progress"] {
        let id = peer.next_id();
        let meta = format!(
            r#"{{"progressToken":{id},"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"t","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        );
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"hi"}},"_meta":{meta}}}}}"#
        );
        let call = Call {
            id,
            message: message.into(),
            method: "tools/call",
            name: Some(tool),
            headers: Vec::new(),
            progress_token: Some(id),
        };
        let all = match within("the call", peer.call(call)).await.unwrap() {
            Exchange::Answer(answer) => vec![text(&answer)],
            Exchange::Stream(mut messages) => rest(&mut messages).await.unwrap(),
        };
        assert!(walk::get(all.last().unwrap(), "result").is_some(), "{tool}: {all:?}");
        assert!(tool == "echo" || all.len() > 1, "{tool}: {all:?}");
    }
    connector.shutdown().await;
    assert_eq!((connector.processes(), connector.in_flight()), (0, 0));
}

#[tokio::test]
async fn legacy_over_http() {
    legacy_works(connector(Config::http("main", serve(everything::Era::Legacy, true).await))).await;
}

#[tokio::test]
async fn modern_over_http() {
    for era in [everything::Era::Modern, everything::Era::Both] {
        for json_response in [true, false] {
            modern_works(connector(Config::http("main", serve(era, json_response).await))).await;
        }
    }
}

#[tokio::test]
async fn legacy_over_stdio() {
    legacy_works(connector(process("legacy"))).await;
}

#[tokio::test]
async fn modern_over_stdio() {
    for era in ["modern", "both"] {
        modern_works(connector(process(era))).await;
    }
}

#[tokio::test]
async fn what_legacy_sessions_over_http_can_do_besides() {
    let connector = connector(Config::http("main", serve(everything::Era::Legacy, true).await));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let mut own = peer.listen().await.unwrap().expect("it has a stream");
    assert!(result_of(&*peer, "emit", r#"{"what":"tools"}"#).await.contains('1'));
    assert!(text(&within("news", own.next()).await.unwrap().unwrap()).contains("tools/list_changed"));
    let id = peer.next_id();
    let hung = {
        let peer = peer.clone();
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"hang"}}}}"#);
        let call = Call {
            id,
            message: message.into(),
            method: "tools/call",
            name: None,
            headers: Vec::new(),
            progress_token: None,
        };
        tokio::spawn(async move { peer.call(call).await })
    };
    within("the server saw it", async { while !result_of(&*peer, "counts", "{}").await.contains("hang") {} }).await;
    let none = r#"\"cancelled\":0"#;
    assert!(result_of(&*peer, "counts", "{}").await.contains(none));
    peer.cancel(id, "test").await;
    hung.abort();
    within("the server saw the cancellation", async {
        while result_of(&*peer, "counts", "{}").await.contains(none) {}
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_has_forgotten_the_session() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = || Options { era: everything::Era::Legacy, ..Options::default() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let first = tokio::spawn(everything::serve_http(listener, options(), async { drop(stopped.await) }));
    let connector = connector(Config::http("main", format!("http://{address}/mcp")));
    let old = connector.open(&hello()).await.unwrap();
    result_of(&*old.peer, "echo", r#"{"text":"hi"}"#).await;
    stop.send(()).unwrap();
    within("the server stopped", first).await.unwrap().unwrap();

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(everything::serve_http(listener, options(), std::future::pending()));
    assert_eq!(call(&*old.peer, "echo", r#"{"text":"hi"}"#).await.unwrap_err(), CallError::Gone);
    let new = connector.open(&hello()).await.unwrap();
    assert_ne!(new.session_id, old.session_id);
    result_of(&*new.peer, "echo", r#"{"text":"hi"}"#).await;
}
