//! Few legacy sessions for all client sessions (BRIDGE.md rule 6): each is opened once, without client capabilities, and
//! lent to many holders; what it says of its own accord goes to all of them.

use crate::common::Common;
use crate::peer::{Call, CallError, Exchange, Hello, Messages, Opened, Peer, Source};
use crate::queue::{Class, Pushed, Queue};
use crate::wire::{self, Sort};
use bytes::Bytes;
use enfilade_mcp::Version;
use enfilade_mcp::meta::IMPLEMENTATION;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The sessions, as many as there may be at most; each is opened at its first use.
pub(crate) struct SharedSessions {
    common: Arc<Common>,
    slots: Vec<Slot>,
    uses: Mutex<Vec<Use>>,
}

/// How one slot is used.
#[derive(Default, Clone)]
struct Use {
    /// Those who have it, and those who still wait for it.
    holders: usize,
    /// Since when it has none.
    idle_since: Option<Instant>,
    /// A task is there to close it when it was idle for long.
    reaping: bool,
}

#[derive(Default)]
struct Slot {
    live: tokio::sync::Mutex<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    opened: Arc<Opened>,
    fan_out: Arc<FanOut>,
}

impl SharedSessions {
    pub(crate) fn new(common: Arc<Common>, sessions_max: usize) -> Arc<Self> {
        let slots = (0..sessions_max).map(|_| Slot::default()).collect();
        Arc::new(Self { common, slots, uses: Mutex::new(vec![Use::default(); sessions_max]) })
    }

    /// What shared sessions are opened with: nobody's capabilities.
    pub(crate) fn hello() -> Hello {
        Hello { version: Version::LEGACY_LATEST, client_info: IMPLEMENTATION.into(), capabilities: "{}".into() }
    }

    /// Lends the session with the fewest holders, and opens it if need be.
    pub(crate) async fn lend<F>(self: &Arc<Self>, open: impl FnOnce() -> F) -> Result<Opened, CallError>
    where
        F: Future<Output = Result<Opened, CallError>>,
    {
        let hold = self.hold();
        let mut slot = self.slots[hold.slot].live.lock().await;
        let live = match &*slot {
            Some(live) if live.opened.peer.is_alive() => live.clone(),
            _ => {
                let opened = Arc::new(open().await?);
                let fan_out = FanOut::new(self.common.clone());
                slot.insert(Live { opened, fan_out }).clone()
            }
        };
        drop(slot);
        let Live { opened, fan_out } = live;
        Ok(Opened {
            peer: Arc::new(Lent { inner: opened.peer.clone(), fan_out, hold: Mutex::new(Some(hold)) }),
            session_id: opened.session_id.clone(),
            version: opened.version,
            result: opened.result.clone(),
        })
    }

    fn hold(self: &Arc<Self>) -> Hold {
        let mut uses = self.uses.lock();
        let least = uses.iter().enumerate().min_by_key(|(_, slot)| slot.holders);
        let slot = least.map_or(0, |(slot, _)| slot);
        uses[slot].holders += 1;
        uses[slot].idle_since = None;
        Hold { sessions: self.clone(), slot }
    }

    /// Closes a session when nobody took it up again within the idle time.
    async fn reap(&self, slot: usize) {
        let idle = Duration::from_millis(self.common.config.idle_ms);
        while let Some(since) = self.idle_since(slot) {
            tokio::select! {
                () = tokio::time::sleep_until(since + idle) => {}
                () = self.common.stop.cancelled() => return,
            }
            let mut live = self.slots[slot].live.lock().await;
            // Whoever holds it now waits for the lock, and opens it anew.
            if self.is_over(slot, idle)
                && let Some(live) = live.take()
            {
                live.opened.peer.close().await;
            }
        }
    }

    /// True once the slot was idle for so long; then it counts as closed.
    fn is_over(&self, slot: usize, idle: Duration) -> bool {
        let slot = &mut self.uses.lock()[slot];
        let over = slot.idle_since.is_some_and(|since| since.elapsed() >= idle);
        if over {
            slot.idle_since = None;
        }
        over
    }

    /// Since when the slot has no holders; if it has some, or was closed, the reaper's work is done.
    fn idle_since(&self, slot: usize) -> Option<Instant> {
        let mut uses = self.uses.lock();
        uses[slot].reaping = uses[slot].idle_since.is_some();
        uses[slot].idle_since
    }
}

