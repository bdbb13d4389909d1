//! Nodes that die, fall silent or come back: what their peers see, and what they are told about what was sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use enfilade_mesh::{Broken, Config, NotSent, Open};
use enfilade_registry::NodeId;

use crate::fault::{FaultNet, Weather};
use crate::node::{Node, bounded, pair, pair_of, question, run, talk};

#[tokio::test]
async fn a_killed_peer_breaks_what_was_sent_and_takes_nothing_more() {
    let (a, mut b) = pair().await;
    let mut at_a = a.open(2, question("in flight")).await;
    let mut from_b = b.open(1, talk()).await;
    let arrived = b.next().await;
    drop(b.mesh);
    assert_eq!(bounded(at_a.next()).await, Some(Err(Broken::Lost)));
    assert_eq!(bounded(from_b.next()).await, Some(Err(Broken::Lost)));
    drop(arrived);

    a.linked_to(&[]).await;
    assert_eq!(a.mesh.unreachable(), [NodeId(2)]);
    assert_eq!(a.mesh.open(NodeId(2), talk()).await.err(), Some(NotSent::Unreachable));
    assert_eq!(a.mesh.open(NodeId(9), talk()).await.err(), Some(NotSent::Unreachable), "never heard of");
}

#[tokio::test]
async fn a_restarted_peer_is_linked_again_as_its_new_run() {
    let (a, b) = pair().await;
    let address = b.address.clone();
    let old = a.open(2, talk()).await;
    b.mesh.close().await;
    drop(b);
    a.linked_to(&[]).await;

    let mut b = Node::start_at(Config::new(run(2, 2)), &address);
    b.mesh.set_peers(vec![a.peer()]);
    a.linked_to(&[2]).await;
    let mut exchange = a.open(2, question("again")).await;
    assert_eq!(exchange.peer(), run(2, 2), "although only the first run was known");
    b.next().await.exchange.send(Bytes::new(), true).await.unwrap();
    assert_eq!(bounded(exchange.next()).await, None);
    let (mut sending, _receiving) = old.split();
    assert_eq!(sending.send(Bytes::new(), false).await, Err(Broken::Lost));
}

#[tokio::test]
async fn a_known_later_run_replaces_the_link() {
    let net = FaultNet::new();
    let (a, old) = pair_of(Config { net: net.clone(), ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    let mut exchange = a.open(2, talk()).await;
    let new = Node::start_with(Config::new(run(2, 2)));
    a.mesh.set_peers(vec![new.peer()]);
    assert_eq!(bounded(exchange.broken()).await, Broken::Lost);
    a.linked_to(&[]).await;
    a.linked_to(&[2]).await;
    assert_eq!(a.open(2, talk()).await.peer(), run(2, 2));
    // What is known of an earlier run does not go back to it.
    a.mesh.set_peers(vec![old.peer()]);
    assert_eq!(a.open(2, talk()).await.peer(), run(2, 2));
}

#[tokio::test]
async fn an_earlier_run_is_refused() {
    let (a, b) = pair_of(Config::new(run(1, 1)), Config::new(run(2, 5))).await;
    let net = FaultNet::new();
    let stale = Node::start_with(Config { net: net.clone(), ..Config::new(run(2, 4)) });
    stale.mesh.set_peers(vec![a.peer()]);
    bounded(net.dialled(3)).await;
    assert!(stale.mesh.connected().is_empty());
    b.linked_to(&[1]).await;
}

#[tokio::test]
async fn a_silent_peer_is_noticed_within_two_seconds() {
    let net = FaultNet::new();
    let (a, mut b) = pair_of(Config { net: net.clone(), ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    let mut exchange = a.open(2, talk()).await;
    let mut at_b = b.next().await.exchange;
    let begun = Instant::now();
    net.set(&b.address, Weather::Silent);
    assert_eq!(bounded(exchange.broken()).await, Broken::Lost);
    let noticed = begun.elapsed();
    assert!(noticed < Duration::from_millis(2500), "{noticed:?}");
    a.linked_to(&[]).await;
    assert_eq!(a.mesh.unreachable(), [NodeId(2)]);
    assert_eq!(bounded(at_b.broken()).await, Broken::Lost, "the other end notices too");

    net.set(&b.address, Weather::Fair);
    a.linked_to(&[2]).await;
    assert!(a.mesh.unreachable().is_empty());
}

#[tokio::test]
async fn a_full_queue_holds_who_opens_until_the_deadline() {
    let net = FaultNet::new();
    let (a, b) = pair_of(Config { net: net.clone(), ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    net.set(&b.address, Weather::Silent);
    // More than HTTP/2's windows and the link's queue hold.
    let mut opened = Vec::new();
    let refused = loop {
        let open =
            Open { payload: Bytes::from(vec![0; 1024 * 1024]), within: Some(Duration::from_millis(200)), ..talk() };
        match bounded(a.mesh.open(NodeId(2), open)).await {
            Ok(_) if opened.len() > 64 => panic!("the queue has no bound"),
            Ok(exchange) => opened.push(exchange),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, NotSent::Deadline);
    assert!(opened.len() > 4, "{}", opened.len());
}

#[tokio::test]
async fn an_exchange_still_in_the_queue_is_unsent() {
    let net = FaultNet::new();
    let (a, b) = pair_of(Config { net: net.clone(), ..Config::new(run(1, 1)) }, Config::new(run(2, 1))).await;
    net.set(&b.address, Weather::Silent);
    let large = Bytes::from(vec![0; 1024 * 1024]);
    let mut opened = Vec::new();
    for _ in 0..7 {
        opened.push(a.open(2, Open { payload: large.clone(), ..talk() }).await);
    }
    let mut broken = Vec::new();
    for exchange in &mut opened {
        broken.push(bounded(exchange.broken()).await);
    }
    assert_eq!(broken.first(), Some(&Broken::Lost), "the first was with the transport");
    assert_eq!(broken.last(), Some(&Broken::Unsent), "the last was not: {broken:?}");
    let first_unsent = broken.iter().position(|broken| *broken == Broken::Unsent);
    assert!(broken[first_unsent.unwrap()..].iter().all(|broken| *broken == Broken::Unsent), "{broken:?}");
}

#[tokio::test]
async fn closing_writes_what_was_sent() {
    let (a, mut b) = pair().await;
    let mut exchanges = Vec::new();
    for _ in 0..50 {
        let mut exchange = a.open(2, talk()).await;
        exchange.send(Bytes::from(vec![1; 20_000]), true).await.unwrap();
        exchanges.push(exchange);
    }
    bounded(a.mesh.close()).await;
    assert_eq!(a.mesh.open(NodeId(2), talk()).await.err(), Some(NotSent::Unreachable));
    for _ in 0..50 {
        let mut arrived = b.next().await.exchange;
        assert_eq!(bounded(arrived.next()).await.unwrap().unwrap().len(), 20_000);
    }
    b.linked_to(&[]).await;
}

#[tokio::test]
async fn a_forgotten_peer_loses_its_link() {
    let (a, b) = pair().await;
    let mut exchange = a.open(2, talk()).await;
    a.mesh.set_peers(vec![a.peer()]);
    assert_eq!(bounded(exchange.broken()).await, Broken::Lost);
    a.linked_to(&[]).await;
    assert!(a.mesh.unreachable().is_empty(), "neither itself nor who is no peer");
    b.linked_to(&[1]).await;
}
