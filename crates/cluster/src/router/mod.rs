//! The edge's side: every message goes to the owner of its slot, here or on another node, and gets exactly one outcome.
//!
//! Rule: what certainly was not executed is tried again until its hold time is over. What may have been executed is
//! sent once more when it is safe, and otherwise answered with "outcome unknown" ([`enfilade_registry::EdgeRule`]).

mod doors;
mod events;
mod follow;
mod hold;
mod said;
mod seen;
#[cfg(test)]
mod tests;
mod tries;

#[cfg(test)]
use doors::Lost;
pub(crate) use doors::{Answered, Doors, Failed, MeshDoors};

use crate::ask::{Ask, What};
use crate::map::{Loads, Maps};
use crate::wire::Head;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::{Envelope, Kind};
use enfilade_mesh::Message as Payload;
use enfilade_registry::edge_rule::Failure;
use enfilade_registry::{Fence, NodeId, NotServed, Run, SessionId, SessionKeys, Slot, Timing};
use enfilade_session::Node;
use enfilade_session::owner::{Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use enfilade_session::slots::Slots;
use events::RemoteEvents;
use follow::{Following, Source};
use futures::FutureExt;
use futures::future::BoxFuture;
use seen::Seen;
use std::sync::{Arc, Weak};
use tries::Tries;

/// The owner on this node.
pub trait Local: Owner {
    /// True when doing this request twice does no harm (OWNERSHIP.md).
    fn is_safe(&self, server: ServerId, method: &str, params: Option<&str>) -> bool;
}

impl Local for Node {
    fn is_safe(&self, server: ServerId, method: &str, params: Option<&str>) -> bool {
        self.safe(server, method, params)
    }
}

/// What a router is built from.
pub(crate) struct Parts {
    pub(crate) me: Run,
    /// False on a pure edge, which runs nothing itself.
    pub(crate) owns: bool,
    pub(crate) local: Arc<dyn Local>,
    pub(crate) doors: Arc<dyn Doors>,
    pub(crate) slots: Arc<dyn Slots>,
    /// How long this node has been without a lease.
    pub(crate) alone_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Beyond that it refuses what needs no slot.
    pub(crate) alone_ms_max: u64,
    pub(crate) maps: Arc<Maps>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) keys: Arc<SessionKeys>,
    /// Names of the virtual servers, by [`ServerId`].
    pub(crate) servers: Vec<String>,
    /// How long a request may wait for an owner, among others.
    pub(crate) timing: Timing,
}

/// The owner of every slot, as an edge sees it.
pub struct Router {
    parts: Parts,
    seen: Arc<Seen>,
    /// For streams that are opened again elsewhere.
    me: Weak<Router>,
}

/// How one attempt ended.
enum Attempt {
    Done(Reply),
    Failed(Failure),
}

/// Nobody owns the slot, as far as this edge knows.
const NO_OWNER: Attempt = Attempt::Failed(Failure::NotServed(NotServed::NotOwner));
/// It may have been executed, and no answer will come.
const LOST: Attempt = Attempt::Failed(Failure::LostBeforeHead);

