//! Processes over stdio: sessions, routing, limits.

mod support;

use enfilade_mcp::{Era, MESSAGE_BYTES_MAX};
use enfilade_runtime::Limit;
use enfilade_upstream::{CallError, Connector, EraChoice, Exchange, Sharing};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use support::*;

#[tokio::test]
async fn a_session_has_its_process_and_it_ends_with_it() {
    let connector = connector(scripted(&[]));
    assert_eq!(connector.era().await, Ok(Era::Legacy));
    assert_eq!(connector.processes(), 1);
    let one = connector.open(&hello()).await.unwrap();
    assert_eq!(connector.processes(), 1, "the probed process is used");
    let other = connector.open(&hello()).await.unwrap();
    assert_eq!(connector.processes(), 2);
    assert_eq!((one.session_id.as_deref(), one.version), (None, enfilade_mcp::Version::V2025_11_25));
    assert_eq!(result_of(&*one.peer, "echo", r#"{"a":[1]}"#).await, r#"{"a":[1]}"#);
    assert_ne!(result_of(&*one.peer, "pid", "{}").await, result_of(&*other.peer, "pid", "{}").await);
    let variables: usize = result_of(&*one.peer, "environment", "{}").await.parse().unwrap();
    assert!((1..=5).contains(&variables), "only what is needed is passed on");
    one.peer.close().await;
    until("its process ended", || connector.processes() == 1).await;
    assert_eq!(call(&*one.peer, "echo", "{}").await.unwrap_err(), CallError::Gone);
    drop(other);
    until("a forgotten one ends too", || connector.processes() == 0).await;
}

#[tokio::test]
async fn servers_that_end_at_a_probe_are_opened_all_the_same() {
    let connector = connector(scripted(&["--strict"]));
    assert_eq!(connector.era().await, Ok(Era::Legacy));
    assert_eq!(result_of(&*connector.open(&hello()).await.unwrap().peer, "echo", "1").await, "1");
}

#[tokio::test]
async fn servers_that_say_nothing_to_a_probe_are_legacy() {
    let connector = connector(scripted(&["--mute"]));
    assert_eq!(connector.era().await, Ok(Era::Legacy));
    assert_eq!(result_of(&*connector.open(&hello()).await.unwrap().peer, "echo", "1").await, "1");
    assert_eq!(connector.processes(), 1);
}

#[tokio::test]
async fn a_process_that_starts_slowly_says_later_that_it_is_modern() {
    let connector = connector(scripted(&["--modern", "--late"]));
    assert_eq!(connector.era().await, Ok(Era::Legacy), "it has said nothing yet");
    let refused = connector.open(&hello()).await.map(|opened| opened.result);
    assert_eq!(refused, Err(CallError::Protocol("the upstream turned out to be modern")));
    assert_eq!(connector.era().await, Ok(Era::Modern));
    assert_eq!(result_of(&*connector.modern().await.unwrap(), "echo", "1").await, "1");
    assert_eq!(connector.processes(), 1, "it is the same process");
}

#[tokio::test]
async fn a_modern_process_is_shared_and_started_again() {
    let connector = connector(scripted(&["--modern"]));
    assert_eq!(connector.era().await, Ok(Era::Modern));
    assert!(connector.discover().await.unwrap().contains("2026-07-28"));
    let peer = connector.modern().await.unwrap();
    let first = result_of(&*peer, "pid", "{}").await;
    assert_eq!(result_of(&*connector.modern().await.unwrap(), "pid", "{}").await, first);
    assert_eq!(connector.processes(), 1);
    assert_eq!(call(&*peer, "exit", "{}").await.unwrap_err(), CallError::Lost);
    assert_ne!(result_of(&*peer, "pid", "{}").await, first);
    peer.cancel(4711, "not wanted").await;
    assert_eq!(result_of(&*peer, "cancelled", "{}").await, "[4711]");
    connector.shutdown().await;
    assert_eq!(connector.processes(), 0);
}

#[tokio::test]
async fn a_modern_process_that_hangs_makes_room_when_its_era_is_forgotten() {
    let mut config = scripted(&["--modern"]);
    (config.era, config.processes_max) = (EraChoice::Modern, 1);
    let connector = connector(config);
    assert!(connector.discover().await.unwrap().contains("2026-07-28"));
    let peer = connector.modern().await.unwrap();
    let first = result_of(&*peer, "pid", "{}").await;
    // It neither answers nor ends when asked to.
    kill(Pid::from_raw(first.parse().unwrap()), Signal::SIGSTOP).unwrap();
    connector.forget_era();
    until("it is ended", || connector.processes() == 0).await;
    assert_ne!(result_of(&*peer, "pid", "{}").await, first);
    // There is no room for a process that only tells its era.
    assert!(connector.discover().await.unwrap().contains("2026-07-28"));
    assert_eq!(connector.processes(), 1);
}

#[tokio::test]
async fn a_modern_subscription_gets_what_names_it() {
    let connector = connector(scripted(&["--modern"]));
    let peer = connector.modern().await.unwrap();
    let id = peer.next_id();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{}}}}"#);
    let listen = enfilade_upstream::Call {
        id,
        message: message.into(),
        method: "subscriptions/listen",
        name: None,
        headers: Vec::new(),
        progress_token: None,
    };
    let Ok(Exchange::Stream(mut messages)) = within("the acknowledgement", peer.call(listen)).await else { panic!() };
    assert!(text(&messages.next().await.unwrap().unwrap()).contains("acknowledged"));
    assert_eq!(result_of(&*peer, "echo", "1").await, "1");
}

