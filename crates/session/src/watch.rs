//! The supervisor of one upstream: connects, listens for announcements, asks whether it lives, and connects again.
//!
//! It alone says whether an upstream is up. A call that fails is only a hint to look now.

use crate::ask::{self, AskError, IMPLEMENTATION};
use crate::lists::ListKind;
use crate::site::{Profile, Site, Up};
use enfilade_mcp::envelope::{Envelope, Kind};
use enfilade_mcp::{Era, Version, error::code, json};
use enfilade_upstream::{Call, CallError, Exchange, Hello, Messages};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// First wait before an upstream is tried again; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait before an upstream is tried again.
const RETRY_MAX: Duration = Duration::from_secs(10);

impl Site {
    /// Runs until the task is ended.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut wait = RETRY_MIN;
        loop {
            let began = Instant::now();
            let why = match self.connect().await {
                Ok(up) => {
                    self.set_up(up.clone());
                    let why = self.follow(&up).await;
                    up.peer.close().await;
                    why
                }
                Err(error) => error.to_string(),
            };
            self.set_reached();
            if self.up().is_some() {
                self.set_down(&why);
            } else {
                tracing::debug!(upstream = self.name(), why, "upstream cannot be reached");
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

    /// Follows an upstream that is up; returns why it is so no longer.
    async fn follow(&self, up: &Up) -> String {
        let mut subscribed: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut messages = match self.listen(up, &mut subscribed).await {
            Ok(messages) => messages,
            Err(error) => return error.to_string(),
        };
        let every = Duration::from_millis(self.limits.health_interval_ms);
        loop {
            let heard = async {
                match messages.as_mut() {
                    Some(messages) => messages.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = heard => match message {
                    Some(Ok(message)) => self.hear(up, &message).await,
                    Some(Err(_)) | None => {
                        messages = None;
                        if let Err(error) = self.check(up).await {
                            return error.to_string();
                        }
                        // The stream ended, the upstream lives: what was said meanwhile is unknown.
                        self.list_changed(&ListKind::ALL);
                        self.hub.gap(self.index);
                        if up.profile.era == Era::Legacy || !self.hub.wanted(self.index).is_empty() {
                            tokio::time::sleep(RETRY_MIN * 5).await;
                            messages = self.listen(up, &mut subscribed).await.unwrap_or(None);
                        }
                    }
                },
                () = self.nudge.notified() => {
                    // A topic may be given up and wanted again before this is seen: then it is watched already.
                    for uri in self.hub.unconfirmed(self.index).intersection(&subscribed) {
                        self.hub.confirm(self.index, uri, None);
                    }
                    if self.hub.wanted(self.index) != subscribed {
                        match self.listen_again(up, &mut subscribed).await {
                            Ok(Some(stream)) => messages = Some(stream),
                            Ok(None) => {}
                            Err(error) => return error.to_string(),
                        }
                    } else if let Err(error) = self.check(up).await {
                        return error.to_string();
                    }
                }
                () = tokio::time::sleep(every) => {
                    if let Err(error) = self.check(up).await {
                        return error.to_string();
                    }
                }
            }
        }
    }

    /// Asks whether the upstream lives.
    async fn check(&self, up: &Up) -> Result<(), AskError> {
        let method = match up.profile.era {
            Era::Legacy => "ping",
            Era::Modern => "server/discover",
        };
        match ask::ask(&*up.peer, method, &ask::params(up.profile.era, ""), None, self.deadline()).await {
            // An upstream that answers at all is alive; many do not know `ping`.
            Ok(_) | Err(AskError::Refused(_)) => Ok(()),
            // A busy upstream is not a dead one.
            Err(AskError::Call(CallError::Busy | CallError::Status(400..=499))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens the stream of announcements and asks for the topics that are wanted.
    async fn listen(&self, up: &Up, subscribed: &mut BTreeSet<Arc<str>>) -> Result<Option<Messages>, CallError> {
        subscribed.clear();
        match up.profile.era {
            Era::Legacy => {
                let messages = up.peer.listen().await?;
                self.subscribe_each(up, subscribed).await;
                Ok(messages)
            }
            Era::Modern => self.listen_modern(up, subscribed).await,
        }
    }

    /// The wanted topics changed.
    async fn listen_again(&self, up: &Up, subscribed: &mut BTreeSet<Arc<str>>) -> Result<Option<Messages>, CallError> {
        match up.profile.era {
            Era::Legacy => {
                self.subscribe_each(up, subscribed).await;
                Ok(None)
            }
            // The old stream is dropped only when the new one was acknowledged.
            Era::Modern => self.listen_modern(up, subscribed).await,
        }
    }

    async fn subscribe_each(&self, up: &Up, subscribed: &mut BTreeSet<Arc<str>>) {
        let wanted = self.hub.wanted(self.index);
        let ask = |method: &'static str, uri: Arc<str>| async move {
            let params = format!("{{\"uri\":{}}}", json::quote(&uri));
            ask::ask(&*up.peer, method, &params, None, self.deadline()).await
        };
        for uri in wanted.difference(&subscribed.clone()) {
            let result = ask("resources/subscribe", uri.clone()).await;
            self.hub.confirm(self.index, uri, result.as_ref().err().map(ToString::to_string));
            subscribed.insert(uri.clone());
        }
        for uri in subscribed.clone().difference(&wanted) {
            let _ = ask("resources/unsubscribe", uri.clone()).await;
            subscribed.remove(uri);
        }
    }

    /// One `subscriptions/listen` for everything that anybody wants of this upstream.
    async fn listen_modern(&self, up: &Up, subscribed: &mut BTreeSet<Arc<str>>) -> Result<Option<Messages>, CallError> {
        let wanted = self.hub.wanted(self.index);
        let flag = |kind: ListKind, name: &str| {
            up.profile.declares(&[kind.capability(), "listChanged"]).then(|| format!("\"{name}\":true"))
        };
        let mut filter: Vec<String> = [
            flag(ListKind::Tools, "toolsListChanged"),
            flag(ListKind::Prompts, "promptsListChanged"),
            flag(ListKind::Resources, "resourcesListChanged"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !wanted.is_empty() {
            let uris: Vec<String> = wanted.iter().map(|uri| json::quote(uri)).collect();
            filter.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        subscribed.clear();
        if filter.is_empty() {
            return Ok(None);
        }
        let params = ask::params(Era::Modern, &format!("\"notifications\":{{{}}}", filter.join(",")));
        let method = "subscriptions/listen";
        let id = up.peer.next_id();
        let message = ask::request(id, method, &params);
        let call = Call { id, message, method, name: None, headers: Vec::new(), progress_token: None };
        let opened = tokio::time::timeout(self.deadline(), up.peer.call(call)).await;
        let mut stream = match opened {
            Ok(Ok(Exchange::Stream(stream))) => stream,
            Ok(Ok(Exchange::Answer(_))) | Err(_) => {
                self.confirm_all(&wanted, &BTreeSet::new(), "the upstream does not offer subscriptions");
                return Ok(None);
            }
            Ok(Err(error)) => return Err(error),
        };
        let first = tokio::time::timeout(self.deadline(), stream.next()).await.ok().flatten().transpose()?;
        let acknowledged = first.as_deref().map(acknowledged_uris).unwrap_or_default();
        self.confirm_all(&wanted, &acknowledged, "the upstream did not acknowledge it");
        subscribed.extend(wanted.into_iter().filter(|uri| acknowledged.contains(&**uri)));
        Ok(Some(stream))
    }

    fn confirm_all(&self, wanted: &BTreeSet<Arc<str>>, acknowledged: &BTreeSet<String>, why: &str) {
        for uri in wanted {
            let refused = (!acknowledged.contains(&**uri)).then(|| why.to_owned());
            self.hub.confirm(self.index, uri, refused);
        }
    }

    /// What the control session says of its own accord.
    async fn hear(&self, up: &Up, message: &[u8]) {
        match Envelope::parse(message).map(|envelope| envelope.kind) {
            Ok(Kind::Notification(notification)) => {
                let kinds: Vec<ListKind> = ListKind::changed_by(&notification.method).collect();
                if !kinds.is_empty() {
                    self.list_changed(&kinds);
                } else if notification.method == "notifications/resources/updated" {
                    let uri = notification.params.and_then(|params| json::get(params, "uri")).and_then(json::string);
                    if let Some(uri) = uri {
                        self.hub.updated(self.index, &uri);
                    }
                }
            }
            // The control session declared no capabilities, so nothing but `ping` may be asked here.
            Ok(Kind::Request(request)) => {
                let answer = if request.method == "ping" {
                    enfilade_mcp::error::result_message(&request.id, "{}")
                } else {
                    enfilade_mcp::RpcError::method_not_found(&request.method).message(Some(&request.id))
                };
                let _ = up.peer.send(answer.into()).await;
            }
            Ok(Kind::Response(_)) => {}
            Err(refusal) => {
                tracing::warn!(upstream = self.name(), why = %refusal.error.message, code = code::PARSE, "not MCP");
            }
        }
    }
}

/// The resource URIs in `notifications/subscriptions/acknowledged`.
fn acknowledged_uris(message: &[u8]) -> BTreeSet<String> {
    let Ok(text) = json::check(message) else { return BTreeSet::new() };
    let uris = json::at(text, &["params", "notifications", "resourceSubscriptions"]).unwrap_or("[]");
    json::elements(uris).filter_map(json::string).map(std::borrow::Cow::into_owned).collect()
}