impl Router {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { parts, seen: Arc::new(Seen::new()), me: me.clone() })
    }

    /// For a message of a session: to the owner of its slot.
    async fn to_owner(&self, ask: Ask<'_>, slot: Slot) -> Reply {
        // The short way, for most messages.
        let first = match self.parts.slots.fence(slot) {
            Ok(_) => Some(self.here(ask).await),
            Err(_) => None,
        };
        if let Some(Attempt::Done(reply)) = first {
            return reply;
        }
        let mut tries = Tries::new(self, ask);
        if let Some(failed) = first
            && let Some(reply) = tries.after(failed).await
        {
            return reply;
        }
        loop {
            let attempt = match self.parts.maps.owner(slot) {
                Some((run, _)) if run == self.parts.me => self.here(tries.ask()).await,
                Some((run, fence)) => self.there(tries.ask(), run, Some(fence), tries.message()).await,
                None => NO_OWNER,
            };
            if let Some(reply) = tries.after(attempt).await {
                return reply;
            }
        }
    }

    /// For what any owner may do: here, or at the lighter of two others. One that has no memory for it is not asked again,
    /// and when none has, it is refused at once.
    async fn anywhere(&self, ask: Ask<'_>, mut here: bool) -> Reply {
        let (mut tries, mut full) = (Tries::new(self, ask), Vec::new());
        loop {
            let run = self.choose(here, &full);
            let attempt = match run {
                None => self.here(ask).await,
                Some(run) => self.there(ask, run, None, tries.message()).await,
            };
            here = !here && self.parts.owns;
            let node = run.map_or(self.parts.me.node, |run| run.node);
            if matches!(attempt, Attempt::Failed(Failure::NotServed(NotServed::Full))) && !full.contains(&node) {
                full.push(node);
                if self.are_all(&full) {
                    return said::full(ask.id());
                }
                continue;
            }
            if let Some(reply) = tries.after(attempt).await {
                return reply;
            }
        }
    }

    /// Whether these are all that own sessions.
    fn are_all(&self, nodes: &[NodeId]) -> bool {
        let is_there = |node: NodeId| nodes.contains(&node);
        (!self.parts.owns || is_there(self.parts.me.node)) && self.parts.maps.now().owners().all(is_there)
    }

    /// Another owner than this node and `full` ones; nothing for this node itself.
    fn choose(&self, here: bool, full: &[NodeId]) -> Option<Run> {
        let me = self.parts.me.node;
        if here && !full.contains(&me) {
            return None;
        }
        let map = self.parts.maps.now();
        let mut others: Vec<NodeId> = map.owners().filter(|node| *node != me && !full.contains(node)).collect();
        let links = self.parts.doors.links();
        if others.iter().any(|node| links.borrow().contains(node)) {
            others.retain(|node| links.borrow().contains(node));
        }
        let node = self.parts.loads.lighter(&others, getrandom::u64().unwrap_or(0))?;
        map.members.run_of(node)
    }

    /// New sessions stay here as long as this node has slots for them and does not more than its share.
    fn mints_here(&self) -> bool {
        self.parts.owns && self.parts.slots.mint().is_ok() && !self.parts.loads.is_over(self.parts.me.node)
    }

    async fn here(&self, ask: Ask<'_>) -> Attempt {
        match ask.run(&*self.parts.local).await {
            Reply::NotServed(why) => Attempt::Failed(Failure::NotServed(why)),
            Reply::Lost => LOST,
            Reply::Events { stream, session } => {
                let stream = Following::stream(self.me.clone(), ask, Source::Here(stream));
                Attempt::Done(Reply::Events { stream, session })
            }
            reply => Attempt::Done(reply),
        }
    }

    async fn there(&self, ask: Ask<'_>, run: Run, fence: Option<Fence>, message: Payload) -> Attempt {
        let answered = tokio::select! {
            biased;
            answered = self.parts.doors.ask(run.node, fence, message) => answered,
            () = over(&self.parts.maps, fence, run) => Err(Failed::Lost),
        };
        let answered = match answered {
            Ok(answered) => answered,
            Err(Failed::NotSent) => return Attempt::Failed(Failure::NotSent),
            Err(Failed::Lost) => {
                tracing::debug!(?fence, %run, "an owner was lost before it answered");
                return LOST;
            }
        };
        if let Head::NotServed(why) = answered.head {
            return Attempt::Failed(Failure::NotServed(why));
        }
        // Links keep no order between nodes: an answer of a former owner may come after one of the next.
        let in_time = |fence| self.seen.accept(fence) || self.parts.maps.now().was_just_moved(fence);
        if answered.fence.is_some_and(|fence| !in_time(fence)) {
            tracing::debug!(fence = ?answered.fence, "an answer of an earlier owner came too late");
            return LOST;
        }
        let maps = &self.parts.maps;
        let is_over = || {
            let maps = maps.clone();
            async move { over(&maps, fence, run).await }.boxed()
        };
        self.reply(ask, answered, is_over).map_or(LOST, Attempt::Done)
    }

    /// What the edge gets of another node's answer; nothing when it is none.
    fn reply(&self, ask: Ask<'_>, answered: Answered, over: impl FnOnce() -> BoxFuture<'static, ()>) -> Option<Reply> {
        let Answered { fence, head, events } = answered;
        let session = |text: Option<String>| text.map(|text| self.parts.keys.verify(&text)).transpose().ok();
        Some(match head {
            Head::Accepted => Reply::Accepted,
            Head::Status(status) => Reply::Status(status),
            Head::NotServed(_) | Head::Lost => return None,
            Head::Message { status, body, session: text, retry_after_s } => {
                Reply::Message { status, body, session: session(text)?, retry_after_s }
            }
            Head::Events { session: text, after } => {
                let session = session(text)?;
                let unknown = ask.id().map(said::unknown_event);
                let maps = self.parts.maps.clone();
                let elsewhere = move || fence.is_some_and(|fence| maps.now().was_moved(fence));
                let events = RemoteEvents::new(events?, over(), fence, self.seen.clone(), unknown);
                let source = Source::There(events.follow(after, elsewhere));
                Reply::Events { stream: Following::stream(self.me.clone(), ask, source), session }
            }
        })
    }

    /// May it be sent again although it may have been executed?
    fn is_safe(&self, ask: Ask<'_>) -> bool {
        let envelope = match ask.what {
            What::Modern { request, .. } => request,
            What::Legacy { message: Legacy::One { envelope, .. }, .. } => envelope,
            What::Legacy { message: Legacy::Batch(_), .. } => return false,
            // A session that nobody has heard of does nothing, and ends by itself: its upstream sessions open at
            // their first use.
            What::Initialize { .. } | What::OpenStream { .. } | What::End { .. } => return true,
        };
        match &envelope.kind {
            Kind::Request(request) => self.parts.local.is_safe(ask.caller.server, &request.method, request.params),
            // Heard twice: the questions that answers belong to die with their owner or take one answer, and every
            // notification of a client says something that stays true.
            Kind::Response(_) | Kind::Notification(_) => true,
        }
    }
}

