//! JSON-RPC batches (2025-03-26): each message is dealt with as if it had come alone, and one stream answers all
//! requests in one. It is there from the beginning, so that another node can go on with a batch that is under way.

use super::{Handling, legacy_error, stream_reply};
use crate::copy::OpenCall;
use crate::live::{Live, UnderWay};
use crate::node::Node;
use crate::owner::{Caller, Reply, ServerId};
use crate::run;
use crate::stream::Stream;
use bytes::Bytes;
use enfilade_mcp::envelope::{Kind, Refusal, Request};
use enfilade_mcp::method::Method;
use enfilade_mcp::{Envelope, RpcError, json};
use futures::StreamExt;
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
        // It runs to its end whether its client stays or not, so it needs what it works with for itself.
        let Some(node) = self.node.me.upgrade() else { return Reply::Status(503) };
        let calls = elements.iter().flatten().filter_map(|envelope| self.open_call(envelope)).collect();
        let beginning = match live.begin() {
            Ok(beginning) => beginning,
            Err(why) => return Reply::NotServed(why),
        };
        let stream = live.streams().open(calls);
        let reply = stream_reply(&stream);
        let batch = Batch {
            node,
            server: self.caller.server,
            principal: self.caller.principal.to_owned(),
            text: text.to_owned(),
            live: live.clone(),
            stream,
            under_way: live.begin_batch(),
        };
        drop(beginning);
        self.node.tasks.spawn(batch.run());
        reply
    }

    /// A request as the second knows it.
    fn open_call(self, envelope: &Envelope<'_>) -> Option<OpenCall> {
        let Kind::Request(request) = &envelope.kind else { return None };
        let safe = self.node.safe(self.caller.server, &request.method, request.params);
        Some(OpenCall { id: request.id.as_json().into(), safe })
    }

    async fn element(self, live: &Arc<Live>, element: Result<Envelope<'_>, Refusal>, stream: &Arc<Stream>) {
        let answer = match &element {
            Err(refusal) => Some(refusal.error.message(refusal.id.as_ref()).into()),
            Ok(envelope) => match &envelope.kind {
                Kind::Request(request) => self.request(live, envelope, request, stream).await,
                _ => {
                    self.legacy(live, envelope).await;
                    None
                }
            },
        };
        if let Some(answer) = answer {
            stream.send_answer(answer);
        }
    }

    /// The answer to a request; nothing when it is on the stream, or when there is none.
    async fn request(
        self,
        live: &Arc<Live>,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        stream: &Arc<Stream>,
    ) -> Option<Bytes> {
        let method = Method::parse(&request.method);
        let fail = |error: &RpcError| Some(error.message(Some(&request.id)).into());
        if method == Some(Method::Initialize) {
            return fail(&RpcError::invalid_request("initialize must not be part of a batch"));
        }
        if let Some(reply) = self.answered_here(live, request, method).await {
            return match reply {
                Reply::Message { body, .. } => Some(body),
                _ => None,
            };
        }
        let entered = match live.enter(&request.id, self.node.limits.calls_per_session_max) {
            Ok(entered) => entered,
            Err(why) => return fail(&RpcError::invalid_request(why)),
        };
        entered.streams();
        let planned = tokio::select! {
            biased;
            planned = self.plan(envelope, request, method, super::Asker::Session(live, entered.cancelled())) => planned,
            () = entered.cancelled().cancelled() => return None,
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return fail(&legacy_error(error, method)),
        };
        entered.planned(&plan);
        plan.outlet.open(stream);
        run::whole(&plan, stream).await;
        None
    }
}

/// A batch under way.
struct Batch {
    node: Arc<Node>,
    server: ServerId,
    principal: String,
    text: String,
    live: Arc<Live>,
    stream: Arc<Stream>,
    under_way: UnderWay,
}

impl Batch {
    async fn run(self) {
        let Self { node, server, principal, text, live, stream, under_way } = self;
        // However this ends: a client would wait for ever.
        let closing = Closing { live: &live, stream: &stream };
        let handling = Handling::new(&node, Caller { server, principal: &principal });
        let elements = json::elements(&text).map(Envelope::of_text);
        let each = futures::stream::iter(elements);
        each.for_each_concurrent(AT_A_TIME, |element| handling.element(&live, element, &stream)).await;
        drop(closing);
        drop(under_way);
        live.gate.nudge();
    }
}

struct Closing<'a> {
    live: &'a Live,
    stream: &'a Stream,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.live.streams().close(self.stream);
    }
}

fn is_request(envelope: &Envelope<'_>) -> bool {
    matches!(envelope.kind, Kind::Request(_))
}
