//! Subscriptions of clients: `resources/subscribe` of a session, and the stream of `subscriptions/listen`.

use crate::ask::AskError;
use crate::handle::{Handling, write_failed};
use crate::lists::ListKind;
use crate::live::Live;
use crate::owner::Reply;
use crate::route;
use crate::stream::{Kind as StreamKind, Stream};
use crate::topics::{Subscriber, Topic, notification};
use crate::view::Target;
use enfilade_mcp::envelope::Request;
use enfilade_mcp::meta::SUBSCRIPTION_ID;
use enfilade_mcp::{RpcError, error, json};
use enfilade_registry::Command;
use std::sync::Arc;
use std::time::Duration;

impl Handling<'_> {
    /// `resources/subscribe` and `resources/unsubscribe`; answered when the upstream has confirmed.
    pub(crate) async fn subscribe(self, live: &Arc<Live>, request: &Request<'_>, on: bool) -> Result<(), RpcError> {
        let raw = route::string_param(request.params.unwrap_or("{}"), "uri")?;
        let uri: Arc<str> = json::string(raw).unwrap_or_default().as_ref().into();
        let target = self.subscribable(&uri).await.ok_or_else(|| route::resource_not_found(&uri))?;
        let site = &self.view.sites[target.site];
        if live.owns_session(target.site) {
            return self.watch(live, &target, uri, on).await;
        }
        let topic: Topic = (site.index, target.original.as_str().into());
        if !on {
            self.node.hub.unsubscribe(live.subscriber_id(), &topic);
            site.nudge.notify_one();
            let command = Command::Unsubscribe { id: live.id, uri };
            return self.node.registry.writer.submit(command).await.map(|_| ()).map_err(|e| write_failed(&e));
        }
        self.follow(live.subscriber_id(), target, uri.clone(), site.deadline())
            .await
            .map_err(|why| RpcError::upstream(true, format!("{}: not subscribed: {why}", site.name())))?;
        let command = Command::Subscribe { id: live.id, uri };
        self.node.registry.writer.submit(command).await.map(|_| ()).map_err(|e| write_failed(&e))
    }

    /// Through the client's own upstream session: what a server announces there may depend on what was done there.
    async fn watch(self, live: &Arc<Live>, target: &Target, uri: Arc<str>, on: bool) -> Result<(), RpcError> {
        let name = self.view.sites[target.site].name();
        live.watch(target, &uri, on).await.map_err(|why| match why {
            AskError::Refused(_) => RpcError::invalid_params(format!("{name}: {why}")),
            AskError::Call(_) | AskError::Late => RpcError::upstream(true, format!("{name}: {why}")),
        })?;
        let command =
            if on { Command::Subscribe { id: live.id, uri } } else { Command::Unsubscribe { id: live.id, uri } };
        self.node.registry.writer.submit(command).await.map(|_| ()).map_err(|e| write_failed(&e))
    }

    /// Where a subscription goes: a resource may be watched that no list mentions.
    async fn subscribable(self, uri: &str) -> Option<Target> {
        if let Some(target) = self.view.resolve_uri(uri).await {
            return Some(target);
        }
        let offers = |site: &Arc<crate::site::Site>| {
            site.up().is_some_and(|up| up.profile.declares(&["resources", "subscribe"]))
        };
        let site = self.view.sites.iter().position(offers)?;
        Some(Target { site, original: uri.to_owned() })
    }

    /// Makes one subscriber hear of one resource; waits at most `within` for the upstream's word.
    async fn follow(self, id: u64, target: Target, as_known: Arc<str>, within: Duration) -> Result<(), String> {
        let site = &self.view.sites[target.site];
        let topic: Topic = (site.index, target.original.as_str().into());
        let mut verdict = self.node.hub.subscribe(id, topic.clone(), as_known);
        site.nudge.notify_one();
        let heard = tokio::time::timeout(within, verdict.wait_for(Option::is_some)).await;
        let heard = match heard {
            Ok(Ok(verdict)) => verdict.clone().unwrap_or(Ok(())),
            Ok(Err(_)) | Err(_) => Err("the upstream did not confirm it in time".to_owned()),
        };
        if heard.is_err() {
            self.node.hub.unsubscribe(id, &topic);
        }
        heard
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
            listen_id: Some(request.id.as_json().to_owned()),
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
        let (id, stop) = (request.id.clone(), self.node.stopping());
        let sites: Vec<_> = self.view.sites.clone();
        self.node.tasks.spawn(async move {
            tokio::select! {
                () = stream.abandoned() => {}
                () = stop.cancelled() => {
                    let result = format!(r#"{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{id}}}}}"#);
                    stream.send(error::result_message(&id, &result));
                }
            }
            stream.finish();
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
        let uris = json::elements(json::get(filter, "resourceSubscriptions").unwrap_or("[]"));
        let each = uris.map(|raw| async move {
            let uri: Arc<str> = json::string(raw)?.as_ref().into();
            let target = self.subscribable(&uri).await?;
            self.follow(id, target, uri, wait).await.ok().map(|()| raw.to_owned())
        });
        futures::future::join_all(each).await.into_iter().flatten().collect()
    }
}
