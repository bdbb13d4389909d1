//! The announcements of a modern upstream: one `subscriptions/listen` for everything that anybody wants of it.
//!
//! Its filter cannot be changed: a new request takes the old one's place once it is acknowledged. Of topics that the
//! upstream refuses together, those that it took before are tried without the others, so that none suffers from one.

use super::acknowledged;
use super::follow::Follow;
use crate::ask;
use crate::lists::ListKind;
use crate::site::{Site, Up};
use crate::topics::Refusal;
use enfilade_mcp::{Era, json};
use enfilade_upstream::{Call, CallError, Exchange, Messages};
use futures::FutureExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most messages of a stream that is given up which are still heard.
const REST_MAX: usize = 1_024;

/// What became of a request to listen.
enum Listen {
    Open { id: u64, messages: Messages, acknowledged: BTreeSet<String> },
    Refused,
}

impl Follow<'_> {
    /// Listens for what is wanted now.
    pub(super) async fn listen_modern(&mut self) -> Result<(), CallError> {
        let wanted = self.site.hub.wanted(self.site.index);
        let proven: BTreeSet<Arc<str>> =
            wanted.intersection(&self.site.hub.confirmed(self.site.index)).cloned().collect();
        let none = BTreeSet::new();
        let mut tried: Vec<&BTreeSet<Arc<str>>> = Vec::new();
        for uris in [&wanted, &proven, &none] {
            if self.messages.is_some() && *uris == self.watched {
                // The stream that is there already says all of this.
                break;
            }
            let Some(filter) = self.filter(uris) else {
                self.take(None, BTreeSet::new()).await;
                break;
            };
            if tried.contains(&uris) {
                continue;
            }
            tried.push(uris);
            if let Listen::Open { id, messages, acknowledged } = ask_to_listen(self.site, self.up, &filter).await? {
                let watched = uris.iter().filter(|uri| acknowledged.contains(&***uri)).cloned().collect();
                self.take(Some((id, messages)), watched).await;
                break;
            }
        }
        let refused = Refusal::Because("the upstream did not acknowledge it");
        for uri in &wanted {
            let verdict = if self.watched.contains(uri) { Ok(()) } else { Err(refused.clone()) };
            self.site.hub.confirm(self.site.index, uri, verdict);
        }
        self.asked = wanted;
        Ok(())
    }

    /// The new stream takes the place of the old one, of which the rest is heard before it is dropped.
    async fn take(&mut self, new: Option<(u64, Messages)>, watched: BTreeSet<Arc<str>>) {
        let (listen, messages) = new.unzip();
        let old = (std::mem::replace(&mut self.listen, listen), std::mem::replace(&mut self.messages, messages));
        self.watched = watched;
        if let (Some(id), Some(mut rest)) = old {
            for _ in 0..REST_MAX {
                let Some(Some(Ok(message))) = rest.next().now_or_never() else { break };
                self.site.hear(self.up, &message).await;
            }
            drop(rest);
            self.up.peer.cancel(id, "another one took its place").await;
        }
    }

    /// The filter for these resources and all lists that the upstream announces; none when it would be empty.
    fn filter(&self, uris: &BTreeSet<Arc<str>>) -> Option<String> {
        let flag = |kind: ListKind, name: &str| {
            let can = self.up.profile.declares(&[kind.capability(), "listChanged"]);
            can.then(|| format!("\"{name}\":true"))
        };
        let flags = [
            flag(ListKind::Tools, "toolsListChanged"),
            flag(ListKind::Prompts, "promptsListChanged"),
            flag(ListKind::Resources, "resourcesListChanged"),
        ];
        let mut filter: Vec<String> = flags.into_iter().flatten().collect();
        if !uris.is_empty() {
            let uris: Vec<String> = uris.iter().map(|uri| json::quote(uri)).collect();
            filter.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        (!filter.is_empty()).then(|| filter.join(","))
    }
}

/// One request to listen; an error when nothing is known of the upstream's will.
async fn ask_to_listen(site: &Site, up: &Up, filter: &str) -> Result<Listen, CallError> {
    let id = up.peer.next_id();
    let opened = tokio::time::timeout(site.deadline(), acknowledgement(up, id, filter)).await;
    let opened = opened.unwrap_or(Err(CallError::Lost));
    if !matches!(opened, Ok(Listen::Open { .. })) {
        up.peer.cancel(id, "not acknowledged").await;
    }
    match opened {
        Err(CallError::Status(400..=499)) => Ok(Listen::Refused),
        other => other,
    }
}

async fn acknowledgement(up: &Up, id: u64, filter: &str) -> Result<Listen, CallError> {
    let params = ask::params(Era::Modern, &format!("\"notifications\":{{{filter}}}"));
    let method = "subscriptions/listen";
    let message = ask::request(id, method, &params);
    let call = Call { id, message, method, name: None, headers: Vec::new(), progress_token: None };
    let Exchange::Stream(mut messages) = up.peer.call(call).await? else { return Ok(Listen::Refused) };
    let first = messages.next().await.ok_or(CallError::Lost)??;
    Ok(match acknowledged::read(&first) {
        Some(acknowledged) => Listen::Open { id, messages, acknowledged },
        None => Listen::Refused,
    })
}
