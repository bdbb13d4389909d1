//! The new owner's side: what the former owner says of calls goes onto their streams here.

use crate::tenure::OwnSlots;
use crate::wire;
use enfilade_mesh::{Exchange, Open};
use enfilade_registry::{Fence, SessionKeys, Slot, Term};
use enfilade_session::Node;
use enfilade_session::finish::Foreign;
use enfilade_session::slots::{Held, Slots};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long this node may take to see that the slot is its own.
const OWN_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Heir {
    pub(crate) node: Arc<Node>,
    pub(crate) slots: Arc<OwnSlots>,
    pub(crate) keys: Arc<SessionKeys>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Heir {
    /// A former owner begins. At most one exchange per slot and move: the mesh bounds them.
    pub(crate) fn exchange(self: &Arc<Self>, open: &Open, exchange: Exchange) {
        let Some(slot) = Slot::new(open.slot) else { return };
        let (heir, fence) = (self.clone(), Fence { slot, term: Term(open.term) });
        self.tasks.spawn(async move {
            let stop = heir.stop.clone();
            stop.run_until_cancelled(heir.serve(fence, exchange)).await;
        });
    }

    async fn serve(&self, fence: Fence, exchange: Exchange) {
        let Some(foreign) = tokio::time::timeout(OWN_MAX, self.own(fence)).await.ok().flatten() else { return };
        let (mut sending, mut receiving) = exchange.split();
        let back = async {
            loop {
                let aside = foreign.next().await;
                if sending.send(wire::encode_aside(aside), false).await.is_err() {
                    return;
                }
            }
        };
        let here = async {
            while let Some(Ok(payload)) = receiving.next().await {
                match wire::decode_finish(payload, &self.keys) {
                    Ok(entries) => entries.into_iter().for_each(|entry| foreign.take(entry)),
                    Err(error) => return tracing::error!(%error, "what became of a call is not understood"),
                }
            }
        };
        tokio::select! {
            () = here => {}
            () = back => {}
            () = self.gone(fence.slot, &foreign) => {}
        }
    }

    /// The calls, once this node owns the slot; nothing when it will not under this fence.
    async fn own(&self, fence: Fence) -> Option<Foreign> {
        let mut changed = self.slots.changed();
        loop {
            if self.slots.holds(fence) == Held::Gone {
                return None;
            }
            if let Some(foreign) = self.node.foreign(fence) {
                return Some(foreign);
            }
            changed.changed().await.ok()?;
        }
    }

    /// Resolves when the slot is another node's, and nothing of the calls is passed on there. A move on that was aborted
    /// changes only its term.
    async fn gone(&self, slot: Slot, foreign: &Foreign) {
        let mut changed = self.slots.changed();
        while self.slots.is_owned(slot) || foreign.is_passed_on() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
