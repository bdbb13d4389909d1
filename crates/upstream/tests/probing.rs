//! Which era an upstream speaks, as the answers of real servers tell it.

mod support;

use enfilade_mcp::{Era, json as walk};
use enfilade_upstream::{CallError, Config, EraChoice};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

const AGAIN: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"],"requested":"x"}}}"#;

#[tokio::test]
async fn asked_once_more_it_is_still_modern() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Plain(400, "content-type: application/json\r\n", AGAIN.to_owned()),
        _ => json(result(request.id(), r#"{"supportedVersions":["2026-07-28"]}"#)),
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    assert_eq!(connector.era().await, Ok(Era::Modern));
    let log = server.received();
    assert_eq!(log.iter().map(Received::rpc).collect::<Vec<_>>(), ["server/discover", "server/discover"]);
    for request in log {
        let version = walk::at(&request.body, &["params", "_meta", "io.modelcontextprotocol/protocolVersion"]);
        assert_eq!(version, Some("\"2026-07-28\""));
        assert_eq!(request.header("mcp-protocol-version"), Some("2026-07-28"));
    }
}

#[tokio::test]
async fn an_answer_as_events_counts_too() {
    let server = Server::start(|request| {
        let answer = result(request.id(), r#"{"supportedVersions":["2026-07-28"]}"#);
        Reply::Events("", vec![Step::Text(format!("data: {answer}\n\n"))])
    })
    .await;
    assert_eq!(connector(Config::http("main", &server.url)).era().await, Ok(Era::Modern));
}

#[tokio::test]
async fn one_probe_serves_everybody_until_it_is_forgotten() {
    let server = Server::start(|_| Reply::Plain(404, "", String::new())).await;
    let connector = connector(Config::http("main", &server.url));
    let (one, other) = tokio::join!(connector.era(), connector.era());
    assert_eq!((one, other), (Ok(Era::Legacy), Ok(Era::Legacy)));
    assert_eq!((connector.era().await, server.received().len()), (Ok(Era::Legacy), 1));
    connector.forget_era();
    assert_eq!((connector.era().await, server.received().len()), (Ok(Era::Legacy), 2));
}

#[tokio::test]
async fn what_says_nothing_of_the_era_is_not_remembered() {
    let server = Server::start(|_| Reply::Plain(503, "", String::new())).await;
    let connector = connector(Config::http("main", &server.url));
    for expected in [1, 2] {
        assert_eq!(connector.era().await, Err(CallError::Status(503)));
        assert_eq!(server.received().len(), expected);
    }
}

#[tokio::test]
async fn a_configured_era_is_not_asked_for() {
    let server = Server::start(|_| Reply::Drop).await;
    for (choice, era) in [(EraChoice::Legacy, Era::Legacy), (EraChoice::Modern, Era::Modern)] {
        let mut config = Config::http("main", &server.url);
        config.era = choice;
        assert_eq!(connector(config).era().await, Ok(era));
    }
    assert!(server.received().is_empty());
}
