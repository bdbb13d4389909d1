//! Follows one upstream while it is up: hears what it announces, and sees to it that it watches what clients want.
//!
//! `asked` are the topics that the upstream was asked for, `watched` those of them that it confirmed. A topic that it
//! refused is asked for again only when somebody wants it anew.

use super::{RETRY_MAX, RETRY_MIN};
use crate::ask::{self, AskError};
use crate::lists::ListKind;
use crate::site::{Site, Up};
use crate::topics::{Changed, Refusal};
use bytes::Bytes;
use enfilade_mcp::{Era, json};
use enfilade_upstream::Messages;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Questions about topics that an upstream gets at a time.
const TOPICS_AT_A_TIME: usize = 16;

pub(super) struct Follow<'a> {
    pub(super) site: &'a Site,
    pub(super) up: &'a Up,
    /// What it announces; none while there is no such stream.
    pub(super) messages: Option<Messages>,
    /// The `subscriptions/listen` behind the messages (modern).
    pub(super) listen: Option<u64>,
    pub(super) asked: BTreeSet<Arc<str>>,
    pub(super) watched: BTreeSet<Arc<str>>,
    /// When the stream is to be opened again.
    again_at: Option<Instant>,
    opened_at: Instant,
    wait: Duration,
}

enum Event {
    Heard(Bytes),
    /// The stream of announcements has ended.
    Lost,
    Nudged,
    /// It is time to open the stream again.
    Again,
    /// Nothing was heard for a while.
    Quiet,
}

impl<'a> Follow<'a> {
    pub(super) fn new(site: &'a Site, up: &'a Up) -> Self {
        Self {
            site,
            up,
            messages: None,
            listen: None,
            asked: BTreeSet::new(),
            watched: BTreeSet::new(),
            again_at: None,
            opened_at: Instant::now(),
            wait: RETRY_MIN,
        }
    }

    /// Follows the upstream to its end; returns why it is up no longer.
    pub(super) async fn run(mut self) -> String {
        match self.follow().await {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        }
    }

    async fn follow(&mut self) -> Result<Infallible, AskError> {
        self.open().await?;
        loop {
            match self.event().await {
                Event::Heard(message) => self.site.hear(self.up, &message).await,
                Event::Lost => self.lost().await?,
                Event::Again => self.open().await?,
                Event::Nudged if self.again_at.is_some() => self.open().await?,
                Event::Nudged => {
                    if !self.sync().await? {
                        self.site.check(self.up).await?;
                    }
                }
                Event::Quiet => {
                    // A nudge may be lost, and nobody nudges when a session ends.
                    self.sync().await?;
                    self.site.check(self.up).await?;
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let quiet = Duration::from_millis(self.site.limits.health_interval_ms);
        let Self { messages, again_at, site, .. } = self;
        let heard = async {
            match messages.as_mut() {
                Some(messages) => messages.next().await,
                None => std::future::pending().await,
            }
        };
        let again = async {
            match *again_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = heard => match message {
                Some(Ok(message)) => Event::Heard(message),
                Some(Err(_)) | None => Event::Lost,
            },
            () = site.nudge.notified() => Event::Nudged,
            () = again => Event::Again,
            () = tokio::time::sleep(quiet) => Event::Quiet,
        }
    }

    /// Opens the stream of announcements. What happened before it was open nobody knows: everything may have changed.
    async fn open(&mut self) -> Result<(), AskError> {
        self.again_at = None;
        let watched_before = self.site.hub.confirmed(self.site.index);
        match self.up.profile.era {
            Era::Legacy => match self.up.peer.listen().await {
                Ok(messages) => {
                    self.messages = messages;
                    self.subscribe_each().await;
                }
                Err(_) => return self.failed().await,
            },
            Era::Modern => {
                if self.listen_modern().await.is_err() {
                    return self.failed().await;
                }
            }
        }
        self.opened_at = Instant::now();
        if self.messages.is_some() {
            self.site.list_changed(&ListKind::ALL);
            watched_before.iter().for_each(|uri| self.site.updates.put(uri, Changed::Resource));
        }
        Ok(())
    }

    /// The stream ended; the upstream may live.
    async fn lost(&mut self) -> Result<(), AskError> {
        self.messages = None;
        if self.up.profile.era == Era::Modern {
            self.listen = None;
            self.asked.clear();
            self.watched.clear();
        }
        if self.opened_at.elapsed() > RETRY_MAX {
            self.wait = RETRY_MIN;
        }
        self.failed().await
    }

    /// No stream could be had: again later, if the upstream lives.
    pub(super) async fn failed(&mut self) -> Result<(), AskError> {
        self.again_at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(RETRY_MAX);
        self.site.check(self.up).await
    }

    /// Brings what the upstream watches in line with what is wanted; false when it is already.
    async fn sync(&mut self) -> Result<bool, AskError> {
        let fresh = self.site.hub.unconfirmed(self.site.index);
        // A topic may be given up and wanted again before this is seen: then it is watched already.
        fresh.intersection(&self.watched).for_each(|uri| self.site.hub.confirm(self.site.index, uri, Ok(())));
        if self.site.hub.wanted(self.site.index) == self.asked && fresh.is_subset(&self.watched) {
            return Ok(false);
        }
        match self.up.profile.era {
            Era::Legacy => self.subscribe_each().await,
            Era::Modern => {
                if self.listen_modern().await.is_err() {
                    self.failed().await?;
                }
            }
        }
        Ok(true)
    }

    /// Asks a legacy upstream for each topic that is new, and to stop for each that nobody wants any more.
    async fn subscribe_each(&mut self) {
        let (site, up) = (self.site, self.up);
        let wanted = site.hub.wanted(site.index);
        let fresh = site.hub.unconfirmed(site.index);
        if self.messages.is_none() && self.again_at.is_none() {
            // Nothing would ever be heard of them.
            let why = Refusal::Because("the upstream has no stream to announce it on");
            wanted.iter().for_each(|uri| site.hub.confirm(site.index, uri, Err(why.clone())));
            self.asked = wanted;
            return;
        }
        let ask = |method: &'static str, uri: Arc<str>| async move {
            let params = format!("{{\"uri\":{}}}", json::quote(&uri));
            let answer = ask::ask(&*up.peer, method, &params, None, site.deadline()).await;
            (uri, answer)
        };
        let is_new =
            |uri: &&Arc<str>| !self.watched.contains(*uri) && (!self.asked.contains(*uri) || fresh.contains(*uri));
        let new: Vec<Arc<str>> = wanted.iter().filter(is_new).cloned().collect();
        let old: Vec<Arc<str>> = self.watched.difference(&wanted).cloned().collect();
        let mut answers =
            futures::stream::iter(new).map(|uri| ask("resources/subscribe", uri)).buffer_unordered(TOPICS_AT_A_TIME);
        while let Some((uri, answer)) = answers.next().await {
            site.hub.confirm(
                site.index,
                &uri,
                answer.as_ref().map(drop).map_err(|error| Refusal::Asked(error.clone())),
            );
            if answer.is_ok() {
                self.watched.insert(uri);
            }
        }
        let mut answers =
            futures::stream::iter(old).map(|uri| ask("resources/unsubscribe", uri)).buffer_unordered(TOPICS_AT_A_TIME);
        while let Some((uri, _)) = answers.next().await {
            self.watched.remove(&uri);
        }
        self.asked = wanted;
    }
}
