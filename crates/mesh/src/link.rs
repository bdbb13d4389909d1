//! One link: its exchanges by number, their deadlines, and what each frame that arrives does to them.
//! When it ends, every exchange on it is told so, and whether it had left this node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::FRAME_BUFFER_BYTES;
use enfilade_proto::mesh::frame::Kind;
use enfilade_proto::mesh::{self as proto, Frame, Reset, ResetReason, Roster};
use enfilade_registry::{NodeId, Run};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::exchange::Exchange;
use crate::flow::{After, Flow};
use crate::outbox::{ALSO_MAX, Outbox, cost};
use crate::{Broken, Limits, Message, NotSent, Open};

/// What takes at least this part of a buffer is not copied out of it.
const SHARE_MIN: usize = 8;

pub(crate) struct Link {
    /// The node at the other end.
    pub(crate) peer: Run,
    pub(crate) outbox: Arc<Outbox>,
    /// What this end of each exchange takes before it gives credit.
    pub(crate) credit_bytes: u32,
    /// The same of the other end.
    pub(crate) peer_credit: u32,
    pub(crate) message_bytes_max: usize,
    exchanges_max: usize,
    table: Mutex<Table>,
    /// The task that reads the link.
    driver: AtomicWaker,
    /// The nodes that the other node has links to, as it says.
    linked: Mutex<Arc<[NodeId]>>,
}

#[derive(Default)]
struct Table {
    flows: HashMap<u64, Entry>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// When the reader wakes to look at the deadlines.
    armed: Option<Instant>,
    /// The last number that was given to an exchange.
    last_id: u64,
    closed: bool,
}

struct Entry {
    flow: Arc<Flow>,
    deadline: Option<Instant>,
}

/// A frame that is not about an open exchange.
pub(crate) enum Received {
    Nothing,
    Open(proto::Open),
}

/// The other node does not keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node does not keep to the protocol: {0}")]
pub(crate) struct Violation(pub(crate) &'static str);

/// Where an exchange goes when the link is not its whole way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Route {
    /// The node behind the link's.
    pub(crate) relay_to: Option<Run>,
    /// The node before this one.
    pub(crate) relayed_for: Option<Run>,
}

impl Link {
    pub(crate) fn new(peer: Run, outbox: Arc<Outbox>, limits: &Limits, hello: &proto::Hello) -> Arc<Self> {
        Arc::new(Self {
            peer,
            outbox,
            credit_bytes: limits.credit_bytes.max(1),
            peer_credit: hello.credit_bytes.max(1),
            message_bytes_max: limits.message_bytes_max.min(hello.message_bytes_max as usize),
            exchanges_max: limits.exchanges_max,
            table: Mutex::default(),
            driver: AtomicWaker::new(),
            linked: Mutex::new(hello.linked.iter().copied().map(NodeId).collect()),
        })
    }

    /// Opens an exchange. `Err` only when its frame was not queued.
    pub(crate) async fn open(self: &Arc<Self>, open: Open, route: Route) -> Result<Exchange, NotSent> {
        let bytes = open.payload.len() + open.body.len();
        if bytes > self.message_bytes_max {
            return Err(NotSent::TooLarge);
        }
        let cost = cost(bytes);
        let deadline = open.within.map(|within| Instant::now() + within.min(Duration::from_millis(u32::MAX.into())));
        let room = std::future::poll_fn(|cx| self.outbox.poll_reserve(cost, cx));
        let reserved = match deadline {
            None => room.await,
            Some(at) => tokio::time::timeout_at(at, room).await.map_err(|_| NotSent::Deadline)?,
        };
        reserved.map_err(|_| NotSent::Unreachable)?;

        let peer = route.relay_to.unwrap_or(self.peer);
        let flow = self.enter(None, peer, deadline, open.last, false).ok_or(NotSent::Unreachable)?;
        let frame = proto::Open {
            exchange: flow.id,
            kind: open.kind,
            slot: u32::from(open.slot),
            term: open.term,
            within_ms: deadline.map_or(0, remaining_ms),
            traceparent: open.traceparent.unwrap_or_default(),
            payload: open.payload,
            body: open.body,
            last: open.last,
            relay_to: route.relay_to.map(|run| run.node.0),
            relayed_for: route.relayed_for.map(to_proto),
        };
        if self.outbox.push(Kind::Open(frame)).is_err() {
            self.forget(flow.id);
            flow.end(Broken::Unsent);
            return Err(NotSent::Unreachable);
        }
        Ok(Exchange::new(flow))
    }

