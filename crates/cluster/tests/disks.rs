//! Disks of the registry that stand still: leases go on, and what needs no write does not wait.

mod common;

use common::World;
use enfilade_registry::SessionId;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const VERSION: &str = "2025-11-25";
/// Longer than a lease, which lasts two seconds, and than the third that issue 3 asks for.
const STILL: Duration = Duration::from_secs(4);
/// A lease that is lost, or a wait for a disk, shows as more than this.
const UNDISTURBED: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_served_while_all_disks_stand_still_and_new_ones_wait() {
    let world = World::start(3).await;
    let mut sessions = Vec::new();
    for node in 0..3 {
        let session = world.open_owned_by(node, VERSION).await;
        echo(&world, 0, session).await;
        sessions.push(session);
    }
    world.nodes.iter().for_each(|node| node.disk.stand_still(true));
    let mut created = Box::pin(world.open(0, VERSION));
    let since = Instant::now();
    while since.elapsed() < STILL {
        for at in 0..3 {
            echo(&world, at, sessions[(at + 1) % 3]).await;
        }
        assert!(timeout(Duration::from_millis(20), &mut created).await.is_err(), "without a disk nothing is committed");
    }
    world.nodes.iter().for_each(|node| node.disk.stand_still(false));
    let created = created.await;
    echo(&world, 1, created).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_disk_stands_still_alone_keeps_its_lease_while_others_write() {
    let world = World::start(3).await;
    let leader = world.leader().expect("it is ready");
    let (slow, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let session = world.open_owned_by(slow, VERSION).await;
    echo(&world, other, session).await;
    world.nodes[slow].disk.stand_still(true);
    let since = Instant::now();
    while since.elapsed() < STILL {
        // The other two commit it.
        world.open_owned_by(leader, VERSION).await;
        echo(&world, slow, session).await;
        echo(&world, other, session).await;
    }
    world.nodes[slow].disk.stand_still(false);
}

/// Uses a session at a node, which must not take long.
async fn echo(world: &World, at: usize, session: SessionId) {
    let answer = timeout(UNDISTURBED, world.nodes[at].content(session, "echo", r#"{"text":"here"}"#)).await;
    assert_eq!(answer.as_deref(), Ok("here"), "at node {at}");
}
