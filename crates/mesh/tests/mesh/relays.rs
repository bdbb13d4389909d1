//! Two nodes whose direct link is cut talk over a third.

use std::time::Duration;

use bytes::Bytes;
use enfilade_mesh::{Broken, Config, Message, NotSent, Open};
use enfilade_registry::NodeId;

use crate::fault::{FaultNet, Weather};
use crate::node::{Node, bounded, question, run, talk};

/// Nodes 1, 2 and 3; 1 cannot dial 2.
async fn triangle() -> (Node, Node, Node) {
    let net = FaultNet::new();
    let a = Node::start_with(Config { net: net.clone(), ..Config::new(run(1, 1)) });
    let (b, c) = (Node::start(2), Node::start(3));
    net.set(&b.address, Weather::Cut);
    for node in [&a, &b, &c] {
        node.mesh.set_peers(vec![a.peer(), b.peer(), c.peer()]);
    }
    c.linked_to(&[1, 2]).await;
    a.linked_to(&[3]).await;
    (a, b, c)
}

/// Opens as soon as the roster has arrived that names the relay.
async fn open_relayed(a: &Node, open: Open) -> enfilade_mesh::Exchange {
    bounded(async {
        loop {
            match a.mesh.open(NodeId(2), open.clone()).await {
                Ok(exchange) => return exchange,
                Err(NotSent::Unreachable) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_exchange_passes_over_a_third_node() {
    let (a, mut b, _c) = triangle().await;
    assert_eq!(a.mesh.unreachable(), [NodeId(2)]);
    let open = Open {
        kind: 3,
        slot: 9,
        term: 4,
        within: Some(Duration::from_secs(60)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        payload: Bytes::from_static(b"around the corner"),
        body: Bytes::from_static(b"with luggage"),
        last: false,
    };
    let mut at_a = open_relayed(&a, open.clone()).await;
    assert_eq!(at_a.peer(), b.run);
    let mut arrived = b.next().await;
    assert_eq!(arrived.from, a.run, "not the relay");
    assert_eq!(Open { within: open.within, ..arrived.open }, open);
    for _ in 0..3 {
        at_a.send(Bytes::from(vec![1; 200_000]), false).await.unwrap();
        assert_eq!(bounded(arrived.exchange.next()).await.unwrap().unwrap().len(), 200_000);
        arrived.exchange.send(Bytes::from(vec![2; 200_000]), false).await.unwrap();
        assert_eq!(bounded(at_a.next()).await.unwrap().unwrap().len(), 200_000);
    }
    for bytes in [0, 3, 100_000] {
        let said = Message { head: Bytes::from_static(b"head"), body: vec![3; bytes].into() };
        at_a.send(said.clone(), false).await.unwrap();
        assert_eq!(bounded(arrived.exchange.next_message()).await, Some(Ok(said.clone())), "in its parts");
        arrived.exchange.send(said.clone(), false).await.unwrap();
        let joined = [said.head, said.body].concat();
        assert_eq!(bounded(at_a.next()).await, Some(Ok(joined.into())), "as one");
    }
    at_a.send(Bytes::new(), true).await.unwrap();
    assert_eq!(bounded(arrived.exchange.next()).await, None);
    arrived.exchange.send(Bytes::from_static(b"bye"), true).await.unwrap();
    assert_eq!(bounded(at_a.next()).await, Some(Ok(Bytes::from_static(b"bye"))));
    assert_eq!(bounded(at_a.next()).await, None);
}

#[tokio::test]
async fn an_end_passes_over_a_third_node() {
    let (a, mut b, _c) = triangle().await;
    let at_a = open_relayed(&a, question("cancelled")).await;
    let mut arrived = b.next().await.exchange;
    drop(at_a);
    assert_eq!(bounded(arrived.broken()).await, Broken::Reset);

    let mut at_a = open_relayed(&a, question("refused")).await;
    drop(b.next().await);
    assert_eq!(bounded(at_a.next()).await, Some(Err(Broken::Reset)));

    let within = Some(Duration::from_millis(100));
    let mut at_a = open_relayed(&a, Open { within, ..talk() }).await;
    let mut arrived = b.next().await.exchange;
    assert_eq!(bounded(at_a.broken()).await, Broken::Deadline);
    assert_eq!(bounded(arrived.broken()).await, Broken::Deadline);
}

#[tokio::test]
async fn a_lost_node_behind_a_relay_is_lost_and_a_lost_relay_too() {
    let (a, mut b, c) = triangle().await;
    let mut at_a = open_relayed(&a, question("in flight")).await;
    let _arrived = b.next().await;
    let relayed = open_relayed(&a, question("another")).await;
    let _second = b.next().await;
    drop(b.mesh);
    assert_eq!(bounded(at_a.broken()).await, Broken::Lost);
    drop(relayed);
    c.linked_to(&[1]).await;
    // Either the roster has told that the relay has no link, or the relay itself does.
    let again = match a.mesh.open(NodeId(2), talk()).await {
        Err(NotSent::Unreachable) => Broken::Unsent,
        Err(error) => panic!("{error}"),
        Ok(mut exchange) => bounded(exchange.broken()).await,
    };
    assert_eq!(again, Broken::Unsent);
}
