//! Where messages go that belong to a call but did not come with it: its stream, which opens for the first of them.

use crate::stream::Stream;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// Most messages that wait for the stream to open; beyond it those that may be dropped are.
const WAITING_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Told that the call must become a stream.
    pub(crate) commit: Notify,
}

enum State {
    Waiting(Vec<(Bytes, bool)>),
    Open(Arc<Stream>),
}

impl Default for State {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

impl Outlet {
    /// Delivers a message on the call's stream.
    pub(crate) fn send(&self, message: Bytes, droppable: bool) {
        match &mut *self.state.lock() {
            State::Open(stream) => put(stream, message, droppable),
            State::Waiting(waiting) if droppable && waiting.len() >= WAITING_MAX => {}
            State::Waiting(waiting) => waiting.push((message, droppable)),
        }
        self.commit.notify_one();
    }

    /// The stream is there.
    pub(crate) fn open(&self, stream: &Arc<Stream>) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Open(stream.clone()));
        if let State::Waiting(waiting) = before {
            waiting.into_iter().for_each(|(message, droppable)| put(stream, message, droppable));
        }
    }
}

fn put(stream: &Stream, message: Bytes, droppable: bool) {
    if droppable {
        stream.send_droppable(message);
    } else {
        stream.send(message);
    }
}
