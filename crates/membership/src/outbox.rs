//! Foca's side of the world: sealed packets out, timers, and what it noticed.
//! Sending never waits: a packet that the socket does not take now is lost like any other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::seal::{PACKET_BYTES_MAX, Seal};
use crate::seat::Seat;

/// A timer in the order in which timers fire: by time, at one time as foca wants them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    timer: Timer<Seat>,
}

/// What foca noticed since the driver last looked.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// Who is alive may be different.
    pub(crate) members: bool,
    /// Somebody came who has not heard this node's hint.
    pub(crate) newcomer: bool,
    /// Others have declared this node down.
    pub(crate) declared_down: bool,
}

/// What foca acts through.
pub(crate) struct Outbox {
    socket: Arc<UdpSocket>,
    seal: Seal,
    packet: Vec<u8>,
    timers: BinaryHeap<Reverse<Due>>,
    pub(crate) noticed: Noticed,
}

impl Outbox {
    pub(crate) fn new(socket: Arc<UdpSocket>, seal: Seal) -> Outbox {
        let packet = Vec::with_capacity(PACKET_BYTES_MAX);
        Outbox { socket, seal, packet, timers: BinaryHeap::new(), noticed: Noticed::default() }
    }

    /// When the next timer is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse(due)| due.at)
    }

    /// The next timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer<Seat>> {
        if self.next_due()? > now {
            return None;
        }
        self.timers.pop().map(|Reverse(due)| due.timer)
    }
}

impl Runtime<Seat> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Seat>) {
        match notification {
            Notification::MemberUp(_) => {
                self.noticed.members = true;
                self.noticed.newcomer = true;
            }
            Notification::MemberDown(_) | Notification::Rename(..) => self.noticed.members = true,
            Notification::Defunct => self.noticed.declared_down = true,
            _ => {}
        }
    }

    fn send_to(&mut self, to: Seat, data: &[u8]) {
        if !self.seal.seal(data, &mut self.packet) {
            tracing::error!("a gossip packet could not be sealed");
            return;
        }
        if let Err(error) = self.socket.try_send_to(&self.packet, to.socket()) {
            tracing::trace!(%error, to = %to.socket(), "gossip packet not sent");
        }
    }

    fn submit_after(&mut self, timer: Timer<Seat>, after: Duration) {
        self.timers.push(Reverse(Due { at: Instant::now() + after, timer }));
    }
}