    /// Takes an exchange that the other node opened. `None`: it was refused, and the other node was told.
    pub(crate) fn accept(self: &Arc<Self>, open: &proto::Open, from: Run) -> Option<Exchange> {
        if self.table.lock().flows.len() >= self.exchanges_max {
            self.push_reset(open.exchange, ResetReason::Busy);
            return None;
        }
        let deadline = within(open).map(|within| Instant::now() + within);
        self.enter(Some(open.exchange), from, deadline, false, open.last).map(Exchange::new)
    }

    fn enter(
        self: &Arc<Self>,
        id: Option<u64>,
        peer: Run,
        deadline: Option<Instant>,
        said_last: bool,
        heard_last: bool,
    ) -> Option<Arc<Flow>> {
        let (flow, wake) = {
            let mut table = self.table.lock();
            if table.closed {
                return None;
            }
            let id = id.unwrap_or_else(|| {
                table.last_id += 1;
                table.last_id
            });
            let flow = Arc::new(Flow::new(id, peer, Arc::clone(self), said_last, heard_last));
            table.flows.insert(id, Entry { flow: Arc::clone(&flow), deadline });
            self.outbox.set_exchanges(table.flows.len());
            (flow, deadline.is_some_and(|at| table.arm(at, id)))
        };
        if wake {
            self.driver.wake();
        }
        Some(flow)
    }

    /// Nothing about the exchange is of interest any more.
    pub(crate) fn forget(&self, id: u64) {
        let mut table = self.table.lock();
        let flow = table.remove(id);
        self.outbox.set_exchanges(table.flows.len());
        drop(table);
        drop(flow);
    }

    pub(crate) fn push_reset(&self, exchange: u64, reason: ResetReason) {
        // A link that has ended needs no reset.
        let _ = self.outbox.push(Kind::Reset(Reset { exchange, reason: reason.into() }));
    }

    /// Tells the other node which nodes this one has links to.
    pub(crate) fn announce(&self, linked: &[NodeId]) {
        let linked = linked.iter().map(|node| node.0).collect();
        // A link that has ended needs no roster.
        let _ = self.outbox.push(Kind::Roster(Roster { linked }));
    }

    /// Whether the other node says that it has a link to `node`.
    pub(crate) fn reaches(&self, node: NodeId) -> bool {
        self.linked.lock().contains(&node)
    }

    /// What a frame does to this link.
    pub(crate) fn receive(&self, frame: Frame) -> Result<Received, Violation> {
        match frame.kind {
            Some(Kind::Data(data)) => self.data(data)?,
            Some(Kind::Credit(credit)) => {
                if let Some(flow) = self.flow(credit.exchange) {
                    flow.grant(credit.bytes);
                }
            }
            Some(Kind::Reset(reset)) => self.reset(&reset),
            Some(Kind::Roster(roster)) => *self.linked.lock() = roster.linked.into_iter().map(NodeId).collect(),
            Some(Kind::Open(open)) => {
                if self.flow(open.exchange).is_some() {
                    return Err(Violation("an exchange's number is in use"));
                }
                return Ok(Received::Open(open));
            }
            Some(Kind::Hello(_)) => return Err(Violation("a second greeting")),
            // A kind of frame that a later version has: it is only sent to those who know it.
            None => {}
        }
        Ok(Received::Nothing)
    }

    fn data(&self, data: proto::Data) -> Result<(), Violation> {
        if data.also.len() > ALSO_MAX || (data.last && !data.also.is_empty()) {
            return Err(Violation("data for too many exchanges, or the last for several"));
        }
        // All exchanges that get it share its bytes.
        let message = Message { head: kept(data.payload), body: kept(data.body) };
        for exchange in data.also {
            self.deliver(exchange, message.clone(), false)?;
        }
        self.deliver(data.exchange, message, data.last)
    }

    fn deliver(&self, exchange: u64, message: Message, last: bool) -> Result<(), Violation> {
        let Some(flow) = self.flow(exchange) else { return Ok(()) };
        match flow.deliver(message, last) {
            After::Goes => Ok(()),
            After::Done => {
                self.forget(exchange);
                Ok(())
            }
            After::Violation => Err(Violation("data without credit, or after the last")),
        }
    }

