//! The owner's side: messages that edges on other nodes hand in.
//!
//! Rule: before anything is executed, slot and term of the message are compared with this node's; an edge that gives up
//! is a client that gives up.

mod answer;

use crate::config::Config;
use crate::router::Local;
use crate::wire::{self, Asked, Kind};
use answer::Sent;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::envelope::Refusal;
use enfilade_mcp::{Envelope, Kind as MessageKind, RpcError};
use enfilade_mesh::{Exchange, Message, Open, Receiving};
use enfilade_proto::owner::Ask;
use enfilade_registry::{Fence, NotServed, SessionKeys, Slot};
use enfilade_runtime::{COUNTED_BYTES, Limit, Permit};
use enfilade_session::owner::{Caller, HeaderLookup, Legacy, Reply, ServerId};
use enfilade_session::slots::Slots;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Refusals on their way at once; beyond that an exchange is dropped.
const REFUSALS_MAX: usize = 256;

/// Serves what other nodes ask.
pub(crate) struct Server {
    local: Arc<dyn Local>,
    slots: Arc<dyn Slots>,
    keys: Arc<SessionKeys>,
    servers: Vec<String>,
    messages: Limit,
    answers: Limit,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Server {
    pub(crate) fn new(
        local: Arc<dyn Local>,
        slots: Arc<dyn Slots>,
        keys: Arc<SessionKeys>,
        config: &Config,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let servers = config.servers.clone();
        let (messages, answers) = (config.messages.clone(), config.answers.clone());
        let (places, refusals) = (Arc::new(Semaphore::new(config.asks_max)), Arc::new(Semaphore::new(REFUSALS_MAX)));
        Arc::new(Self { local, slots, keys, servers, messages, answers, places, refusals, tasks })
    }

    /// Takes one message in.
    pub(crate) fn exchange(self: &Arc<Self>, open: Open, mut exchange: Exchange) {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                let server = self.clone();
                self.tasks.spawn(async move {
                    server.serve(open, exchange).await;
                    drop(place);
                });
            }
            Err(_) => {
                let Ok(place) = self.refusals.clone().try_acquire_owned() else { return };
                self.tasks.spawn(async move {
                    let _ = exchange.send(wire::encode_not_served(NotServed::Busy), true).await; // It may be gone.
                    drop(place);
                });
            }
        }
    }

    async fn serve(&self, open: Open, exchange: Exchange) {
        let (mut sending, mut receiving) = exchange.split();
        let (fence, reply) = tokio::select! {
            biased;
            () = given_up(&mut receiving) => return,
            answered = self.answer(open) => answered,
        };
        let sent = tokio::select! {
            biased;
            () = given_up(&mut receiving) => return,
            sent = answer::send(&mut sending, fence, reply) => sent,
        };
        if let Sent::Head(mut stream) = sent {
            tokio::select! {
                biased;
                () = given_up(&mut receiving) => {}
                () = answer::stream(&mut sending, &mut stream) => {}
            }
        }
    }

    /// Asks the owner of this node, under the fence that the message names. Its text goes with the question: an answer may
    /// stream for long.
    async fn answer(&self, open: Open) -> (Option<Fence>, Reply) {
        let fence = match self.fence(&open) {
            Ok(fence) => fence,
            Err(why) => return (None, Reply::NotServed(why)),
        };
        let payload = Message { head: open.payload, body: open.body };
        let Ok(asked) = wire::decode_ask(payload) else {
            tracing::error!("a message of another node is not understood: do all nodes run the same release?");
            return (fence, Reply::NotServed(NotServed::NotReady));
        };
        let room = self.room(&asked.message);
        let reply = match &room {
            Ok(_) => self.run(fence, &asked).await,
            Err(()) => no_room(&asked.message),
        };
        (fence, self.counted(reply))
    }

    /// The share of a large message in what is under way, as long as it is. Without room it is refused, but for what nobody
    /// answers: the client's answer to a question, or a notification, would be lost.
    fn room(&self, message: &[u8]) -> Result<Option<Permit>, ()> {
        if message.len() < COUNTED_BYTES {
            return Ok(None);
        }
        let mut share = self.messages.empty();
        if share.grow(message.len()) {
            return Ok(Some(share));
        }
        let kind = envelope(message).map(|envelope| envelope.kind);
        if matches!(kind, Ok(MessageKind::Notification(_) | MessageKind::Response(_))) { Ok(None) } else { Err(()) }
    }

    /// Counts an answer until it is on its way. There was room for it when it came from the upstream.
    fn counted(&self, reply: Reply) -> Reply {
        match reply {
            Reply::Message { status, body, session, retry_after_s } => {
                Reply::Message { status, body: self.answers.pass(body), session, retry_after_s }
            }
            reply => reply,
        }
    }

    /// The right to act for the slot of the message in its term; nothing for what needs no slot.
    fn fence(&self, open: &Open) -> Result<Option<Fence>, NotServed> {
        if open.term == 0 {
            return Ok(None);
        }
        let own = self.slots.fence(Slot::new(open.slot).ok_or(NotServed::NotOwner)?)?;
        match own.term.0.cmp(&open.term) {
            std::cmp::Ordering::Equal => Ok(Some(own)),
            // The edge has to learn of the term.
            std::cmp::Ordering::Greater => Err(NotServed::NotOwner),
            // This node has to.
            std::cmp::Ordering::Less => Err(NotServed::NotReady),
        }
    }

    async fn run(&self, fence: Option<Fence>, asked: &Asked) -> Reply {
        let Asked { head: ask, message } = asked;
        // Nodes may have different configurations for a while: another one may know the server.
        let server = self.servers.iter().position(|name| *name == ask.server).map(ServerId);
        let Some(server) = server else { return Reply::NotServed(NotServed::NotReady) };
        let caller = Caller { server, principal: &ask.principal };
        let session = match (ask.session.is_empty(), fence) {
            (true, _) => None,
            (false, fence) => match self.keys.verify(&ask.session) {
                Ok(session) if fence.is_none_or(|fence| fence.slot == session.slot()) => Some(session),
                Ok(_) | Err(_) => return Reply::NotServed(NotServed::NotOwner),
            },
        };
        match (ask.kind(), session) {
            (Kind::Modern, _) => self.modern(caller, asked).await,
            (Kind::Initialize, _) => match envelope(message) {
                Ok(request) => self.local.initialize(caller, &request).await,
                Err(refusal) => Reply::error(400, refusal.id.as_ref(), &refusal.error),
            },
            (Kind::Legacy, Some(session)) => match envelope(message) {
                Ok(envelope) => {
                    let message =
                        Legacy::One { envelope: &envelope, version: ask.version.as_deref(), again: ask.again };
                    self.local.legacy(caller, session, message).await
                }
                Err(refusal) => Reply::error(400, refusal.id.as_ref(), &refusal.error),
            },
            (Kind::Batch, Some(session)) => match enfilade_mcp::json::check(message) {
                Ok(text) => self.local.legacy(caller, session, Legacy::Batch(text)).await,
                Err(why) => Reply::error(400, None, &enfilade_mcp::RpcError::parse(&why)),
            },
            (Kind::OpenStream, Some(session)) => {
                self.local.open_stream(caller, session, ask.last_event_id.as_deref()).await
            }
            (Kind::End, Some(session)) => self.local.end(caller, session).await,
            (Kind::Unspecified, _) | (_, None) => Reply::NotServed(NotServed::NotReady),
        }
    }

    async fn modern(&self, caller: Caller<'_>, asked: &Asked) -> Reply {
        let request = match envelope(&asked.message) {
            Ok(request) => request,
            Err(refusal) => return Reply::error(400, refusal.id.as_ref(), &refusal.error),
        };
        // The edge has checked all of it: what is missing here was not sent by an edge.
        let MessageKind::Request(inner) = &request.kind else { return Reply::Accepted };
        let Ok(meta) = inner.meta() else { return Reply::NotServed(NotServed::NotReady) };
        let modern = Modern {
            capabilities: meta.capabilities.unwrap_or("{}"),
            client_info: meta.client_info,
            log_level: meta.log_level,
            progress_token: meta.progress_token,
        };
        self.local.modern(caller, &request, &modern, &Params(&asked.head)).await
    }
}

