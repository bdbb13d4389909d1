//! A node that serves, and how it stops: what was started last for clients stops first.

use crate::alone::Alone;
use crate::member::Member;
use enfilade_edge::{Ending, Figures};
use enfilade_runtime::Shutdown;
use enfilade_session::Node;
use enfilade_upstream::Connector;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// Over the time that the edge gives to requests: what it needs to close connections.
const EDGE_GRACE: Duration = Duration::from_secs(5);

/// The most that one of the other parts may take to stop.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A node that serves.
pub(crate) struct Gateway {
    /// The address of each virtual server.
    pub(crate) urls: Vec<String>,
    /// Nothing when the node has not the role.
    pub(crate) edge: Option<Edge>,
    pub(crate) node: Arc<Node>,
    pub(crate) connectors: Vec<Arc<Connector>>,
    pub(crate) backing: Backing,
}

/// The edge's task.
pub(crate) struct Edge {
    pub(crate) task: JoinHandle<()>,
    pub(crate) ending: Ending,
    pub(crate) figures: Figures,
    /// How long requests may finish.
    pub(crate) drain: Duration,
}

/// Where the registry is, and with whom this node shares the slots.
pub(crate) enum Backing {
    /// With nobody.
    Alone(Alone),
    /// With the other nodes of a cluster.
    Member(Box<Member>),
}

impl Gateway {
    /// Waits for a part to end, which none does by itself.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let edge = async {
            match &mut self.edge {
                Some(edge) => why("edge", (&mut edge.task).await),
                None => std::future::pending().await,
            }
        };
        let backing = async {
            match &mut self.backing {
                Backing::Alone(alone) => alone.failed().await,
                Backing::Member(member) => member.failed().await,
            }
        };
        tokio::select! {
            error = edge => error,
            error = backing => error,
        }
    }

    /// Stops in order: balancers told, sessions handed over, no new requests, requests in flight, sessions, upstreams,
    /// registry.
    pub(crate) async fn stop(self) -> Shutdown {
        let mut shutdown = Shutdown::new();
        if let Some(edge) = &self.edge {
            edge.ending.leave();
        }
        if let Backing::Member(member) = &self.backing {
            member.hand_over().await;
        }
        shutdown.step("listens", STOP_LIMIT, self.node.end_listens()).await;
        if let Some(edge) = self.edge {
            edge.ending.stop();
            shutdown.step("edge", edge.drain + EDGE_GRACE, ended(edge.task)).await;
        }
        shutdown.step("owner", STOP_LIMIT, self.node.shutdown()).await;
        shutdown.step("upstreams", STOP_LIMIT, leave(self.connectors)).await;
        match self.backing {
            Backing::Alone(alone) => alone.stop(&mut shutdown).await,
            Backing::Member(member) => member.stop(&mut shutdown).await,
        }
        shutdown
    }
}

/// What a part's end is as an error.
pub(crate) fn why(part: &str, ended: Result<(), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("the {part} ended by itself"),
        Err(error) => anyhow::anyhow!("the {part} failed: {error}"),
    }
}

/// Upstream sessions are left open: sessions in the registry go on using them, here after a restart or elsewhere.
async fn leave(connectors: Vec<Arc<Connector>>) {
    let mut leaving: JoinSet<()> =
        connectors.into_iter().map(|connector| async move { connector.leave().await }).collect();
    while leaving.join_next().await.is_some() {}
}

/// Waits for a task; that it panicked is logged. One that ended before was reported by [`Gateway::failed`].
pub(crate) async fn ended<T>(task: JoinHandle<T>) {
    if task.is_finished() {
        return;
    }
    if let Err(error) = task.await {
        tracing::error!(%error, "a task failed while it was stopped");
    }
}
