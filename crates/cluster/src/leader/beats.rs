//! The way of heartbeats to the task that leads, and of its answers back.

use crate::wire::HeartbeatAnswer;
use enfilade_registry::Heartbeat;
use tokio::sync::{mpsc, oneshot};

/// Heartbeats that wait for the leading task; a few per node are plenty.
const WAITING_MAX: usize = 1024;

/// One heartbeat and who waits for the answer.
pub(crate) struct Beat {
    pub(crate) beat: Heartbeat,
    pub(crate) answer: oneshot::Sender<HeartbeatAnswer>,
}

/// Where heartbeats are handed in.
#[derive(Clone)]
pub(crate) struct Beats(mpsc::Sender<Beat>);

impl Beats {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Beat>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// The leader's answer; that this node does not lead, when nobody gives one.
    pub(crate) async fn ask(&self, beat: Heartbeat) -> HeartbeatAnswer {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(Beat { beat, answer }) {
            Ok(()) => answered.await.unwrap_or(HeartbeatAnswer::NotLeader(None)),
            Err(_) => HeartbeatAnswer::NotLeader(None),
        }
    }
}
