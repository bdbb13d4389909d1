//! All parts of a cluster node, started and stopped in order.

mod follow;
mod prepared;
mod running;
mod shared;

pub use prepared::Prepared;

use crate::map::Map;
use crate::roster::Seen;
use crate::router::Router;
use crate::status::{MemberStatus, Status};
use crate::switchboard::Switchboard;
use enfilade_registry::{Command, Run};
use enfilade_session::Node;
use enfilade_session::slots::Slots as _;
use running::{Running, STOP_LIMIT};
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two attempts to register, or to ask for a drain.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// How long it may take until another node leads.
const STEP_DOWN: Duration = Duration::from_secs(2);

/// A node of a cluster that runs.
pub struct Cluster {
    shared: Arc<Shared>,
    router: Arc<Router>,
    node: Arc<Node>,
    switchboard: Arc<Switchboard>,
    parts: Running,
}

impl Cluster {
    /// The owner of every slot, for the edge.
    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        self.router.clone()
    }

    /// Whom gossip sees now: links and loads follow.
    pub fn set_roster(&self, seen: Vec<Seen>) {
        let map = self.shared.maps.now();
        self.shared.roster.see(seen, &map);
    }

    /// Turns true once this run is registered.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.shared.registered.subscribe()
    }

    /// Resolves once every slot has an owner and this node may act for its own, if it is to have any.
    pub async fn ready(&self) {
        let shared = &self.shared;
        let mut registered = shared.registered.subscribe();
        let _ = registered.wait_for(|registered| *registered).await; // The sender lives as long as this.
        let mut map = shared.maps.watch();
        let _ = map.wait_for(|map| map.slots.records().iter().all(|record| record.owner.is_some())).await;
        let mut changed = shared.slots.changed();
        while shared.config.registration.roles.owner && !shared.slots.has_lease() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let (map, raft) = (shared.maps.now(), shared.registry.status());
        let (leader, is_leader) = {
            let raft = raft.borrow();
            (raft.leader, raft.is_leader)
        };
        let linked = shared.mesh.connected();
        let seconds = |run: Run| map.slots.records().iter().filter(|record| record.second == Some(run)).count();
        let owned = map.slots.loads();
        let members = map.members.iter().map(|(node, member)| {
            let run = Run { node, generation: member.generation };
            MemberStatus {
                run,
                name: member.name.to_string(),
                roles: member.roles,
                draining: member.draining,
                is_linked: node == shared.config.me.node || linked.contains(&node),
                slots_owned: owned.get(&run).copied().unwrap_or(0),
                slots_second: seconds(run),
            }
        });
        let (slots_owned, slots_serving) = shared.slots.counts();
        Status {
            leader,
            is_leader,
            slots_owned,
            slots_serving,
            slots_second: seconds(shared.config.me),
            lease_left_ms: shared.slots.lease_left_ms(),
            is_registered: *shared.registered.borrow(),
            members: members.collect(),
        }
    }

    /// Asks the others to take everything over, and waits until this node is neither owner nor second of anything, and
    /// that calls under way have ended; then lets another node lead. False when that took longer, or nobody else is there
    /// to take it.
    pub async fn drain(&self, within: Duration) -> bool {
        let (shared, me) = (&self.shared, self.shared.config.me);
        let begun = Instant::now();
        let until = begun + within;
        let asked = async {
            while shared.registry.submit(Command::Drain { node: me.node, on: true }).await.is_err() {
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
            let is_empty = |map: &Map| !map.slots.records().iter().any(|record| record.names(me));
            let nobody = |map: &Map| !map.members.owners().any(|run| map.members.takes_slots(run));
            let mut map = shared.maps.watch();
            let ended = map.wait_for(|map| is_empty(map) || nobody(map)).await;
            ended.is_ok_and(|map| is_empty(&map))
        };
        let emptied = tokio::time::timeout_at(until, asked).await.unwrap_or(false);
        tracing::info!(emptied, took_ms = begun.elapsed().as_millis(), "slots were given to others");
        let finished = emptied && tokio::time::timeout_at(until, shared.finishers.idle()).await.is_ok();
        tracing::info!(finished, took_ms = begun.elapsed().as_millis(), "calls under way have ended");
        if emptied
            && let Some(raft) = shared.raft.as_ref().filter(|raft| raft.is_leader())
            && let Err(error) = raft.step_down(STEP_DOWN).await
        {
            tracing::debug!(%error, "nobody else leads the registry yet");
        }
        finished
    }

    /// How much this node has to do, to be told to others.
    #[must_use]
    pub fn load(&self) -> u32 {
        u32::try_from(self.node.in_flight()).unwrap_or(u32::MAX)
    }

    /// Resolves with the name of a part that ended although it was not told to.
    pub async fn failed(&self) -> &'static str {
        self.parts.failed().await
    }

    /// Ends all parts. Slots that this node still owns are taken by others once its lease is over.
    pub async fn shutdown(&self) {
        self.switchboard.disconnect();
        self.shared.wires.close();
        self.parts.stop().await;
        self.shared.asked.close();
        if tokio::time::timeout(STOP_LIMIT, self.shared.asked.wait()).await.is_err() {
            tracing::debug!("messages of other nodes were still in work");
        }
    }
}
