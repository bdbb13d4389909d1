//! Three nodes: a session works everywhere, survives its owner, and nothing unsafe is executed twice.

mod common;

use common::{World, until, within};
use enfilade_registry::Roles;
use std::time::{Duration, Instant};

const VERSION: &str = "2025-06-18";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_one_node_is_used_and_ended_on_others() {
    let world = World::start(3).await;
    let session = world.open_owned_by(0, VERSION).await;
    for (at, node) in world.nodes.iter().enumerate() {
        assert_eq!(node.content(session, "echo", r#"{"text":"hello"}"#).await, "hello", "at node {at}");
    }
    let slow = within(world.nodes[2].call(session, "slow", r#"{"ms":300,"steps":3}"#)).await.unwrap();
    assert_eq!(slow.content().as_deref(), Some("done"));
    let ended = Instant::now();
    assert_eq!(within(world.nodes[1].end(session)).await.unwrap().status, 200);
    for node in &world.nodes {
        let answer = within(node.call(session, "echo", r#"{"text":"x"}"#)).await.unwrap();
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let took = ended.elapsed();
    assert!(took < Duration::from_millis(500), "everywhere within 500 ms: {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_owner_is_taken_over_within_seconds() {
    let mut world = World::start(3).await;
    let mut sessions = Vec::new();
    for at in 0..30 {
        sessions.push(world.open(at % 3, VERSION).await);
    }
    let lost = 2;
    let affected: Vec<_> = sessions.iter().copied().filter(|id| world.owner(0, *id) == Some(lost)).collect();
    assert!(!affected.is_empty());
    // An unsafe call is under way at the lost owner, from another edge.
    let unsafe_call = world.nodes[0].call(affected[0], "slow", r#"{"ms":20000}"#);
    let count = world.nodes[1].content(affected[0], "count", r#"{"key":"before"}"#).await;
    assert_eq!(count, "1");
    let killed = Instant::now();
    world.nodes[lost].kill();
    let unknown = within(unsafe_call).await.unwrap();
    assert!(unknown.is_unknown(), "{unknown:?}");
    for session in &sessions {
        assert_eq!(world.nodes[0].content(*session, "echo", r#"{"text":"still"}"#).await, "still");
    }
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    println!("taken over after {took:?}");
    // The node comes back as a new run, and gets work again.
    world.restart(lost).await;
    world.nodes[lost].ready().await;
    for session in &sessions {
        assert_eq!(world.nodes[lost].content(*session, "echo", r#"{"text":"again"}"#).await, "again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_cut_off_pauses_before_others_take_its_slots() {
    let world = World::start(3).await;
    let cut = (0..3).find(|at| world.leader() != Some(*at)).unwrap();
    let other = (0..3).find(|at| world.leader() != Some(*at) && *at != cut).unwrap();
    let session = world.open_owned_by(cut, VERSION).await;
    assert_eq!(world.nodes[cut].content(session, "count", r#"{"key":"a"}"#).await, "1");
    world.nodes[cut].cut.set(true);
    until(|| async { world.nodes[cut].status().lease_left_ms }, |left| *left == 0).await;
    let owners = world.owner(other, session);
    assert_eq!(owners, Some(cut), "its slots are still its own when it stops");
    // Both edges are asked for something unsafe: one executes it, the other says that nobody serves.
    let here = world.nodes[cut].call(session, "count", r#"{"key":"b"}"#);
    let there = world.nodes[other].content(session, "count", r#"{"key":"b"}"#).await;
    assert_eq!(there, "1");
    let here = within(here).await.unwrap();
    assert_eq!(here.status, 503, "{here:?}");
    world.nodes[cut].cut.set(false);
    until(|| async { world.nodes[cut].status().lease_left_ms }, |left| *left > 0).await;
    assert_eq!(world.nodes[cut].content(session, "count", r#"{"key":"b"}"#).await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_lost_with_its_slots_is_replaced() {
    let mut world = World::start(3).await;
    let leader = world.leader().unwrap();
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    let session = world.open_owned_by(leader, VERSION).await;
    assert_eq!(world.nodes[first].content(session, "count", r#"{"key":"k"}"#).await, "1");
    let killed = Instant::now();
    world.lose(leader).await;
    assert_eq!(world.nodes[second].content(session, "count", r#"{"key":"k"}"#).await, "2");
    let served = killed.elapsed();
    let fresh = world.open(first, VERSION).await;
    assert_eq!(world.nodes[second].content(fresh, "echo", r#"{"text":"new"}"#).await, "new");
    println!("served again after {served:?}, a new session after {:?}", killed.elapsed());
    assert!(served < Duration::from_secs(10), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pure_edge_runs_nothing_itself() {
    let edge = Roles { owner: false, ..Roles::ALL };
    let mut world = World::start_with(&[Roles::ALL, Roles::ALL, edge]).await;
    assert_eq!(world.nodes[2].status().slots_owned, 0);
    let session = world.open(2, VERSION).await;
    assert_eq!(world.nodes[2].content(session, "count", r#"{"key":"a"}"#).await, "1");
    let modern = within(world.nodes[2].modern("count", r#"{"key":"a"}"#)).await.unwrap();
    assert_eq!(modern.content().as_deref(), Some("2"), "{modern:?}");
    let owner = world.owner(2, session).unwrap();
    world.lose(owner).await;
    assert_eq!(world.nodes[2].content(session, "count", r#"{"key":"a"}"#).await, "3");
    let modern = within(world.nodes[2].modern("count", r#"{"key":"a"}"#)).await.unwrap();
    assert_eq!(modern.content().as_deref(), Some("4"), "{modern:?}");
}
