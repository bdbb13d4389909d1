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
        round(&node, node.lives.all(), every).await;
    }
}

/// Often enough that a session in use never expires.
fn interval(node: &Node) -> Duration {
    Duration::from_millis((node.limits.session_idle_ms / 4).clamp(250, 60_000))
}

async fn round(node: &Node, lives: Vec<Arc<Live>>, every: Duration) {
    let (all, rest): (Vec<_>, Vec<_>) = lives.into_iter().partition(|live| live.gate.holds() == Held::Yes);
    // The slot went while nobody looked. Those whose lease is lost are left alone, and so are those that were handed over
    // meanwhile: their calls are finished here.
    for live in rest.into_iter().filter(|live| live.gate.is_gone() && !live.gate.is_away()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Limits, PrefixChoice, ServerConfig};
    use crate::copy::NoCopies;
    use crate::node::{NodeConfig, Registry};
    use crate::slots::{AllSlots, Slots};
    use enfilade_mcp::Id;
    use enfilade_registry::{MemoryRegistry, NewSession, Outcome, SessionKeys, Slot, Term};
    use enfilade_upstream::Connector;

    fn node(registry: &Arc<MemoryRegistry>, slots: &Arc<AllSlots>) -> Arc<Node> {
        let upstream = serde_json::from_value(serde_json::json!({"name": "one", "url": "http://127.0.0.1:1/mcp"}));
        let connector = Connector::new(upstream.expect("an upstream")).expect("a connector");
        let prefix = PrefixChoice::Always;
        let server = ServerConfig { name: "default".into(), path: "/mcp".into(), prefix, upstreams: vec![] };
        let config = NodeConfig { servers: vec![server], limits: Limits::default(), cursor_secret: vec![1; 32] };
        let keys = Arc::new(SessionKeys::new(1, &[7; 32]).expect("a key"));
        let registry = Registry { reader: registry.clone(), writer: registry.clone(), keys };
        Node::idle(config, vec![connector], registry, slots.clone(), Arc::new(NoCopies)).expect("a node")
    }

    fn session(node: &Node, registry: &MemoryRegistry, slots: &AllSlots) -> Arc<Live> {
        let new = NewSession {
            id: node.registry.keys.mint(Slot::MIN, [1; 16]),
            principal: "somebody".into(),
            server: "default".into(),
            version: "2025-11-25".into(),
            client_info: "{}".into(),
            capabilities: "{}".into(),
            log_level: None,
        };
        let Ok(Outcome::Created(record)) = registry.apply(&Command::CreateSession(new)) else { panic!("refused") };
        node.begin(&record, &node.views[0], slots.fence(Slot::MIN).expect("it owns every slot"))
    }

    #[tokio::test]
    async fn a_session_that_is_handed_over_while_it_is_swept_goes_on_with_its_calls() {
        let (registry, slots) = (Arc::new(MemoryRegistry::new()), Arc::new(AllSlots::new(Term(1))));
        let node = node(&registry, &slots);
        let live = session(&node, &registry, &slots);
        let call = live.enter(&Id::number(7), 1).expect("there is room");
        let seen = node.lives.all();
        let finishing = node.hand_over(Slot::MIN, Term(2)).expect("a call is under way");
        round(&node, seen, Duration::from_secs(1)).await;
        assert!(!call.cancelled().is_cancelled(), "it is finished for the new owner");
        // But where the slot was taken it ends.
        drop(finishing);
        assert!(call.cancelled().is_cancelled());
    }
}
