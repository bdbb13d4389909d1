//! Batches, which only sessions of 2025-03-26 may send: one stream carries the answers of all requests in one.

use super::{Handling, stream_reply};
use crate::call::Counted;
use crate::copy::OpenCall;
use crate::live::Live;
use crate::owner::{Reply, outcome_unknown};
use crate::stream::Stream;
use enfilade_mcp::envelope::{Kind, Refusal};
use enfilade_mcp::method::Method;
use enfilade_mcp::{Envelope, Id, RpcError, json};
use std::sync::Arc;

/// Most messages of one batch.
const BATCH_MAX: usize = 100;
/// Messages of one batch that are dealt with at a time.
const AT_A_TIME: usize = 16;

impl Handling<'_> {
    /// Answers a batch, given as the text of a JSON array.
    pub(crate) async fn batch(self, live: &Arc<Live>, text: &str) -> Reply {
        let refuse = |why: &str| Reply::error(400, None, &RpcError::invalid_request(why));
        if !live.version.has_batches() {
            return refuse(&format!("batches are not part of {}; send one message at a time", live.version));
        }
        let elements: Vec<_> = json::elements(text).take(BATCH_MAX + 1).map(Envelope::of_text).collect();
        match elements.len() {
            0 => return refuse("an empty batch"),
            count if count > BATCH_MAX => return refuse("a batch has at most 100 messages; send several"),
            _ => {}
        }
        if elements.iter().all(|element| element.as_ref().is_ok_and(|envelope| !is_request(envelope))) {
            for envelope in elements.iter().flatten() {
                self.legacy(live, envelope).await;
            }
            return Reply::Accepted;
        }
        let batch = Counted::new(&live.batches);
        let calls = elements.iter().flatten().filter_map(|envelope| self.open_call(envelope)).collect();
        let mut replies = Vec::new();
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut some = Vec::with_capacity(AT_A_TIME);
            for element in elements.by_ref().take(AT_A_TIME) {
                some.push(self.element(live, element));
            }
            replies.extend(futures::future::join_all(some).await);
        }
        let stream = live.streams.open(calls);
        let (live, join) = (live.clone(), stream.clone());
        self.node.tasks.spawn(async move {
            let joined = replies.into_iter().flatten().map(|reply| drain(reply, &join));
            futures::future::join_all(joined).await;
            live.streams.close(&join);
            drop(batch);
        });
        stream_reply(&stream)
    }

    /// A request as the second knows it.
    fn open_call(self, envelope: &Envelope<'_>) -> Option<OpenCall> {
        let Kind::Request(request) = &envelope.kind else { return None };
        let safe = self.node.safe(self.caller.server, &request.method, request.params);
        Some(OpenCall { id: request.id.as_json().into(), safe })
    }

    async fn element(self, live: &Arc<Live>, element: Result<Envelope<'_>, Refusal>) -> Option<Reply> {
        match element {
            Ok(envelope) => match &envelope.kind {
                Kind::Request(request) if request.method == Method::Initialize.as_str() => {
                    let error = RpcError::invalid_request("initialize must not be part of a batch");
                    Some(Reply::error(200, Some(&request.id), &error))
                }
                _ => {
                    let reply = self.legacy(live, &envelope).await;
                    self.open_call(&envelope).map(|call| told(reply, call))
                }
            },
            Err(refusal) => Some(Reply::error(200, refusal.id.as_ref(), &refusal.error)),
        }
    }
}

fn is_request(envelope: &Envelope<'_>) -> bool {
    matches!(envelope.kind, Kind::Request(_))
}

/// Within a batch an element cannot be sent elsewhere: what was not served is an error of its own.
fn told(reply: Reply, call: OpenCall) -> Reply {
    let error = match reply {
        Reply::NotServed(why) => RpcError::gateway(true, why.to_string()),
        Reply::Lost => outcome_unknown(call.safe),
        reply => return reply,
    };
    Reply::error(200, Id::from_json(&call.id).as_ref(), &error)
}

/// Writes what a reply holds into a stream.
async fn drain(reply: Reply, into: &Stream) {
    match reply {
        Reply::Message { body, .. } => {
            into.send_answer(body);
        }
        Reply::Events { mut stream, .. } => {
            while let Some(event) = stream.next().await {
                match Envelope::parse(&event.data).map(|envelope| envelope.kind) {
                    Ok(Kind::Response(_)) => into.send_answer(event.data),
                    _ if event.data.is_empty() => true,
                    _ => into.send(event.data),
                };
            }
        }
        Reply::Accepted | Reply::Status(_) | Reply::NotServed(_) | Reply::Lost => {}
    }
}
