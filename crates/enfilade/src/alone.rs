//! What a node alone has in place of a cluster: a registry in a journal, and a clock that moves its time.

use crate::compose::tell_of_ends;
use crate::gateway::{STOP_LIMIT, ended, why};
use crate::identity::Identity;
use enfilade_journal::LocalRegistry;
use enfilade_runtime::Shutdown;
use enfilade_session::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often registry time moves on.
const TICK: Duration = Duration::from_secs(1);

/// The registry of a node alone.
pub(crate) struct Alone {
    registry: Arc<LocalRegistry>,
    ticks: JoinHandle<()>,
    stop_ticks: CancellationToken,
    /// Holds the data directory.
    _identity: Identity,
}

impl Alone {
    /// Starts its clock, and tells `node` of sessions that end.
    pub(crate) fn start(identity: Identity, registry: Arc<LocalRegistry>, node: &Arc<Node>) -> Self {
        registry.on_ended(tell_of_ends(node));
        let stop_ticks = CancellationToken::new();
        // Owned by this value; the gateway ends when it ends or panics.
        let ticks = tokio::spawn(ticks(registry.clone(), stop_ticks.clone()));
        Self { registry, ticks, stop_ticks, _identity: identity }
    }

    pub(crate) fn registry(&self) -> Arc<LocalRegistry> {
        self.registry.clone()
    }

    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        why("registry clock", (&mut self.ticks).await)
    }

    pub(crate) async fn stop(self, shutdown: &mut Shutdown) {
        self.stop_ticks.cancel();
        shutdown.step("registry clock", STOP_LIMIT, ended(self.ticks)).await;
        let registry = self.registry;
        shutdown.step("registry", STOP_LIMIT, ended(tokio::task::spawn_blocking(move || registry.close()))).await;
    }
}

/// Moves registry time on until it is stopped. A tick that fails is logged: sessions then live longer, never shorter.
async fn ticks(registry: Arc<LocalRegistry>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        if let Err(error) = registry.tick().await {
            tracing::error!(%error, "registry time stands still");
        }
    }
}
