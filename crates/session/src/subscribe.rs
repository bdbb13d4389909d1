//! Subscriptions of clients: `resources/subscribe` of a session, and the stream of `subscriptions/listen`.

use crate::ask::AskError;
use crate::handle::{Handling, write_failed};
use crate::lists::ListKind;
use crate::live::Live;
use crate::node::Node;
use crate::owner::Reply;
use crate::route;
use crate::site::Site;
use crate::stream::{Kind as StreamKind, Stream};
use crate::topics::{Refusal, Subscriber, notification};
use crate::view::{Target, View};
use enfilade_mcp::envelope::Request;
use enfilade_mcp::meta::SUBSCRIPTION_ID;
use enfilade_mcp::{RpcError, error, json};
use enfilade_registry::Command;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

/// Subscriptions of one session that are taken up at a time.
const RESTORED_AT_A_TIME: usize = 16;
/// Most resources of one `subscriptions/listen`; further ones are not acknowledged.
const LISTEN_URIS_MAX: usize = 1_000;
/// How long streams of `subscriptions/listen` may take to be read to their end when the node stops.
const LISTENS_END_MAX: Duration = Duration::from_millis(500);

impl Handling<'_> {
    /// `resources/subscribe` and `resources/unsubscribe`; answered when the upstream has confirmed.
    pub(crate) async fn subscribe(self, live: &Arc<Live>, request: &Request<'_>, on: bool) -> Result<(), RpcError> {
        let raw = route::string_param(request.params.unwrap_or("{}"), "uri")?;
        let uri: Arc<str> = json::string(raw).unwrap_or_default().as_ref().into();
        if on { self.subscribe_to(live, uri).await } else { self.unsubscribe_from(live, uri).await }
    }

    async fn subscribe_to(self, live: &Arc<Live>, uri: Arc<str>) -> Result<(), RpcError> {
        let not_found = || route::resource_not_found(&uri);
        let target = subscribable(self.view, &uri).await.ok_or_else(not_found)?;
        let site = &self.view.sites[target.site];
        let command = Command::Subscribe { id: live.id, uri: uri.clone() };
        if live.owns_session(target.site) {
            self.watch(live, &target, &uri, true).await?;
            let recorded = self.record(command).await;
            if recorded.is_err() {
                let _ = self.watch(live, &target, &uri, false).await;
            }
            return recorded;
        }
        let id = live.subscriber_id();
        follow(site, id, target, uri.clone(), site.deadline()).await.map_err(|why| refused(site.name(), &why))?;
        let recorded = self.record(command).await;
        if recorded.is_err() {
            unfollow(self.view, id, &uri);
        }
        recorded
    }

    /// What was subscribed to is given up, wherever its URI leads today.
    async fn unsubscribe_from(self, live: &Arc<Live>, uri: Arc<str>) -> Result<(), RpcError> {
        let command = Command::Unsubscribe { id: live.id, uri: uri.clone() };
        if !unfollow(self.view, live.subscriber_id(), &uri) {
            let not_found = || route::resource_not_found(&uri);
            let target = subscribable(self.view, &uri).await.ok_or_else(not_found)?;
            if live.owns_session(target.site) {
                self.watch(live, &target, &uri, false).await?;
            }
        }
        self.record(command).await
    }

    /// Through the client's own upstream session: what a server announces there may depend on what was done there.
    async fn watch(self, live: &Arc<Live>, target: &Target, uri: &Arc<str>, on: bool) -> Result<(), RpcError> {
        let name = self.view.sites[target.site].name();
        live.watch(target, uri, on).await.map_err(|why| refused(name, &Refusal::Asked(why)))
    }

    async fn record(self, command: Command) -> Result<(), RpcError> {
        self.node.registry.writer.submit(command).await.map(drop).map_err(|error| write_failed(&error))
    }

    /// `subscriptions/listen` (2026-07-28 subscriptions): acknowledged first, ended with the result.
    pub(crate) async fn listen(self, request: &Request<'_>) -> Reply {
        let filter = request.params.and_then(|params| json::get(params, "notifications"));
        let Some(filter) = filter.filter(|text| json::is_object(text)) else {
            let error = RpcError::invalid_params("\"notifications\" must be an object that says what to listen for");
            return Reply::error(200, Some(&request.id), &error);
        };
        let lists = self.honoured(filter);
        let stream = Stream::new(0, 0, StreamKind::Ephemeral);
        let registration = self.node.hub.register(Subscriber {
            stream: Arc::downgrade(&stream),
            sites: self.view.indexes.clone(),
            lists: lists.iter().map(|(kind, _)| *kind).collect(),
            listen_id: Some(request.id.as_json().into()),
        });
        let uris = self.follow_all(registration.id, filter).await;
        let mut members: Vec<String> = lists.iter().map(|(_, name)| format!("\"{name}\":true")).collect();
        if !uris.is_empty() {
            members.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        let acknowledged = format!("\"notifications\":{{{}}}", members.join(","));
        let method = "notifications/subscriptions/acknowledged";
        stream.send(notification(method, &acknowledged, Some(request.id.as_json())));
        let Some(reader) = stream.attach(None) else { return Reply::Status(409) };
        let (id, hub, stop) = (request.id.clone(), self.node.hub.clone(), self.node.stopping());
        let sites: Vec<_> = self.view.sites.clone();
        self.node.tasks.spawn(async move {
            let ending = async {
                tokio::select! {
                    () = hub.closing() => {}
                    () = stop.cancelled() => {}
                }
            };
            tokio::select! {
                () = stream.abandoned() => {}
                () = ending => {
                    let result = format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{id}}}}}"#);
                    stream.send(error::result_message(&id, &result));
                    stream.finish();
                    // Until then it counts as open.
                    let _ = tokio::time::timeout(LISTENS_END_MAX, stream.abandoned()).await;
                }
            }
            drop(registration);
            sites.iter().for_each(|site| site.nudge.notify_one());
        });
        Reply::Events { stream: reader, session: None }
    }

    /// The list kinds that a filter asks for and this server can announce.
    fn honoured(self, filter: &str) -> Vec<(ListKind, &'static str)> {
        let names = [
            (ListKind::Tools, "toolsListChanged"),
            (ListKind::Prompts, "promptsListChanged"),
            (ListKind::Resources, "resourcesListChanged"),
        ];
        let asked = |name: &str| json::get(filter, name) == Some("true");
        let can = |kind: ListKind| match self.view.single() {
            Some(site) => site.up().is_none_or(|up| up.profile.declares(&[kind.capability(), "listChanged"])),
            None => true,
        };
        names.into_iter().filter(|(kind, name)| asked(name) && can(*kind)).collect()
    }

    /// Follows every resource of a filter; returns those that upstreams confirmed, as JSON strings.
    async fn follow_all(self, id: u64, filter: &str) -> Vec<String> {
        let wait = Duration::from_millis(self.node.limits.list_wait_ms);
        let uris = json::elements(json::get(filter, "resourceSubscriptions").unwrap_or("[]")).take(LISTEN_URIS_MAX);
        let each = uris.map(|raw| async move {
            let uri: Arc<str> = json::string(raw)?.as_ref().into();
            let target = subscribable(self.view, &uri).await?;
            follow(&self.view.sites[target.site], id, target, uri, wait).await.ok().map(|()| raw.to_owned())
        });
        futures::future::join_all(each).await.into_iter().flatten().collect()
    }
}

