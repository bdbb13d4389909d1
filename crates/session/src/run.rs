//! Runs one call to its end: sends it, waits within its deadlines, passes on what comes, and sees to it that it ends
//! in exactly one of answer, error, deadline, cancel or "outcome unknown".

use crate::call::{Answer, Plan};
use crate::gate::HOLD_MAX;
use crate::lists::ListKind;
use crate::live::{self, Live};
use crate::slots::Held;
use crate::stream::Stream;
use bytes::Bytes;
use enfilade_mcp::envelope::{Envelope, Kind, Request};
use enfilade_mcp::error::{code, result_message};
use enfilade_mcp::{Era, RpcError};
use enfilade_upstream::{Call, CallError, Exchange, Messages, Peer};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first thing that is known of a call.
pub(crate) enum First {
    /// It is answered.
    Answered(Answer),
    /// It was cancelled by the client, who wants no answer.
    Cancelled,
    /// The slot of its session is another node's: there is nothing to be said here any more.
    Lost,
    /// Something came before the answer; the rest follows.
    Streaming(Bytes, Rest),
}

/// A call that goes on.
pub(crate) struct Rest {
    peer: Arc<dyn Peer>,
    messages: Messages,
}

/// What one message of the upstream comes to.
enum Step {
    Answer(Answer),
    /// A message, and whether it may be dropped.
    Pass(Bytes, bool),
    Nothing,
}

/// Sends the call and waits for the first message that concerns the client.
pub(crate) async fn first(plan: &Arc<Plan>) -> First {
    let first = first_of(plan).await;
    // A call that was lost is cancelled, or fails for that reason.
    if plan.is_lost() { First::Lost } else { first }
}

async fn first_of(plan: &Arc<Plan>) -> First {
    let exchange = tokio::select! {
        biased;
        exchange = exchange(plan) => exchange,
        () = plan.cancelled.cancelled() => return cancelled(plan),
        () = overdue(plan) => return First::Answered(expired(plan)),
    };
    let (peer, exchange) = match exchange {
        Ok(found) => found,
        Err(error) => {
            plan.site.doubt(&error);
            return First::Answered(match plan.stateful().filter(|_| error == CallError::Gone) {
                Some(live) => over(plan, live).await,
                None => plan.failed(&error),
            });
        }
    };
    match exchange {
        Exchange::Answer(message) => match step(plan, &peer, &message).await {
            Step::Answer(answer) => First::Answered(answer),
            Step::Pass(..) | Step::Nothing => {
                First::Answered(plan.failed(&CallError::Protocol("the answer is not a response")))
            }
        },
        Exchange::Stream(messages) => {
            let mut rest = Rest { peer, messages };
            match rest.next(plan).await {
                Next::Pass(message, _) => First::Streaming(message, rest),
                Next::End(answer) => First::Answered(answer),
                Next::Cancelled => First::Cancelled,
            }
        }
    }
}

/// Runs a call whose stream is there to its end.
pub(crate) async fn whole(plan: &Arc<Plan>, stream: &Arc<Stream>) {
    go_on(plan, first(plan).await, stream).await;
}

/// Puts the first thing that is known of a call on its stream, and what follows.
pub(crate) async fn go_on(plan: &Arc<Plan>, first: First, stream: &Arc<Stream>) {
    match first {
        First::Answered(answer) => deliver(plan, answer, stream),
        First::Cancelled | First::Lost => {}
        First::Streaming(message, more) => {
            stream.send(message);
            rest(plan, more, stream).await;
        }
    }
}

/// Passes on the rest of a call until its end.
async fn rest(plan: &Arc<Plan>, mut rest: Rest, stream: &Arc<Stream>) {
    loop {
        match rest.next(plan).await {
            Next::Pass(message, true) => {
                stream.send_droppable(message);
            }
            Next::Pass(message, false) => {
                stream.send(message);
            }
            Next::End(answer) => {
                deliver(plan, answer, stream);
                break;
            }
            Next::Cancelled => break,
        }
    }
}

/// Puts the answer on the call's stream, or says that it could not.
fn deliver(plan: &Plan, answer: Answer, stream: &Stream) {
    if !stream.send_answer(answer.text) {
        tracing::warn!(
            upstream = plan.site.name(),
            method = plan.method,
            "an answer was lost: its client reads nothing"
        );
    }
}

enum Next {
    /// A message, and whether it may be dropped.
    Pass(Bytes, bool),
    End(Answer),
    Cancelled,
}

impl Rest {
    async fn next(&mut self, plan: &Arc<Plan>) -> Next {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                () = plan.cancelled.cancelled() => {
                    cancelled(plan);
                    return Next::Cancelled;
                }
                () = overdue(plan) => return Next::End(expired(plan)),
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    plan.site.doubt(&error);
                    return Next::End(plan.failed(&error));
                }
                None => return Next::End(plan.failed(&CallError::Lost)),
            };
            // Whatever the upstream says of this call proves that it works on it.
            plan.hear();
            match step(plan, &self.peer, &message).await {
                Step::Answer(answer) => return Next::End(answer),
                Step::Pass(message, droppable) => return Next::Pass(message, droppable),
                Step::Nothing => {}
            }
        }
    }
}

