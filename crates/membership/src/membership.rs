//! A node's part in the gossip: starts it, lets others read the roster, says goodbye.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::{Config, StartError};
use crate::driver::{Driver, Orders};
use crate::identity::{LINK_BYTES_MAX, NAME_BYTES_MAX};
use crate::seal::Seal;
use crate::seat::Taken;
use crate::seeds::Seeker;
use crate::{Alive, Hint, Identity, Roster};

/// A node's part in the gossip. Dropping it falls silent without a word; see [`Membership::leave`].
pub struct Membership {
    identity: Identity,
    roster: watch::Receiver<Arc<Roster>>,
    hint: watch::Sender<Option<Hint>>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    rejected: Arc<AtomicU64>,
    // The driver and the seeker of seeds.
    tasks: [AbortHandle; 2],
}

impl Membership {
    /// Begins to gossip on `socket` as `me`; a gossip port of 0 means the port that the socket is bound to.
    /// Two tasks are spawned; they end with this value.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, mut me: Identity, socket: UdpSocket) -> Result<Membership, StartError> {
        if me.gossip.port() == 0 {
            me.gossip.set_port(socket.local_addr()?.port());
        }
        check(&config, &me)?;
        let seed = match config.random_seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(StartError::Randomness)?,
        };
        let alone = Roster::new(vec![Alive { identity: me.clone(), hint: None }]);
        let (roster_sender, roster) = watch::channel(Arc::new(alone));
        let (hint, hints) = watch::channel(None);
        let (leave, leaving) = mpsc::channel(1);
        let (found, seeds) = mpsc::channel(1);
        let rejected = Arc::new(AtomicU64::new(0));
        let orders = Orders { hints, seeds, leaving, roster: roster_sender, rejected: Arc::clone(&rejected) };
        let taken = Taken { identity: me.clone(), renewal: 0, started_ms: config.started_ms };
        let seal = Seal::new(config.keys, &config.cluster);
        let driver = Driver::new(taken, config.timing, seed, seal, socket, orders);
        let seeker = Seeker {
            seeds: config.seeds,
            resolver: config.resolver,
            timing: config.timing,
            roster: roster.clone(),
            found,
        };
        // Should the driver panic, the roster's watch closes, which its readers notice; the seeker ends with it.
        let tasks = [tokio::spawn(driver.run()).abort_handle(), tokio::spawn(seeker.run()).abort_handle()];
        Ok(Membership { identity: me, roster, hint, leave, rejected, tasks })
    }

    /// Who this node says it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who is alive, as this node sees it, itself included. Closed after [`Membership::leave`].
    pub fn roster(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.clone()
    }

    /// Says something about this node to all; only a higher version than before is taken.
    pub fn set_hint(&self, hint: Hint) {
        self.hint.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| hint.version > known.version);
            if newer {
                *known = Some(hint);
            }
            newer
        });
    }

    /// Packets that did not open: another key, another cluster, noise or an attempt.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Tells the others that this node goes, and falls silent. It cannot come back in this run.
    pub async fn leave(&self) {
        let (done, gone) = oneshot::channel();
        if self.leave.send(done).await.is_ok() {
            // An error means that the driver was gone already.
            let _ = gone.await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn check(config: &Config, me: &Identity) -> Result<(), StartError> {
    config.timing.check()?;
    if me.gossip.ip().is_unspecified() {
        return Err(StartError::NoAddress(me.gossip));
    }
    for (what, text, bytes_max) in
        [("the name", &me.name, NAME_BYTES_MAX), ("the link address", &me.link, LINK_BYTES_MAX)]
    {
        if text.len() > bytes_max {
            return Err(StartError::TooLong { what, bytes_max });
        }
    }
    Ok(())
}
