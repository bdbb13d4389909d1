//! The former owner's side: carries what calls say to the new owner of their slot, and back what their clients say.

use crate::duty::{Happened, Inbox};
use crate::wire;
use bytes::Bytes;
use enfilade_mesh::{Exchange, Mesh, Open};
use enfilade_registry::duty::DutyEvent;
use enfilade_registry::{Fence, MoveId, NodeId, Run, SessionKeys, Slot};
use enfilade_session::finish::Finishing;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often it is tried to reach the new owner, and how many times.
const AGAIN: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 50;
/// How long the new owner may take to read the last word.
const LAST_WORD: Duration = Duration::from_secs(2);

/// All slots of which this node finishes calls.
pub(crate) struct Finishers {
    /// None in tests, which hand nothing over.
    mesh: Option<Mesh>,
    keys: Arc<SessionKeys>,
    inbox: Arc<Inbox>,
    tasks: TaskTracker,
    stop: CancellationToken,
    running: Mutex<HashMap<(Slot, MoveId), CancellationToken>>,
    count: watch::Sender<usize>,
}

impl Finishers {
    pub(crate) fn new(
        mesh: Option<Mesh>,
        keys: Arc<SessionKeys>,
        inbox: Arc<Inbox>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (running, count) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { mesh, keys, inbox, tasks, stop, running, count })
    }

    /// Begins to finish calls of a slot that is another node's under `fence`.
    pub(crate) fn start(self: &Arc<Self>, fence: Fence, id: MoveId, to: Run, calls: Finishing) {
        let Some(mesh) = self.mesh.clone() else { return };
        let (over, finishers) = (self.stop.child_token(), self.clone());
        self.running.lock().insert((fence.slot, id), over.clone());
        self.count.send_modify(|count| *count += 1);
        self.tasks.spawn(async move {
            let carried = over.run_until_cancelled(carry(&mesh, to.node, fence, &calls, &finishers.keys)).await;
            if carried != Some(true) {
                tracing::info!(slot = %fence.slot, "calls of a slot that was moved were not finished");
            }
            drop(calls);
            finishers.running.lock().remove(&(fence.slot, id));
            finishers.inbox.put(fence.slot, Happened::Duty(DutyEvent::Finished(id)));
            finishers.count.send_modify(|count| *count -= 1);
        });
    }

    /// What is left of a move's calls ends.
    pub(crate) fn end(&self, slot: Slot, id: MoveId) {
        if let Some(over) = self.running.lock().get(&(slot, id)) {
            over.cancel();
        }
    }

    /// Resolves when no calls are left to finish.
    pub(crate) async fn idle(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await; // The sender lives as long as this.
    }
}

/// True once all calls have ended and the new owner was told.
async fn carry(mesh: &Mesh, to: NodeId, fence: Fence, calls: &Finishing, keys: &SessionKeys) -> bool {
    let Some(exchange) = open(mesh, to, fence).await else { return false };
    let (mut sending, mut receiving) = exchange.split();
    let mut told = false;
    let there = async {
        while let Some(entries) = calls.next().await {
            if sending.send(wire::encode_finish(&entries), false).await.is_err() {
                return;
            }
        }
        told = sending.send(Bytes::new(), true).await.is_ok();
        if told {
            tokio::time::sleep(LAST_WORD).await;
        }
    };
    let back = async {
        while let Some(Ok(payload)) = receiving.next().await {
            match wire::decode_asides(payload, keys) {
                Ok(asides) => asides.into_iter().for_each(|aside| calls.hear(aside)),
                Err(error) => tracing::error!(%error, "what a client said of a call is not understood"),
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    told
}

async fn open(mesh: &Mesh, to: NodeId, fence: Fence) -> Option<Exchange> {
    for _ in 0..ATTEMPTS {
        let (slot, term) = (fence.slot.get(), fence.term.0);
        let open = Open { kind: wire::kind::FINISH, slot, term, ..Open::default() };
        match mesh.open(to, open).await {
            Ok(exchange) => return Some(exchange),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
    None
}