/// A share of one session.
struct Hold {
    sessions: Arc<SharedSessions>,
    slot: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut uses = self.sessions.uses.lock();
        let slot = &mut uses[self.slot];
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        slot.idle_since = Some(Instant::now());
        // Outside of a runtime, and after a shutdown, nothing lives on that would have to be closed.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !std::mem::replace(&mut slot.reaping, true) && !self.sessions.common.stop.is_cancelled() {
            let (sessions, slot) = (self.sessions.clone(), self.slot);
            self.sessions.common.tasks.spawn_on(async move { sessions.reap(slot).await }, &runtime);
        }
    }
}

/// A shared session in the hands of one holder.
struct Lent {
    inner: Arc<dyn Peer>,
    fan_out: Arc<FanOut>,
    hold: Mutex<Option<Hold>>,
}

impl Peer for Lent {
    fn next_id(&self) -> u64 {
        self.inner.next_id()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>> {
        self.inner.call(call)
    }

    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        self.inner.send(message)
    }

    fn cancel(&self, id: u64, reason: &str) -> BoxFuture<'_, ()> {
        self.inner.cancel(id, reason)
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>> {
        Box::pin(async move {
            let queue = self.fan_out.listen(&self.inner).await?;
            Ok(queue.map(|queue| Messages::new(Listening { queue, fan_out: self.fan_out.clone() })))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        drop(self.hold.lock().take());
        Box::pin(std::future::ready(()))
    }

    fn is_alive(&self) -> bool {
        self.hold.lock().is_some() && self.inner.is_alive()
    }
}

/// Gives every holder what the session says of its own accord.
struct FanOut {
    common: Arc<Common>,
    listeners: Mutex<Vec<Arc<Queue>>>,
    /// Whether the session has such messages, once the first listener asked.
    started: OnceCell<bool>,
    ended: AtomicBool,
}

impl FanOut {
    fn new(common: Arc<Common>) -> Arc<Self> {
        Arc::new(Self { common, listeners: Mutex::default(), started: OnceCell::new(), ended: AtomicBool::new(false) })
    }

    async fn listen(self: &Arc<Self>, peer: &Arc<dyn Peer>) -> Result<Option<Arc<Queue>>, CallError> {
        let queue = Arc::new(Queue::default());
        self.listeners.lock().push(queue.clone());
        let started = self.started.get_or_try_init(|| async {
            let messages = peer.listen().await?;
            let has_some = messages.is_some();
            if let Some(messages) = messages {
                self.common.tasks.spawn(self.clone().run(messages, Arc::downgrade(peer)));
            }
            Ok(has_some)
        });
        let has_some = *started.await.inspect_err(|_| self.leave(&queue))?;
        if !has_some || self.ended.load(Ordering::Acquire) {
            self.leave(&queue);
            return Ok(None);
        }
        Ok(Some(queue))
    }

    fn leave(&self, queue: &Arc<Queue>) {
        self.listeners.lock().retain(|listener| !Arc::ptr_eq(listener, queue));
    }

    /// Runs until the session's messages end, or the gateway does.
    async fn run(self: Arc<Self>, mut messages: Messages, peer: std::sync::Weak<dyn Peer>) {
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                () = self.common.stop.cancelled() => None,
            };
            let Some(Ok(message)) = next else { break };
            let answer = match std::str::from_utf8(&message).map(wire::sort) {
                Ok(Sort::Request { id, method }) if method == "ping" => wire::pong(&id),
                Ok(Sort::Request { id, .. }) => wire::refusal(&id),
                Ok(Sort::Notification { .. }) => {
                    self.spread(&message);
                    continue;
                }
                _ => continue,
            };
            let Some(peer) = peer.upgrade() else { break };
            let _ = peer.send(answer.into()).await;
        }
        self.ended.store(true, Ordering::Release);
        for listener in self.listeners.lock().drain(..) {
            listener.end(None);
        }
    }

    fn spread(&self, message: &Bytes) {
        for listener in self.listeners.lock().iter() {
            if let Pushed::Taken { dropped } = listener.push(Class::Notification, message.clone()) {
                self.common.count_dropped(dropped);
            }
        }
    }
}

/// One holder's part of what a shared session says.
struct Listening {
    queue: Arc<Queue>,
    fan_out: Arc<FanOut>,
}

impl Source for Listening {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(async { Some(self.queue.pop().await?.map(|(_, message)| message)) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.fan_out.leave(&self.queue);
    }
}
