//! Calls: one question, one answer, on a connection of their own.

use std::time::Duration;

use bytes::Bytes;
use enfilade_mesh::{CallError, CallFailed, CallKind, Config, Limits};
use enfilade_registry::NodeId;

use crate::node::{BOUND, ECHO, HANG, Node, bounded, pair, pair_of, run};

#[tokio::test]
async fn a_call_is_answered() {
    let (a, b) = pair().await;
    let large = Bytes::from(vec![3; 20 * 1024 * 1024]);
    assert!(a.mesh.call(NodeId(2), ECHO, large.clone(), BOUND).await == Ok(large));
    let unknown = b.mesh.call(NodeId(1), CallKind(99), Bytes::new(), BOUND).await;
    assert_eq!(unknown, Err(CallFailed::Refused(CallError::Unsupported)));
    let calls = (0..200_u8).map(|number| {
        let mesh = a.mesh.clone();
        let body = Bytes::from(vec![number; 100]);
        tokio::spawn(async move { assert_eq!(mesh.call(NodeId(2), ECHO, body.clone(), BOUND).await, Ok(body)) })
    });
    for call in calls.collect::<Vec<_>>() {
        bounded(call).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_without_links_can_ask_an_address() {
    let (a, b) = (Node::start(1), Node::start(2));
    let answer = a.mesh.call_address(&b.address, ECHO, "who are you".into(), BOUND).await;
    assert_eq!(answer, Ok("who are you".into()));
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_is_given_up_at_both_ends() {
    let (a, b) = pair().await;
    let failed = a.mesh.call(NodeId(2), HANG, Bytes::new(), Duration::from_millis(50)).await;
    assert_eq!(failed, Err(CallFailed::Deadline));
    bounded(b.given_up.notified()).await;
}

#[tokio::test]
async fn calls_to_nodes_that_are_gone_were_not_sent() {
    let (a, b) = pair().await;
    assert_eq!(a.mesh.call(NodeId(9), ECHO, Bytes::new(), BOUND).await, Err(CallFailed::NotSent));
    let hanging = tokio::spawn({
        let mesh = a.mesh.clone();
        async move { mesh.call(NodeId(2), HANG, Bytes::new(), BOUND).await }
    });
    assert_eq!(a.mesh.call(NodeId(2), ECHO, "x".into(), BOUND).await, Ok("x".into()));
    let address = b.address.clone();
    drop(b);
    assert_eq!(bounded(hanging).await.unwrap(), Err(CallFailed::Lost));
    a.linked_to(&[]).await;
    assert_eq!(a.mesh.call(NodeId(2), ECHO, Bytes::new(), BOUND).await, Err(CallFailed::NotSent));
    // And again when it is back.
    let _b = Node::start_at(Config::new(run(2, 2)), &address);
    a.linked_to(&[2]).await;
    assert_eq!(a.mesh.call(NodeId(2), ECHO, "y".into(), BOUND).await, Ok("y".into()));
}

#[tokio::test]
async fn calls_have_bounds() {
    let limits = Limits { calls_max: 1, call_bytes_max: 1000, ..Limits::default() };
    let (a, b) = pair_of(Config::new(run(1, 1)), Config { limits, ..Config::new(run(2, 1)) }).await;
    let large = Bytes::from(vec![0; 1001]);
    assert_eq!(b.mesh.call(NodeId(1), ECHO, large, BOUND).await, Err(CallFailed::TooLarge));
    let mesh = a.mesh.clone();
    let hanging = tokio::spawn(async move { mesh.call(NodeId(2), HANG, Bytes::new(), BOUND).await });
    // As soon as the first is being answered a second finds no room.
    let refused = bounded(async {
        loop {
            if let Err(error) = a.mesh.call(NodeId(2), ECHO, Bytes::new(), BOUND).await {
                return error;
            }
        }
    });
    assert_eq!(refused.await, CallFailed::Refused(CallError::Unavailable));
    hanging.abort();
    bounded(b.given_up.notified()).await;
}