/// Resolves when a call's time is over: its upstream was silent for too long, or it takes too long altogether. While its
/// client has a question to answer, a silent upstream is no fault.
async fn overdue(plan: &Plan) {
    let (silence, most) = plan.deadlines();
    let ends = plan.began + most;
    loop {
        let due = (*plan.heard.lock() + silence).min(ends);
        tokio::time::sleep_until(due).await;
        let asked = plan.live().is_some_and(|live| live.questions().waits(plan.upstream_id));
        if Instant::now() >= ends || (*plan.heard.lock() + silence <= due && !asked) {
            return;
        }
        if asked {
            plan.hear();
        }
    }
}

/// First wait before a call that was not executed is sent again; it doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(5);
/// Longest wait before a call that was not executed is sent again.
const AGAIN_MAX: Duration = Duration::from_millis(250);
/// How often an upstream may forget a session in the course of one call.
const FORGOTTEN_MAX: usize = 2;

/// The exchange with the upstream. What certainly was not executed is sent again for a while: a session that the
/// upstream forgot is opened anew, and an upstream that restarts is waited for.
async fn exchange(plan: &Arc<Plan>) -> Result<(Arc<dyn Peer>, Exchange), CallError> {
    let patience = plan.site.limits.upstream_wait();
    let mut wait = AGAIN_MIN;
    let mut refreshed = false;
    let mut forgotten = 0;
    loop {
        let error = match attempt(plan, refreshed).await {
            Ok((_, Exchange::Answer(answer)))
                if !refreshed && plan.mirrored.is_some() && is_header_mismatch(&answer) =>
            {
                refreshed = true;
                plan.site.invalidate(&[ListKind::Tools]);
                continue;
            }
            Ok(exchange) => {
                plan.message.lock().take();
                return Ok(exchange);
            }
            Err(error) => error,
        };
        // A session that is forgotten again and again is not one that a restart took.
        forgotten += usize::from(error == CallError::Gone);
        let again_max = if plan.stateful().is_some() { 0 } else { FORGOTTEN_MAX };
        let passing = error == CallError::Unreachable || (error == CallError::Gone && forgotten <= again_max);
        if !passing || plan.began.elapsed() > patience || plan.site.is_long_down(patience) {
            return Err(error);
        }
        plan.site.doubt(&error);
        // Calls that wait for the same upstream do not come back in step.
        let spread = wait.mul_f64((plan.upstream_id % 16) as f64 / 16.0);
        tokio::time::sleep(wait + spread).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

async fn attempt(plan: &Arc<Plan>, refreshed: bool) -> Result<(Arc<dyn Peer>, Exchange), CallError> {
    let Some(message) = plan.message.lock().clone() else { return Err(CallError::Closed) };
    // Whatever goes wrong while a session is opened, the call itself was not sent.
    let peer = peer(plan).await.map_err(|error| match error {
        CallError::Lost => CallError::Unreachable,
        error => error,
    })?;
    let mut headers = match &plan.mirrored {
        Some(arguments) => plan.mirror(arguments, refreshed).await,
        None => Vec::new(),
    };
    // What waits for a lease is bounded by the call's deadline.
    if !plan.pass().await {
        return Err(CallError::Closed);
    }
    headers.extend(plan.fence_header());
    *plan.sent.lock() = Some(peer.clone());
    let call = Call {
        id: plan.upstream_id,
        message,
        method: &plan.method,
        name: plan.name.as_deref(),
        headers,
        progress_token: plan.token.is_some().then_some(plan.upstream_id),
    };
    let result = peer.call(call).await;
    if let (Err(CallError::Gone), Some(live)) = (&result, plan.live()) {
        live.unbind(plan.at, &peer);
    }
    result.map(|exchange| (peer, exchange))
}

fn is_header_mismatch(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, code::HEADER_MISMATCH.to_string().as_bytes()).is_some()
        && matches!(
            Envelope::parse(answer),
            Ok(Envelope { kind: Kind::Response(response), .. })
                if matches!(response.outcome, enfilade_mcp::envelope::Outcome::Error(error)
                    if enfilade_mcp::json::get(error, "code").and_then(|code| code.parse().ok()) == Some(code::HEADER_MISMATCH))
        )
}

async fn peer(plan: &Arc<Plan>) -> Result<Arc<dyn Peer>, CallError> {
    match plan.live() {
        Some(live) => live.peer(plan.at).await,
        None => plan.site.wait_up(plan.site.limits.upstream_wait()).await.map(|up| up.peer),
    }
}

/// A stateful upstream has lost its side of the session: nothing can go on with it.
async fn over(plan: &Plan, live: &Live) -> Answer {
    tracing::info!(slot = %live.id.slot(), upstream = plan.site.name(), "session ended: its upstream has lost its state");
    live.over().await;
    let text = "Session not found: an upstream has lost its state; send initialize to begin a new one";
    Answer { status: 404, ..plan.fail(&RpcError::invalid_request(text)) }
}

/// The client is gone and nobody wants the answer.
pub(crate) fn abandon(plan: &Arc<Plan>) {
    tell_cancel(plan, "the client closed its connection");
}

fn cancelled(plan: &Arc<Plan>) -> First {
    tell_cancel(plan, "cancelled by the client");
    First::Cancelled
}

fn expired(plan: &Arc<Plan>) -> Answer {
    tell_cancel(plan, "deadline");
    plan.site.connector.record_timeout();
    plan.late()
}

/// Tells the upstream in a task of its own: one that hangs does not take this either.
fn tell_cancel(plan: &Arc<Plan>, reason: &'static str) {
    if let Some(peer) = plan.sent.lock().clone() {
        let cancelled = plan.clone();
        plan.tasks.spawn(async move {
            if cancelled.may_act().await {
                peer.cancel(cancelled.upstream_id, reason).await;
            }
        });
    }
}

/// Turns one message of the upstream into what the client gets.
async fn step(plan: &Arc<Plan>, peer: &Arc<dyn Peer>, message: &[u8]) -> Step {
    let envelope = match Envelope::parse(message) {
        Ok(envelope) => envelope,
        Err(refusal) => {
            tracing::warn!(upstream = plan.site.name(), why = %refusal.error.message, "the upstream sent what is not MCP");
            return Step::Answer(plan.failed(&CallError::Protocol("a message is not JSON-RPC 2.0")));
        }
    };
    match &envelope.kind {
        Kind::Response(response) => Step::Answer(plan.answer(envelope.text, response)),
        Kind::Notification(notification) if notification.method == "notifications/cancelled" => {
            let mapped = |live: &Arc<Live>| live.map_cancelled(peer, envelope.text, notification.params);
            plan.live().and_then(mapped).map_or(Step::Nothing, |message| Step::Pass(message, false))
        }
        Kind::Notification(notification) => match plan.notification(envelope.text, notification) {
            Some(message) => Step::Pass(message, true),
            None => Step::Nothing,
        },
        Kind::Request(request) => match ask_client(plan, peer, envelope.text, request) {
            Ok(message) => Step::Pass(message, false),
            Err(answer) => {
                if plan.may_act().await {
                    live::send(&**peer, answer).await;
                }
                Step::Nothing
            }
        },
    }
}

/// A request of the upstream, as the client gets it; or the answer that the upstream gets at once.
fn ask_client(plan: &Plan, peer: &Arc<dyn Peer>, text: &str, request: &Request<'_>) -> Result<Bytes, Bytes> {
    match plan.live() {
        Some(live) => live.ask_client(peer, text, request, Some(plan.upstream_id)),
        None if request.method == "ping" => Err(result_message(&request.id, "{}").into()),
        // A modern client cannot be asked by a legacy upstream yet, and was not declared to it as one that can.
        None => Err(RpcError::method_not_found(&request.method).message(Some(&request.id)).into()),
    }
}

impl Plan {
    /// Waits while the lease of the call's slot is lost; false once the slot is another node's.
    async fn pass(&self) -> bool {
        match self.live() {
            Some(live) => live.gate.pass().await,
            None => true,
        }
    }

    /// As [`Plan::pass`], for a bounded time.
    async fn may_act(&self) -> bool {
        match self.live() {
            Some(live) => live.gate.pass_within(HOLD_MAX).await.is_ok(),
            None => true,
        }
    }

    /// In whose right the call is sent, for upstreams that ask for it.
    fn fence_header(&self) -> Option<(String, String)> {
        let live = self.live().filter(|_| self.site.connector.config().fence_header)?;
        let fence = live.gate.fence();
        Some(("enfilade-fence".to_owned(), format!("{}.{}", fence.slot.get(), fence.term.0)))
    }

    /// The slot of its session is another node's.
    pub(crate) fn is_lost(&self) -> bool {
        self.live().is_some_and(|live| live.gate.acts() == Held::Gone)
    }

    /// The session, where it cannot go on without the state of its upstream session.
    fn stateful(&self) -> Option<&Arc<Live>> {
        self.live().filter(|live| self.upstream_era == Era::Legacy && live.is_stateful(self.at))
    }

    /// An upstream may have begun to execute it.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.lock().is_some()
    }

    /// The upstream works on it.
    pub(crate) fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// `Mcp-Param-*` from the schema as it was last seen, or as it is now.
    async fn mirror(&self, arguments: &str, fresh: bool) -> Vec<(String, String)> {
        let tools = match self.site.last(ListKind::Tools, &self.viewer).filter(|_| !fresh) {
            Some(list) => Some(list),
            None => self.site.list(ListKind::Tools, &self.viewer).await.ok().flatten(),
        };
        let item = tools.as_ref().zip(self.name.as_deref()).and_then(|(list, name)| list.item(name));
        item.map(|item| item.headers.headers(Some(arguments))).unwrap_or_default()
    }

    /// True when dropping the exchange is all that cancels it.
    pub(crate) fn drop_cancels(&self) -> bool {
        self.upstream_era == Era::Modern && self.site.connector.config().url.is_some()
    }
}
