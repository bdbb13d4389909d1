//! What upstreams say to one session outside its calls' own streams, and what its client says to them: each message
//! reaches the one that it is for, under the id or token that it knows.

use super::{Live, Question};
use crate::finish::Said;
use crate::gate::HOLD_MAX;
use crate::lists::ListKind;
use crate::topics::notification;
use bytes::Bytes;
use enfilade_mcp::envelope::{Envelope, Kind, Notification, Request, Response};
use enfilade_mcp::error::result_message;
use enfilade_mcp::{Id, RpcError, Splice, json};
use enfilade_upstream::{Messages, Peer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How long an upstream may take to accept an answer or a notification.
const SEND_MAX: Duration = Duration::from_secs(10);

/// Passes on what an upstream says outside calls, until its stream or the session ends.
pub(super) async fn run(live: Weak<Live>, at: usize, peer: Arc<dyn Peer>, mut messages: Messages) {
    while let Some(Ok(message)) = messages.next().await {
        let Some(live) = live.upgrade() else { return };
        live.hear(at, &peer, &message).await;
    }
    if let Some(live) = live.upgrade() {
        live.questions().end_of_peer(&peer);
    }
}

/// Sends an answer or a notification; one that does not arrive is logged, because nobody can be told.
pub(crate) async fn send(peer: &dyn Peer, message: Bytes) {
    match tokio::time::timeout(SEND_MAX, peer.send(message)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a message did not reach the upstream"),
        Err(_) => tracing::warn!("the upstream did not take a message in time"),
    }
}

impl Live {
    /// [`send`] on behalf of this session, which may do so as long as its slot is this node's. False when it may not.
    pub(crate) async fn send_to(&self, peer: &dyn Peer, message: Bytes) -> bool {
        let may = self.gate.pass_within(HOLD_MAX).await.is_ok();
        if may {
            send(peer, message).await;
        }
        may
    }

    async fn hear(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>, message: &[u8]) {
        let Ok(envelope) = Envelope::parse(message) else { return };
        match &envelope.kind {
            Kind::Request(request) => self.hear_question(at, peer, envelope.text, request).await,
            Kind::Notification(notification) => self.hear_notification(at, peer, envelope.text, notification),
            Kind::Response(_) => {}
        }
    }

    /// A question goes to the general stream if somebody reads it, else to the only call in flight there (BRIDGE.md 6).
    async fn hear_question(self: &Arc<Self>, at: usize, peer: &Arc<dyn Peer>, text: &str, request: &Request<'_>) {
        let only = self.only_call(at);
        let heard = self.is_heard();
        let question = match (&only, heard) {
            (None, false) => Err(refusal(&request.id)),
            (only, _) => self.ask_client(peer, text, request, only.as_ref().map(|plan| plan.upstream_id)),
        };
        match (question, only) {
            (Err(answer), _) => {
                self.send_to(&**peer, answer).await;
            }
            (Ok(question), Some(plan)) if !heard => plan.outlet.send(question, false),
            (Ok(question), _) => {
                self.general().send(question);
            }
        }
    }

    fn hear_notification(&self, at: usize, peer: &Arc<dyn Peer>, text: &str, notification: &Notification<'_>) {
        let kinds: Vec<ListKind> = ListKind::changed_by(&notification.method).collect();
        if !kinds.is_empty() {
            return self.view.sites[at].list_changed(&kinds);
        }
        match notification.method.as_ref() {
            "notifications/cancelled" => {
                if let Some(message) = self.map_cancelled(peer, text, notification.params) {
                    self.say(&notification.method, message);
                }
            }
            "notifications/resources/updated" => {
                let uri = notification.params.and_then(|params| json::get(params, "uri")).and_then(json::string);
                if let Some(uri) = uri {
                    self.updated(&self.view.issued_uri(at, &uri).unwrap_or_else(|| uri.into_owned()));
                }
            }
            "notifications/progress" => {
                let token = notification.params.and_then(|params| json::get(params, "progressToken"));
                let call = token.and_then(|token| self.call(|plan| plan.upstream_id.to_string() == token));
                if let Some((plan, message)) =
                    call.and_then(|plan| Some((plan.clone(), plan.notification(text, notification)?)))
                {
                    plan.hear();
                    plan.outlet.send(message, true);
                }
            }
            _ => self.say(&notification.method, Bytes::copy_from_slice(text.as_bytes())),
        }
    }

    /// A line for the general stream that may be dropped when nobody reads.
    fn say(&self, method: &str, message: Bytes) {
        static LINE: AtomicU64 = AtomicU64::new(0);
        self.general().notice(format!("{method}#{}", LINE.fetch_add(1, Ordering::Relaxed)), message);
    }

    pub(crate) fn updated(&self, uri: &str) {
        let members = format!("\"uri\":{}", json::quote(uri));
        let message = notification("notifications/resources/updated", &members, None);
        self.general().notice(uri, message);
    }

    /// The upstream withdraws a question: the client hears of it under the number that it knows.
    pub(crate) fn map_cancelled(&self, peer: &Arc<dyn Peer>, text: &str, params: Option<&str>) -> Option<Bytes> {
        let raw = json::get(params?, "requestId")?;
        let number = self.questions().withdraw(peer, &Id::from_json(raw)?)?;
        Some(Splice::new(text).replace(raw, number.to_string()).finish().into())
    }

    /// A request of an upstream as the client gets it, or the answer that the upstream gets at once.
    pub(crate) fn ask_client(
        &self,
        peer: &Arc<dyn Peer>,
        text: &str,
        request: &Request<'_>,
        call: Option<u64>,
    ) -> Result<Bytes, Bytes> {
        if request.method == "ping" {
            return Err(result_message(&request.id, "{}").into());
        }
        let token = request.params.and_then(|params| json::at(params, &["_meta", "progressToken"]));
        let question = Question {
            peer: peer.clone(),
            id: request.id.clone(),
            token: token.map(str::to_owned),
            call,
            asked: Instant::now(),
        };
        let Ok(number) = self.questions().open(question) else { return Err(refusal(&request.id)) };
        let mut splice = Splice::new(text);
        splice.replace(request.id_text, number.to_string());
        if let Some(token) = token {
            splice.replace(token, number.to_string());
        }
        Ok(splice.finish().into())
    }

    /// Takes the client's answer to the upstream that asked. Answers to nothing are dropped (JSON-RPC). False when it did
    /// not reach the upstream because the slot is not served here now.
    pub(crate) async fn answer(&self, text: &str, response: &Response<'_>) -> bool {
        let (Some(id), Some(id_text)) = (&response.id, response.id_text) else { return true };
        if self.gate.pass_within(HOLD_MAX).await.is_err() {
            return false;
        }
        let Some(question) = id.as_number().and_then(|number| self.questions().close(number)) else {
            self.aside(Said::Message(Bytes::copy_from_slice(text.as_bytes())));
            return true;
        };
        if let Some(plan) = question.call.and_then(|call| self.call(|plan| plan.upstream_id == call)) {
            // The upstream's time to go on begins with the answer.
            plan.hear();
        }
        let answer = Splice::new(text).replace(id_text, question.id.as_json().to_owned()).finish();
        self.send_to(&*question.peer, answer.into()).await
    }

    /// Refuses questions that the client has not answered for a long time.
    pub(crate) async fn refuse_late_questions(&self) {
        for question in self.made().iter().flat_map(|parts| parts.questions.expire()) {
            self.send_to(&*question.peer, refusal(&question.id)).await;
        }
    }

    /// A notification of the client: progress on a question for the upstream that asked it, anything else for all.
    pub(crate) async fn tell_upstreams(&self, text: &str, notification: &Notification<'_>) {
        if notification.method == "notifications/progress" {
            let token = notification.params.and_then(|params| json::get(params, "progressToken"));
            let asked = token.and_then(|token| Some((token, self.questions().token(token.parse().ok()?)?)));
            if let Some((token, (peer, theirs))) = asked {
                self.send_to(&*peer, Splice::new(text).replace(token, theirs).finish().into()).await;
            } else {
                self.aside(Said::Message(Bytes::copy_from_slice(text.as_bytes())));
            }
            return;
        }
        let message = Bytes::copy_from_slice(text.as_bytes());
        futures::future::join_all(self.own_peers().iter().map(|peer| self.send_to(&**peer, message.clone()))).await;
    }
}

/// What an upstream hears that asks when nobody can be asked.
fn refusal(id: &Id) -> Bytes {
    let text = "no client can be asked now: none listens or answers, or too many questions are open";
    RpcError::gateway(true, text).message(Some(id)).into()
}