#[tokio::test]
async fn messages_find_their_call_or_the_listener() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let all = call(&*peer, "news", "{}").await.unwrap();
    assert_eq!(all.len(), 4, "nobody else listens: {all:?}");
    let mut own = peer.listen().await.unwrap().unwrap();
    assert!(peer.listen().await.unwrap().is_none());
    let all = call(&*peer, "news", "{}").await.unwrap();
    assert!(all[0].contains("notifications/message") && all[1].contains("progress") && all[2].contains("result"));
    assert!(text(&within("news", own.next()).await.unwrap().unwrap()).contains("list_changed"));
    peer.close().await;
    assert!(within("the end", own.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_a_time() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let callers = (0..32).map(|caller| {
        let peer = peer.clone();
        tokio::spawn(async move {
            for call in 0..50 {
                let sent = format!("[{caller},{call}]");
                assert_eq!(result_of(&*peer, "echo", &sent).await, sent);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(connector.in_flight(), 0);
}

#[tokio::test]
async fn a_request_of_the_process_goes_to_the_only_call() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let (_, Ok(Exchange::Stream(mut messages))) = start_call(&*peer, "ask", "{}").await else { panic!() };
    assert!(text(&messages.next().await.unwrap().unwrap()).contains("roots/list"));
    peer.send(r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#.into()).await.unwrap();
    assert!(rest(&mut messages).await.unwrap()[0].contains(r#""result":{"roots":[]}"#));

    // With two calls in flight nobody knows whose it is.
    let hung = {
        let peer = peer.clone();
        tokio::spawn(async move { start_call(&*peer, "hang", "{}").await.1 })
    };
    until("the call is in flight", || connector.in_flight() == 1).await;
    assert!(call(&*peer, "ask", "{}").await.unwrap()[0].contains("-32603"));
    hung.abort();
}

#[tokio::test]
async fn an_exit_loses_the_call_and_the_next_session_works() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    assert_eq!(call(&*peer, "exit", "{}").await.unwrap_err(), CallError::Lost);
    assert!(!peer.is_alive());
    assert_eq!(call(&*peer, "echo", "{}").await.unwrap_err(), CallError::Gone);
    assert_eq!(result_of(&*connector.open(&hello()).await.unwrap().peer, "echo", "1").await, "1");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_unreachable() {
    let mut config = scripted(&[]);
    config.command = Some("/nowhere/at-all".to_owned());
    config.era = EraChoice::Legacy;
    assert_eq!(connector(config).open(&hello()).await.err(), Some(CallError::Unreachable));
}

#[tokio::test]
async fn processes_are_bounded() {
    let mut config = scripted(&[]);
    config.processes_max = 2;
    let connector = connector(config);
    let one = connector.open(&hello()).await.unwrap();
    let _other = connector.open(&hello()).await.unwrap();
    assert_eq!(connector.open(&hello()).await.err(), Some(CallError::Busy));
    one.peer.close().await;
    until("its process ended", || connector.processes() == 1).await;
    assert!(connector.open(&hello()).await.is_ok());
}

#[tokio::test]
async fn a_thousand_sessions_share_eight_processes() {
    let mut config = scripted(&[]);
    (config.sessions, config.processes_max) = (Sharing::Shared, 8);
    let connector = connector(config);
    let hello = hello();
    let sessions = futures::future::join_all((0..1000).map(|_| connector.open(&hello))).await;
    assert_eq!(connector.processes(), 8);
    let mut pids = BTreeSet::new();
    for session in sessions.iter().step_by(25) {
        pids.insert(result_of(&*session.as_ref().unwrap().peer, "pid", "{}").await);
    }
    assert_eq!(pids.len(), 8, "the load is spread");
    connector.shutdown().await;
    assert_eq!(connector.processes(), 0);
}

#[tokio::test]
async fn answers_up_to_the_limit_and_not_one_byte_more() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let exact = format!(r#"{{"bytes":{MESSAGE_BYTES_MAX}}}"#);
    assert_eq!(call(&*peer, "sized", &exact).await.unwrap()[0].len(), MESSAGE_BYTES_MAX);
    let more = format!(r#"{{"bytes":{}}}"#, MESSAGE_BYTES_MAX + 1);
    assert_eq!(call(&*peer, "sized", &more).await.unwrap_err(), CallError::TooLarge);
    assert_eq!(result_of(&*peer, "echo", "1").await, "1", "the next message is served");
}

#[tokio::test]
async fn an_answer_without_room_is_refused_and_the_next_one_is_served() {
    let messages = Limit::new(80_000);
    let connector = Connector::within(scripted(&[]), messages.clone()).unwrap();
    let peer = connector.open(&hello()).await.unwrap().peer;
    for (bytes, fits) in [(80_000, true), (80_001, false), (80_000, true)] {
        let answer = call(&*peer, "sized", &format!(r#"{{"bytes":{bytes}}}"#)).await;
        assert_eq!(answer.map(|messages| messages[0].len()), if fits { Ok(bytes) } else { Err(CallError::NoMemory) });
        assert_eq!(messages.now(), 0, "it is given back");
    }
}

#[tokio::test]
async fn lines_that_are_no_messages_do_no_harm() {
    let connector = connector(scripted(&[]));
    let peer = connector.open(&hello()).await.unwrap().peer;
    assert_eq!(result_of(&*peer, "noise", r#"{"lines":500}"#).await, "{}");
}
