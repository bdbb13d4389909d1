//! Tells every listener about a change: legacy sessions and modern `subscriptions/listen` streams.
//! A listener that does not take a message within the limit is skipped, one that is gone is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::model::{
    LoggingLevel, LoggingMessageNotification, LoggingMessageNotificationParam, ResourceUpdatedNotificationParam,
    ServerNotification,
};
use rmcp::service::{SubscriptionSendError, SubscriptionSink};
use rmcp::{Peer, RoleServer, ServiceError};
use serde_json::json;

use super::shared::Session;

const SEND_LIMIT: Duration = Duration::from_secs(2);

/// Something a listener can be told.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Tools,
    Prompts,
    Resources,
    Resource(String),
    /// A log line outside of any call; legacy sessions only.
    Log,
}

/// A legacy session and how to reach it.
type Joined = (Peer<RoleServer>, Arc<Session>);

/// The listeners of one server.
#[derive(Default)]
pub(super) struct Hub {
    next: AtomicU64,
    legacy: Mutex<BTreeMap<u64, Joined>>,
    modern: Mutex<BTreeMap<u64, SubscriptionSink>>,
}

/// Takes a modern listener off the hub when its request ends.
pub(super) struct Listening<'a> {
    hub: &'a Hub,
    id: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.hub.modern.lock().remove(&self.id);
    }
}

impl Hub {
    /// Adds a legacy session.
    pub(super) fn join(&self, peer: Peer<RoleServer>, session: Arc<Session>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut all = self.legacy.lock();
        // Now and then, so that sessions that ended do not pile up where nothing is announced.
        if all.len().is_power_of_two() {
            all.retain(|_, (peer, _)| !peer.is_transport_closed());
        }
        all.insert(id, (peer, session));
    }

    /// Adds a modern subscription for as long as the returned guard lives.
    pub(super) fn listen(&self, sink: SubscriptionSink) -> Listening<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.modern.lock().insert(id, sink);
        Listening { hub: self, id }
    }

    /// Sends `change` to everyone who wants it and returns how many took it.
    pub(super) async fn announce(&self, change: &Change) -> usize {
        let legacy: Vec<_> = {
            let mut all = self.legacy.lock();
            all.retain(|_, (peer, _)| !peer.is_transport_closed());
            all.values().cloned().collect()
        };
        let modern: Vec<_> = self.modern.lock().values().cloned().collect();
        let mut told = 0;
        for (peer, session) in legacy {
            if wants(&session, change) {
                let sent = tokio::time::timeout(SEND_LIMIT, tell_legacy(&peer, change)).await;
                told += usize::from(matches!(sent, Ok(Ok(()))));
            }
        }
        for sink in modern {
            let sent = tokio::time::timeout(SEND_LIMIT, tell_modern(&sink, change)).await;
            told += usize::from(matches!(sent, Ok(Ok(()))));
        }
        told
    }
}

fn wants(session: &Session, change: &Change) -> bool {
    match change {
        Change::Resource(uri) => session.uris.lock().contains(uri),
        _ => true,
    }
}

async fn tell_legacy(peer: &Peer<RoleServer>, change: &Change) -> Result<(), ServiceError> {
    match change {
        Change::Tools => peer.notify_tool_list_changed().await,
        Change::Prompts => peer.notify_prompt_list_changed().await,
        Change::Resources => peer.notify_resource_list_changed().await,
        Change::Resource(uri) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await,
        Change::Log => peer.send_notification(log_line(LoggingLevel::Warning, "emitted")).await,
    }
}

async fn tell_modern(sink: &SubscriptionSink, change: &Change) -> Result<(), SubscriptionSendError> {
    match change {
        Change::Tools => sink.notify_tool_list_changed().await,
        Change::Prompts => sink.notify_prompt_list_changed().await,
        Change::Resources => sink.notify_resource_list_changed().await,
        Change::Resource(uri) => sink.notify_resource_updated(uri).await,
        Change::Log => Err(SubscriptionSendError::UnsupportedNotification("notifications/message")),
    }
}

/// A `notifications/message`.
pub(super) fn log_line(level: LoggingLevel, text: &str) -> ServerNotification {
    let params = LoggingMessageNotificationParam::new(level, json!(text)).with_logger("everything");
    ServerNotification::LoggingMessageNotification(LoggingMessageNotification::new(params))
}
