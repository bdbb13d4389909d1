//! Planned moves: a node that drains hands everything over under load, and one that comes gets its share.

mod common;

use common::{Answer, World, within};
use enfilade_registry::{NodeId, SessionId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VERSION: &str = "2025-06-18";

/// Calls that count at the upstream, one after the other, until they are told to stop.
fn load(world: &World, at: usize, session: SessionId, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Answer>> {
    let router = world.nodes[at].router.clone();
    world.nodes[at].spawn(async move {
        let mut answers = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let arguments = format!(r#"{{"key":"{session}"}}"#);
            answers.push(common::call(&router, session, "count", &arguments).await);
        }
        answers
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_under_load_without_a_failed_call() {
    let world = World::start(3).await;
    let mut sessions = Vec::new();
    for at in 0..12 {
        sessions.push(world.open(at % 3, VERSION).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    // Node 1 drains; the others' edges go on.
    let loads: Vec<_> =
        sessions.iter().enumerate().map(|(at, id)| load(&world, [0, 2][at % 2], *id, stop.clone())).collect();
    let started = Instant::now();
    world.nodes[1].drain().await;
    println!("drained in {:?}", started.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut slowest = BTreeMap::new();
    for (at, load) in loads.into_iter().enumerate() {
        let answers = within(load).await.unwrap();
        let counted: Vec<String> =
            answers.iter().map(|answer| answer.content().unwrap_or_else(|| panic!("{answer:?}"))).collect();
        let expected: Vec<String> = (1..=counted.len()).map(|count| count.to_string()).collect();
        assert_eq!(counted, expected, "each call exactly once");
        slowest.insert(counted.len(), at);
    }
    println!("calls per session: {:?}", slowest.keys().collect::<Vec<_>>());
    let status = world.nodes[0].status();
    let drained = status.members.iter().find(|member| member.run.node == NodeId(2)).unwrap();
    assert_eq!((drained.slots_owned, drained.slots_second, drained.draining), (0, 0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_gets_its_share() {
    let mut world = World::start(3).await;
    let mut sessions = Vec::new();
    for at in 0..9 {
        sessions.push(world.open(at % 3, VERSION).await);
    }
    world.nodes[1].kill();
    for session in &sessions {
        assert_eq!(world.nodes[0].content(*session, "echo", r#"{"text":"still"}"#).await, "still");
    }
    world.restart(1).await;
    world.nodes[1].ready().await;
    let started = Instant::now();
    while world.nodes[1].status().slots_serving < 1365 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", world.nodes[1].status());
        for session in &sessions {
            assert_eq!(world.nodes[2].content(*session, "echo", r#"{"text":"moving"}"#).await, "moving");
        }
    }
    println!("balanced after {:?}", started.elapsed());
}
