//! What a replica gives to one node that watches it: an update for every index that it applies, or one for many when
//! that node is slow. Nothing is queued for it but one update.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_registry::Run;
use enfilade_registry::watch::Feed;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use tokio::sync::watch;

use crate::ServeError;
use crate::core::Core;
use crate::status::Status;
use crate::submit::Lead;
use crate::watcher::wire::{self, Parting};

/// An update is given at least this often, so that silence means a loss.
const SIGN: Duration = Duration::from_millis(400);

/// One watch.
struct Watch {
    core: Arc<Core>,
    from: Run,
    feed: Feed,
    /// What of the present update is still to be given.
    parting: Option<Parting>,
    applied: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
    closed: watch::Receiver<bool>,
    told: Option<Lead>,
}

impl Core {
    pub(crate) fn feed(self: Arc<Core>, from: Run, asked: Bytes) -> Result<BoxStream<'static, Bytes>, ServeError> {
        let position = wire::read_request(&asked)?;
        if self.is_gone(from) || *self.closed.borrow() {
            return Err(ServeError::Gone);
        }
        tracing::debug!(%from, index = position.index, "a node watches this replica");
        let watch = Watch {
            from,
            feed: Feed::new(from, position),
            parting: None,
            applied: self.state.watch_index(),
            status: self.status.subscribe(),
            closed: self.closed.subscribe(),
            told: None,
            core: self,
        };
        Ok(unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }).boxed())
    }

    fn is_gone(&self, run: Run) -> bool {
        self.state.read(|state| state.members().is_removed(run.node) || state.members().is_superseded(run))
    }
}

impl Watch {
    /// The next part.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.parting.as_mut().and_then(Parting::next) {
                return Some(part);
            }
            if self.told.is_some() && !self.changed().await || self.core.is_gone(self.from) {
                return None;
            }
            self.applied.borrow_and_update();
            let lead = Lead::of(&self.status.borrow());
            let feed = &mut self.feed;
            // A replica that lags behind the node has nothing to tell yet.
            let give = |state: &_, index, recent: &_| (index >= feed.index()).then(|| feed.next(state, index, recent));
            self.parting = self.core.state.feed(give).map(|update| Parting::new(update, lead));
            self.told = Some(lead);
        }
    }

    /// Waits until there is something to tell. False: this replica stops.
    async fn changed(&mut self) -> bool {
        let told = self.told;
        tokio::select! {
            closed = self.closed.wait_for(|closed| *closed) => { let _ = closed; false }
            changed = self.applied.changed() => changed.is_ok(),
            changed = self.status.wait_for(|status| Some(Lead::of(status)) != told) => changed.is_ok(),
            () = tokio::time::sleep(SIGN) => true,
        }
    }
}