    fn reset(&self, reset: &Reset) {
        let removed = {
            let mut table = self.table.lock();
            let removed = table.remove(reset.exchange);
            self.outbox.set_exchanges(table.flows.len());
            removed
        };
        if let Some(flow) = removed {
            flow.end(match reset.reason() {
                ResetReason::Busy | ResetReason::Unreachable => Broken::Unsent,
                ResetReason::Lost => Broken::Lost,
                ResetReason::Deadline => Broken::Deadline,
                ResetReason::Dropped | ResetReason::Unspecified => Broken::Reset,
            });
        }
    }

    fn flow(&self, id: u64) -> Option<Arc<Flow>> {
        self.table.lock().flows.get(&id).map(|entry| Arc::clone(&entry.flow))
    }

    /// The exchanges that are open.
    pub(crate) fn exchanges(&self) -> usize {
        self.table.lock().flows.len()
    }

    /// Takes no new exchanges and ends when what is queued was written.
    pub(crate) fn finish(&self) {
        self.outbox.finish();
    }

    /// Ends the link: every exchange on it is broken.
    pub(crate) fn close(&self) {
        let flows = {
            let mut table = self.table.lock();
            table.closed = true;
            table.deadlines.clear();
            std::mem::take(&mut table.flows)
        };
        let unsent: HashSet<u64> = self.outbox.close().into_iter().collect();
        for (id, entry) in flows {
            entry.flow.end(if unsent.contains(&id) { Broken::Unsent } else { Broken::Lost });
        }
        self.driver.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.table.lock().closed
    }

    /// For the task that reads the link: it is woken when the link is closed or an earlier deadline was set.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    /// Ends the exchanges whose time is over; arms the timer for the next.
    pub(crate) fn poll_deadlines(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        while let Some(at) = self.expire(&timer) {
            if at != timer.deadline() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Ends what is due and returns when to look again. A timer that would fire too early is left as it is: to wake
    /// once in vain costs less than to move it with every exchange.
    fn expire(&self, timer: &Sleep) -> Option<Instant> {
        let mut due = Vec::new();
        let armed = {
            let mut table = self.table.lock();
            if !table.deadlines.is_empty() {
                let now = Instant::now();
                while table.deadlines.first().is_some_and(|(at, _)| *at <= now) {
                    let popped = table.deadlines.pop_first();
                    due.extend(popped.and_then(|(_, id)| table.flows.remove(&id)));
                }
            }
            let pending = (!timer.is_elapsed()).then(|| timer.deadline());
            let next = table.deadlines.first().map(|(at, _)| *at);
            table.armed = next.into_iter().chain(pending).min();
            table.armed
        };
        for Entry { flow, .. } in due {
            flow.end(Broken::Deadline);
            self.push_reset(flow.id, ResetReason::Deadline);
        }
        armed
    }
}

impl Table {
    /// Enters a deadline; true when the reader has to look at it.
    fn arm(&mut self, at: Instant, id: u64) -> bool {
        self.deadlines.insert((at, id));
        let earlier = self.armed.is_none_or(|armed| at < armed);
        if earlier {
            self.armed = Some(at);
        }
        earlier
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Flow>> {
        let entry = self.flows.remove(&id)?;
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, id));
        }
        Some(entry.flow)
    }
}

/// Part of a message that arrived, for one who may keep it for long: small ones leave the buffer that they came in,
/// which is many times their size.
pub(crate) fn kept(part: Bytes) -> Bytes {
    if part.len() < FRAME_BUFFER_BYTES / SHARE_MIN { Bytes::copy_from_slice(&part) } else { part }
}

/// The time that an opening gives.
pub(crate) fn within(open: &proto::Open) -> Option<Duration> {
    (open.within_ms > 0).then(|| Duration::from_millis(u64::from(open.within_ms)))
}

/// Rounded up: the other end is never the earlier one, and 0 would be no deadline.
fn remaining_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    u32::try_from(left).map_or(u32::MAX, |ms| ms.saturating_add(1))
}

pub(crate) fn to_proto(run: Run) -> proto::Run {
    proto::Run { node: run.node.0, generation: run.generation.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_message_does_not_keep_the_buffer_that_it_came_in() {
        let buffer = Bytes::from(vec![0; FRAME_BUFFER_BYTES]);
        let shares = |part: Bytes| buffer.as_ptr_range().contains(&kept(part).as_ptr());
        assert!(!shares(buffer.slice(1..FRAME_BUFFER_BYTES / SHARE_MIN)));
        assert!(shares(buffer.slice(1..=FRAME_BUFFER_BYTES / SHARE_MIN)));
    }
}