/// `Mcp-Param-*` headers as they came with the message.
struct Params<'a>(&'a Ask);

impl HeaderLookup for Params<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.0.params.iter().find(|param| param.name == name).map(|param| param.value.as_str())
    }

    fn are_sent(&self) -> bool {
        !self.0.framed
    }
}

/// What a message is told for which there is no memory. Asking again at once would send all of it once more.
fn no_room(message: &[u8]) -> Reply {
    let id = match envelope(message).map(|envelope| envelope.kind) {
        Ok(MessageKind::Request(request)) => Some(request.id),
        _ => None,
    };
    let error = RpcError::gateway(true, "the session's node has no memory left for this message; try again");
    let body = error.message(id.as_ref()).into();
    Reply::Message { status: 503, body, session: None, retry_after_s: Some(1) }
}

/// Resolves when the edge is gone: it reset the exchange, or the link broke. An edge says nothing after its message.
async fn given_up(receiving: &mut Receiving) {
    let _ = receiving.broken().await; // How it broke makes no difference here.
}

/// A message that the edge has parsed: it is JSON, and is not read to its end once more.
fn envelope(message: &[u8]) -> Result<Envelope<'_>, Refusal> {
    match std::str::from_utf8(message) {
        Ok(text) => Envelope::of_text(text),
        Err(_) => Envelope::parse(message),
    }
}
