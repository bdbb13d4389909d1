//! The way in: seeds by name, looked up anew for each call, for ever.
//! A name that cannot be resolved, or not in time, leaves the others as they are; nobody waits for DNS but this task.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::{Roster, Timing};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Longest wait for one name.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

/// Addresses of all seeds together that are used.
const ADDRESSES_MAX: usize = 256;

/// Finds the addresses of a seed.
pub trait Resolve: Send + Sync {
    /// All addresses that `seed` (`host:port`) has now.
    fn resolve<'a>(&'a self, seed: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, seed: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(seed).await?.collect()) })
    }
}

/// Resolves the seeds again and again and hands their addresses to the driver.
pub(crate) struct Seeker {
    pub(crate) seeds: Vec<String>,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) timing: Timing,
    pub(crate) roster: watch::Receiver<Arc<Roster>>,
    pub(crate) found: mpsc::Sender<BTreeSet<SocketAddr>>,
}

impl Seeker {
    /// Runs until the driver is gone.
    pub(crate) async fn run(self) {
        while !self.seeds.is_empty() {
            let addresses = self.resolve_all().await;
            if self.found.send(addresses).await.is_err() {
                return;
            }
            let alone = self.roster.borrow().members().len() <= 1;
            tokio::time::sleep(if alone { self.timing.alone() } else { self.timing.again() }).await;
        }
    }

    async fn resolve_all(&self) -> BTreeSet<SocketAddr> {
        let mut lookups = JoinSet::new();
        for seed in &self.seeds {
            let (seed, resolver) = (seed.clone(), Arc::clone(&self.resolver));
            lookups.spawn(async move {
                let found = tokio::time::timeout(RESOLVE_WITHIN, resolver.resolve(&seed)).await;
                (seed, found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            });
        }
        let mut addresses = BTreeSet::new();
        while let Some(done) = lookups.join_next().await {
            match done {
                Ok((_, Ok(found))) => addresses.extend(found),
                Ok((seed, Err(error))) => tracing::debug!(seed, %error, "seed not resolved"),
                Err(error) => tracing::error!(%error, "a look-up of a seed failed"),
            }
        }
        while addresses.len() > ADDRESSES_MAX {
            addresses.pop_last();
        }
        addresses
    }
}
