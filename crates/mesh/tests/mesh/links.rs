//! Who may have a link: nodes of one cluster, with its keys.

use bytes::Bytes;
use enfilade_mesh::keys::{Keys, generate};
use enfilade_mesh::{CallError, CallFailed, Config, Mesh, StartError, Tls};
use enfilade_registry::ClusterId;

use crate::fault::FaultNet;
use crate::node::{BOUND, ECHO, Node, bounded, pair_of, question, run, talk};

fn tls(keys: &Keys) -> Option<Tls> {
    Some(Tls { ca: keys.ca_cert.clone(), cert: keys.node_cert.clone(), key: keys.node_key.clone() })
}

#[tokio::test]
async fn another_cluster_is_refused_in_both_directions() {
    let of = |node, cluster, net| Config { cluster: Some(ClusterId(cluster)), net, ..Config::new(run(node, 1)) };
    let (net_a, net_b) = (FaultNet::new(), FaultNet::new());
    let a = Node::start_with(of(1, 10, net_a.clone()));
    let b = Node::start_with(of(2, 11, net_b.clone()));
    a.mesh.set_peers(vec![b.peer()]);
    b.mesh.set_peers(vec![a.peer()]);
    bounded(net_a.dialled(3)).await;
    bounded(net_b.dialled(3)).await;
    assert!(a.mesh.connected().is_empty() && b.mesh.connected().is_empty());
    let call = a.mesh.call_address(&b.address, ECHO, "hello".into(), BOUND).await;
    assert_eq!(call, Err(CallFailed::Refused(CallError::Stranger)));
}

#[tokio::test]
async fn a_node_without_a_cluster_is_heard_until_it_joins_another() {
    let founded = Config { cluster: Some(ClusterId(10)), ..Config::new(run(1, 1)) };
    let (a, b) = pair_of(founded, Config::new(run(2, 1))).await;
    b.mesh.set_cluster(ClusterId(10));
    assert_eq!(a.mesh.connected(), [b.run.node]);
    let mut exchange = b.open(1, talk()).await;
    b.mesh.set_cluster(ClusterId(11));
    bounded(exchange.broken()).await;
    b.linked_to(&[]).await;
}

#[tokio::test]
async fn nodes_with_the_clusters_keys_are_linked() {
    let keys = generate().unwrap();
    let of = |node| Config { tls: tls(&keys), ..Config::new(run(node, 1)) };
    let (a, mut b) = pair_of(of(1), of(2)).await;
    let mut exchange = a.open(2, question("sealed")).await;
    let mut arrived = b.next().await;
    assert_eq!(&arrived.open.payload[..], b"sealed");
    arrived.exchange.send(Bytes::from("answer"), true).await.unwrap();
    assert_eq!(bounded(exchange.next()).await, Some(Ok("answer".into())));
    let call = a.mesh.call(b.run.node, ECHO, "call".into(), BOUND).await;
    assert_eq!(call, Ok("call".into()));
}

#[tokio::test]
async fn foreign_keys_and_no_keys_are_refused() {
    let (ours, foreign) = (generate().unwrap(), generate().unwrap());
    let server = Node::start_with(Config { tls: tls(&ours), ..Config::new(run(1, 1)) });
    // Trusts the node, but has a certificate of another authority.
    let disguised = Tls { ca: ours.ca_cert.clone(), cert: foreign.node_cert.clone(), key: foreign.node_key.clone() };
    for (case, keys) in [("foreign", tls(&foreign)), ("disguised", Some(disguised)), ("plain", None)] {
        let net = FaultNet::new();
        let client = Node::start_with(Config { tls: keys, net: net.clone(), ..Config::new(run(2, 1)) });
        client.mesh.set_peers(vec![server.peer()]);
        server.mesh.set_peers(vec![client.peer()]);
        bounded(net.dialled(3)).await;
        assert!(client.mesh.connected().is_empty(), "{case}");
        assert!(server.mesh.connected().is_empty(), "{case}");
        let call = client.mesh.call(server.run.node, ECHO, "hello".into(), BOUND).await;
        assert!(matches!(call, Err(CallFailed::NotSent | CallFailed::Lost)), "{case}: {call:?}");
    }
}

#[tokio::test]
async fn unusable_keys_are_an_error_at_start() {
    let keys = generate().unwrap();
    let bad = Tls { key: keys.node_cert.clone(), ..tls(&keys).unwrap() };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let serve = std::sync::Arc::new(Nobody);
    let started = Mesh::start(Config { tls: Some(bad), ..Config::new(run(1, 1)) }, listener, serve);
    assert!(matches!(started.err(), Some(StartError::Tls(_))));
}

struct Nobody;

impl enfilade_mesh::Serve for Nobody {
    fn exchange(&self, _: enfilade_registry::Run, _: enfilade_mesh::Open, _: enfilade_mesh::Exchange) {}

    fn call(
        &self,
        _: enfilade_registry::Run,
        _: enfilade_mesh::CallKind,
        _: bytes::Bytes,
    ) -> enfilade_registry::BoxFuture<'static, Result<bytes::Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsupported) })
    }
}