impl Node {
    /// Ends every `subscriptions/listen` with its result and waits, for a bounded time, until clients have read it. To
    /// be called while the edge still serves.
    pub async fn end_listens(&self) {
        self.hub.close();
        let _ = tokio::time::timeout(LISTENS_END_MAX, self.hub.listens_ended()).await;
    }
}

/// Takes up the subscriptions of a session that the registry remembers, at upstreams that it shares with others; those
/// of its own upstream sessions are taken up when these open. To be run once per [`Live`], in a task.
pub(crate) async fn restore(live: Arc<Live>) {
    if live.facts.subscriptions().is_empty() {
        return;
    }
    // Where a URI leads is known only when the upstreams are there.
    futures::future::join_all(live.view.sites.iter().map(|site| site.wait_up(site.deadline()))).await;
    let uris: Vec<Arc<str>> = live.facts.subscriptions().iter().cloned().collect();
    let each = uris.into_iter().map(|uri| restore_one(&live, uri));
    futures::stream::iter(each).buffer_unordered(RESTORED_AT_A_TIME).collect::<()>().await;
}

async fn restore_one(live: &Arc<Live>, uri: Arc<str>) {
    let Some(target) = subscribable(&live.view, &uri).await else {
        tracing::warn!(session = %live.id.slot(), %uri, "not subscribed again: no upstream offers it");
        return;
    };
    let site = &live.view.sites[target.site];
    if live.owns_session(target.site) {
        return;
    }
    match follow(site, live.subscriber_id(), target, uri.clone(), site.deadline()).await {
        // Nobody knows what changed meanwhile.
        Ok(()) => site.hub.updated_for(live.subscriber_id(), &uri),
        Err(why) => {
            tracing::warn!(session = %live.id.slot(), %uri, upstream = site.name(), ?why, "not subscribed again")
        }
    }
}

