//! Housekeeping of a node: tells the registry which sessions were used, and closes upstream sessions that nobody uses.
//!
//! One registry write per round carries the idle times of many sessions; none is written per request.

use crate::live::Live;
use crate::node::Node;
use crate::slots::Held;
use enfilade_registry::Command;
use futures::stream::{self, StreamExt};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Sessions in one write.
const TOUCH_MAX: usize = 4_096;
/// Sessions whose upstream sessions are closed at a time.
const CLOSINGS_AT_A_TIME: usize = 32;

pub(crate) async fn run(node: Weak<Node>) {
    loop {
        let Some(every) = node.upgrade().map(|node| interval(&node)) else { return };
        tokio::time::sleep(every).await;
        let Some(node) = node.upgrade() else { return };
        round(&node, every).await;
    }
}

/// Often enough that a session in use never expires.
fn interval(node: &Node) -> Duration {
    Duration::from_millis((node.limits.session_idle_ms / 4).clamp(250, 60_000))
}

async fn round(node: &Node, every: Duration) {
    let (all, rest): (Vec<_>, Vec<_>) = node.lives.all().into_iter().partition(|live| live.gate.holds() == Held::Yes);
    // The slot went while nobody looked; those whose lease is lost are left alone.
    for live in rest.into_iter().filter(|live| live.gate.is_gone()) {
        node.forget(&live);
        live.lose();
    }
    let used: Vec<_> = all
        .iter()
        .filter(|live| live.is_busy() || live.idle() < every * 2)
        .map(|live| {
            let idle = if live.is_busy() { Duration::ZERO } else { live.idle() };
            (live.id, u64::try_from(idle.as_millis()).unwrap_or(u64::MAX))
        })
        .collect();
    for part in used.chunks(TOUCH_MAX) {
        if let Err(error) = node.registry.writer.submit(Command::Touch { idle: part.to_vec() }).await {
            tracing::warn!(%error, sessions = part.len(), "idle times not recorded");
        }
    }
    all.iter().for_each(|live| live.sweep());
    let asked: Vec<_> = all.clone();
    // In a task of its own: an upstream that hangs must not keep idle times from being written.
    let idle: Vec<_> = all.into_iter().filter(|live| !live.is_busy()).collect();
    node.tasks.spawn(async move {
        let refuse = |live: Arc<Live>| async move { live.refuse_late_questions().await };
        stream::iter(asked).for_each_concurrent(CLOSINGS_AT_A_TIME, refuse).await;
        let close = |live: Arc<Live>| async move { live.close_idle_upstreams().await };
        stream::iter(idle).for_each_concurrent(CLOSINGS_AT_A_TIME, close).await;
    });
}
