//! The two parts that follow the registry: the slot table, as this node applies it, and its own place among the members.

use super::REGISTER_AGAIN;
use super::shared::Shared;
use crate::config::Registration;
use crate::duty::Desk;
use crate::map::Map;
use enfilade_registry::{Command, WriteError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two ticks of slots.
const DESK_TICK: Duration = Duration::from_millis(100);
/// Between two looks whether slots can be frozen, and between two proposals for many slots.
const DESK_BEAT: Duration = Duration::from_millis(10);

/// Follows what this node applies: the desk deals with it, then those who route and the lease hear of it.
pub(super) async fn follow(shared: Arc<Shared>, mut desk: Desk) {
    let mut applied = shared.registry.applied();
    let mut tick = tokio::time::interval(DESK_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beat = tokio::time::interval(DESK_BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published: Option<Arc<Map>> = None;
    loop {
        // In this order the table holds at least what was applied at the index.
        let index = shared.registry.index();
        let map = Map { slots: shared.registry.slot_table(), members: shared.registry.members() };
        let same = |old: &Arc<Map>| Arc::ptr_eq(&old.members, &map.members) && Arc::ptr_eq(&old.slots, &map.slots);
        if !published.as_ref().is_some_and(same) {
            if !published.as_ref().is_some_and(|old| Arc::ptr_eq(&old.members, &map.members)) {
                shared.wires.set_nodes(&shared.others(&map));
                shared.roster.link(&map);
            }
            desk.look(&map.slots);
            let map = Arc::new(map);
            shared.maps.publish(map.clone());
            published = Some(map);
        }
        shared.dealt.send_if_modified(|dealt| std::mem::replace(dealt, index) != index);
        tokio::select! {
            changed = applied.changed() => {
                if changed.is_err() {
                    return tracing::error!("the registry on this node has ended");
                }
            }
            () = shared.inbox.happened() => desk.happened(),
            () = desk.proposals.answered() => {}
            _ = tick.tick() => desk.tick(),
            _ = beat.tick(), if desk.is_busy() => desk.beat(),
        }
    }
}

/// Registers this run, as often as it takes.
pub(super) async fn register(shared: Arc<Shared>) {
    let me = shared.config.me;
    let Registration { name, link, roles, formats } = shared.config.registration.clone();
    loop {
        let command = Command::Register { run: me, name: name.clone(), link: link.clone(), roles, formats };
        match shared.registry.submit(command).await {
            Ok(_) => {
                shared.registered.send_replace(true);
                // Its work is done; a part that ends would be missed.
                return std::future::pending().await;
            }
            Err(WriteError::Refused(refusal)) => {
                tracing::error!(%refusal, run = %me, "this node may not take part in the cluster");
                return std::future::pending().await;
            }
            Err(WriteError::Unavailable) => tokio::time::sleep(REGISTER_AGAIN).await,
        }
    }
}