/// Where a subscription goes: a resource may be watched that no list mentions.
async fn subscribable(view: &View, uri: &str) -> Option<Target> {
    if let Some(target) = view.resolve_uri(uri).await {
        return Some(target);
    }
    let offers = |site: &Arc<Site>| site.up().is_some_and(|up| up.profile.declares(&["resources", "subscribe"]));
    let site = view.sites.iter().position(offers)?;
    Some(Target { site, original: uri.to_owned() })
}

/// Makes one subscriber hear of one resource; waits at most `within` for the upstream's word.
async fn follow(site: &Site, id: u64, target: Target, as_known: Arc<str>, within: Duration) -> Result<(), Refusal> {
    let mut verdict = site.hub.subscribe(id, (site.index, target.original.into()), as_known.clone());
    site.nudge.notify_one();
    let heard = match tokio::time::timeout(within, verdict.wait_for(Option::is_some)).await {
        Ok(Ok(verdict)) => verdict.clone().unwrap_or(Ok(())),
        Ok(Err(_)) => Err(Refusal::Because("it was given up meanwhile")),
        Err(_) => Err(Refusal::Asked(AskError::Late)),
    };
    if heard.is_err() {
        site.hub.unsubscribe(id, &as_known);
        site.nudge.notify_one();
    }
    heard
}

/// Makes one subscriber hear no more of a resource; false when it did not.
fn unfollow(view: &View, id: u64, as_known: &Arc<str>) -> bool {
    let Some(first) = view.sites.first() else { return false };
    let Some(index) = first.hub.unsubscribe(id, as_known) else { return false };
    view.sites.iter().filter(|site| site.index == index).for_each(|site| site.nudge.notify_one());
    true
}

/// A refused subscription as its client gets it: what the upstream said, or why it said nothing.
fn refused(upstream: &str, why: &Refusal) -> RpcError {
    let why = match why {
        Refusal::Asked(AskError::Refused(error)) => return upstream_error(error),
        Refusal::Asked(AskError::Call(error)) => error.to_string(),
        Refusal::Asked(AskError::Late) => AskError::Late.to_string(),
        Refusal::Because(why) => return RpcError::upstream(false, format!("{upstream}: not subscribed: {why}")),
    };
    RpcError::upstream(true, format!("{upstream}: not subscribed: {why}"))
}

/// The upstream's own code and message.
fn upstream_error(error: &str) -> RpcError {
    let message = json::get(error, "message").and_then(json::string).unwrap_or_default().into_owned();
    let mut own = RpcError::upstream(false, message);
    own.code = json::get(error, "code").and_then(|code| code.parse().ok()).unwrap_or(own.code);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_upstream_said_is_said_to_the_client() {
        let said = AskError::Refused(r#"{"code":-32002,"message":"no \"such\" thing"}"#.to_owned());
        let error = refused("main", &Refusal::Asked(said));
        assert_eq!((error.code, &*error.message), (-32002, r#"no "such" thing"#));
        let late = refused("main", &Refusal::Asked(AskError::Late));
        assert_eq!((late.code, late.retry), (-32603, true));
        assert_eq!(refused("main", &Refusal::Because("x")).code, -32603);
    }
}