/// Resolves when `run` may no longer answer under `fence`. What needs no slot is never superseded.
async fn over(maps: &Maps, fence: Option<Fence>, run: Run) {
    match fence {
        Some(fence) => maps.superseded(fence, run).await,
        None => futures::future::pending().await,
    }
}

impl Owner for Router {
    fn server_at(&self, path: &str) -> Option<ServerId> {
        self.parts.local.server_at(path)
    }

    fn modern<'a>(
        &'a self,
        caller: Caller<'a>,
        request: &'a Envelope<'a>,
        meta: &'a Modern<'a>,
        headers: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply> {
        if self.parts.owns && (self.parts.alone_ms)() > self.parts.alone_ms_max {
            let id = Ask { caller, what: What::Modern { request, meta, headers } }.id();
            return futures::future::ready(said::alone(id)).boxed();
        }
        if self.parts.owns {
            return self.parts.local.modern(caller, request, meta, headers);
        }
        self.anywhere(Ask { caller, what: What::Modern { request, meta, headers } }, false).boxed()
    }

    fn initialize<'a>(&'a self, caller: Caller<'a>, request: &'a Envelope<'a>) -> BoxFuture<'a, Reply> {
        self.anywhere(Ask { caller, what: What::Initialize { request } }, self.mints_here()).boxed()
    }

    fn legacy<'a>(&'a self, caller: Caller<'a>, session: SessionId, message: Legacy<'a>) -> BoxFuture<'a, Reply> {
        self.to_owner(Ask { caller, what: What::Legacy { session, message } }, session.slot()).boxed()
    }

    fn open_stream<'a>(
        &'a self,
        caller: Caller<'a>,
        session: SessionId,
        last_event_id: Option<&'a str>,
    ) -> BoxFuture<'a, Reply> {
        self.to_owner(Ask { caller, what: What::OpenStream { session, last_event_id } }, session.slot()).boxed()
    }

    fn end<'a>(&'a self, caller: Caller<'a>, session: SessionId) -> BoxFuture<'a, Reply> {
        self.to_owner(Ask { caller, what: What::End { session } }, session.slot()).boxed()
    }
}
