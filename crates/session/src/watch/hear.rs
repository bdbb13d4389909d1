//! What an upstream says of its own accord: announcements, and requests that nobody can be asked for here.

use crate::lists::ListKind;
use crate::site::{Site, Up};
use enfilade_mcp::envelope::{Envelope, Kind, Notification, Request};
use enfilade_mcp::error::{code, result_message};
use enfilade_mcp::{RpcError, json};
use std::time::Duration;

/// How long an upstream may take to read an answer of ours.
const ANSWER_MAX: Duration = Duration::from_secs(2);

impl Site {
    /// One message of the control session.
    pub(super) async fn hear(&self, up: &Up, message: &[u8]) {
        match Envelope::parse(message).map(|envelope| envelope.kind) {
            Ok(Kind::Notification(notification)) => self.hear_notification(&notification),
            Ok(Kind::Request(request)) => refuse(up, &request).await,
            Ok(Kind::Response(_)) => {}
            Err(refusal) => {
                tracing::warn!(upstream = self.name(), why = %refusal.error.message, code = code::PARSE, "not MCP");
            }
        }
    }

    fn hear_notification(&self, notification: &Notification<'_>) {
        let kinds: Vec<ListKind> = ListKind::changed_by(&notification.method).collect();
        if !kinds.is_empty() {
            self.list_changed(&kinds);
        } else if notification.method == "notifications/resources/updated" {
            let uri = notification.params.and_then(|params| json::get(params, "uri")).and_then(json::string);
            if let Some(uri) = uri {
                self.updates.put(&uri, self.hub.changed(self.index, &uri));
            }
        }
    }
}

/// The control session declared no capabilities, so nothing but `ping` may be asked here.
async fn refuse(up: &Up, request: &Request<'_>) {
    let answer = if request.method == "ping" {
        result_message(&request.id, "{}")
    } else {
        RpcError::method_not_found(&request.method).message(Some(&request.id))
    };
    // An upstream that does not read it must not stop its own supervisor.
    let _ = tokio::time::timeout(ANSWER_MAX, up.peer.send(answer.into())).await;
}
