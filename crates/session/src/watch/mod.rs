//! The supervisor of one upstream: connects, listens for announcements, asks whether it lives, and connects again.
//!
//! It alone says whether an upstream is up. A call that fails is only a hint to look now.

mod acknowledged;
mod follow;
mod hear;
mod modern;

use crate::ask::{self, AskError, IMPLEMENTATION};
use crate::site::{Profile, Site, Up};
use enfilade_mcp::{Era, Version};
use enfilade_upstream::{CallError, Hello};
use follow::Follow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// First wait before an upstream is tried again; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait before an upstream is tried again.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Ends the fetches of a site when its supervisor ends.
struct EndFetches(Arc<Site>);

impl Drop for EndFetches {
    fn drop(&mut self) {
        self.0.end_fetches();
    }
}

impl Site {
    /// Runs until the task is ended.
    pub(crate) async fn watch(self: Arc<Self>) {
        let _fetches = EndFetches(self.clone());
        let updates = self.updates.announce(&self.hub, self.index);
        tokio::join!(self.supervise(), self.announce_changes(), updates);
    }

    async fn supervise(&self) {
        let mut wait = RETRY_MIN;
        let mut was_told = false;
        loop {
            let began = Instant::now();
            let (why, was) = match self.connect().await {
                Ok(up) => {
                    self.set_up(up.clone());
                    (Follow::new(self, &up).run().await, Some(up))
                }
                Err(error) => (error.to_string(), None),
            };
            self.set_reached();
            let is_told = self.set_down(&why) || was_told;
            was_told = true;
            match is_told {
                true => tracing::debug!(upstream = self.name(), why, "upstream cannot be reached"),
                false => tracing::warn!(upstream = self.name(), why, "upstream cannot be reached; it is tried again"),
            }
            if let Some(up) = was {
                // Down first: telling the upstream good-bye may take its time.
                self.leave(&up).await;
            }
            // An upstream that was up for a while and went away is looked for at once: it may only have restarted.
            wait = if began.elapsed() > RETRY_MAX { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
            let _ = tokio::time::timeout(wait, self.nudge.notified()).await;
            // However often it is asked for, it is not tried more often than this.
            tokio::time::sleep(RETRY_MIN).await;
        }
    }

    async fn connect(&self) -> Result<Up, CallError> {
        match self.connector.era().await? {
            Era::Modern => {
                let discovered = self.connector.discover().await?;
                let profile = Arc::new(Profile::read(Era::Modern, &discovered));
                Ok(Up { profile, peer: self.connector.modern().await? })
            }
            Era::Legacy => {
                let hello = Hello {
                    version: Version::LEGACY_LATEST,
                    client_info: IMPLEMENTATION.into(),
                    capabilities: "{}".into(),
                };
                let opened = self.connector.open(&hello).await?;
                Ok(Up { profile: Arc::new(Profile::read(Era::Legacy, &opened.result)), peer: opened.peer })
            }
        }
    }

    async fn leave(&self, up: &Up) {
        if up.profile.era == Era::Modern {
            // Nothing is sent to open a modern upstream: only asking anew shows whether it lives, and as what.
            self.connector.forget_era();
        }
        up.peer.close().await;
    }

    /// Asks whether the upstream lives. A connection that broke is no proof: it may have been an idle one.
    async fn check(&self, up: &Up) -> Result<(), AskError> {
        match self.ask_whether_alive(up).await {
            Err(AskError::Call(CallError::Lost)) => {
                tokio::time::sleep(RETRY_MIN).await;
                self.ask_whether_alive(up).await
            }
            answer => answer,
        }
    }

    async fn ask_whether_alive(&self, up: &Up) -> Result<(), AskError> {
        let method = match up.profile.era {
            Era::Legacy => "ping",
            Era::Modern => "server/discover",
        };
        match ask::ask(&*up.peer, method, &ask::params(up.profile.era, ""), None, self.deadline()).await {
            // An upstream that answers at all is alive; many do not know `ping`.
            Ok(_) | Err(AskError::Refused(_) | AskError::Call(CallError::TooLarge | CallError::NoMemory)) => Ok(()),
            // A busy upstream is not a dead one, and slow calls that opened the breaker do not prove that it is.
            Err(AskError::Call(CallError::Busy | CallError::Open | CallError::Status(400..=499))) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
