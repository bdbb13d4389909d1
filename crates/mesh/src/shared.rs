//! What the tasks of one mesh share.

use std::collections::HashMap;
use std::sync::Arc;

use enfilade_registry::{ClusterId, NodeId};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hello::Stranger;
use crate::link::Link;
use crate::peers::{Linked, Peers};
use crate::tls::Secured;
use crate::{Config, Serve};

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) tls: Option<Secured>,
    /// Where links live.
    pub(crate) links: Handle,
    /// Where calls live.
    pub(crate) control: Handle,
    pub(crate) serve: Arc<dyn Serve>,
    pub(crate) peers: Peers,
    pub(crate) accepted: Accepted,
    pub(crate) cluster: Mutex<Option<ClusterId>>,
    /// Calls that may be answered at the same time.
    pub(crate) calls: Semaphore,
    /// No more links are made or taken.
    pub(crate) closing: CancellationToken,
    /// Everything ends at once.
    pub(crate) stop: CancellationToken,
    /// The tasks that read links.
    pub(crate) readers: TaskTracker,
    /// All other tasks.
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock()
    }

    /// Runs a task for links that ends with the mesh.
    pub(crate) fn spawn(self: &Arc<Self>, tracker: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&self.links, tracker, task);
    }

    /// Runs a task that ends with the mesh.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        tracker: &TaskTracker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        tracker.spawn_on(async move { stop.run_until_cancelled_owned(task).await }, runtime);
    }
}

/// The links that other nodes opened to this one: one per node, the newest.
#[derive(Default)]
pub(crate) struct Accepted {
    links: Mutex<HashMap<NodeId, Linked>>,
}

impl Accepted {
    /// Enters a link. An older one of the same node is closed; one of an earlier run than is known is refused.
    pub(crate) fn enter(&self, linked: Linked) -> Result<(), Stranger> {
        let peer = linked.link.peer;
        let old = {
            let mut links = self.links.lock();
            if links.get(&peer.node).is_some_and(|old| old.link.peer.generation > peer.generation) {
                return Err(Stranger::Stale);
            }
            links.insert(peer.node, linked)
        };
        if let Some(old) = old {
            old.link.close();
        }
        Ok(())
    }

    /// Takes a link out when it has ended, unless a newer one is in its place.
    pub(crate) fn leave(&self, link: &Arc<Link>) {
        let mut links = self.links.lock();
        if links.get(&link.peer.node).is_some_and(|current| Arc::ptr_eq(&current.link, link)) {
            links.remove(&link.peer.node);
        }
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.lock().values().map(|linked| Arc::clone(&linked.link)).collect()
    }

    /// Closes the links of nodes of another cluster.
    pub(crate) fn belong_to(&self, cluster: ClusterId) {
        let strange: Vec<_> = {
            let links = self.links.lock();
            links.values().filter(|linked| linked.cluster.is_some_and(|theirs| theirs != cluster)).cloned().collect()
        };
        strange.iter().for_each(|linked| linked.link.close());
    }
}
