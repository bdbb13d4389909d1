//! A bounded queue of messages from one reader task to one consumer, who may come late or not at all.
//!
//! The reader never waits, or one slow consumer would hold up everybody else's answers. So when the queue is full its oldest
//! notifications go (the caller counts them); a response always finds room, and a request finds it or is refused.

use crate::peer::CallError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Most messages that wait.
const MESSAGES_MAX: usize = 256;
/// Most bytes that wait, the newest message not counted.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a message is to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Notification,
    Request,
    Response,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; so many older notifications had to go.
    Taken { dropped: usize },
    /// There is no room, or nobody reads any more.
    Refused,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<(Class, Bytes)>,
    bytes: usize,
    end: Option<End>,
}

/// How the queue ends once it is empty.
#[derive(Debug, Clone)]
enum End {
    With(CallError),
    Silent,
}

impl Queue {
    pub(crate) fn push(&self, class: Class, message: Bytes) -> Pushed {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Pushed::Refused;
        }
        let mut dropped = 0;
        while class != Class::Response && state.is_full() {
            if !state.drop_oldest_notification() {
                return Pushed::Refused;
            }
            dropped += 1;
        }
        state.bytes += message.len();
        state.items.push_back((class, message));
        drop(state);
        self.ready.notify_one();
        Pushed::Taken { dropped }
    }

    /// No more messages: those that wait are still handed out, then the error, once, and then nothing.
    pub(crate) fn end(&self, error: Option<CallError>) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(error.map_or(End::Silent, End::With));
            drop(state);
            self.ready.notify_one();
        }
    }

    /// The next message. Cancel safe.
    pub(crate) async fn pop(&self) -> Option<Result<(Class, Bytes), CallError>> {
        loop {
            if let Some(next) = self.try_pop() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    /// The next message or the end, if one of them is there.
    fn try_pop(&self) -> Option<Option<Result<(Class, Bytes), CallError>>> {
        let mut state = self.state.lock();
        if let Some((class, message)) = state.items.pop_front() {
            state.bytes -= message.len();
            return Some(Some(Ok((class, message))));
        }
        match state.end.replace(End::Silent) {
            Some(End::With(error)) => Some(Some(Err(error))),
            Some(End::Silent) => Some(None),
            None => {
                state.end = None;
                None
            }
        }
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.items.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX
    }

    fn drop_oldest_notification(&mut self) -> bool {
        let Some(oldest) = self.items.iter().position(|(class, _)| *class == Class::Notification) else { return false };
        let gone = self.items.remove(oldest).map_or(0, |(_, message)| message.len());
        self.bytes -= gone;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Notification, Request, Response};

    fn text(number: usize) -> Bytes {
        number.to_string().into()
    }

    #[tokio::test]
    async fn drops_the_oldest_notifications_and_never_a_response() {
        let queue = Queue::default();
        for number in 0..MESSAGES_MAX {
            assert_eq!(queue.push(Notification, text(number)), Pushed::Taken { dropped: 0 });
        }
        assert_eq!(queue.push(Notification, text(MESSAGES_MAX)), Pushed::Taken { dropped: 1 });
        assert_eq!(queue.push(Response, "answer".into()), Pushed::Taken { dropped: 0 });
        assert_eq!(queue.pop().await.unwrap().unwrap(), (Notification, text(1)));
    }

    #[test]
    fn requests_are_refused_when_only_requests_wait() {
        let queue = Queue::default();
        for number in 0..MESSAGES_MAX {
            queue.push(Request, text(number));
        }
        assert_eq!(queue.push(Request, text(0)), Pushed::Refused);
        assert_eq!(queue.push(Notification, text(0)), Pushed::Refused);
        assert_eq!(queue.push(Response, text(0)), Pushed::Taken { dropped: 0 });
    }

    #[test]
    fn bytes_are_bounded() {
        let queue = Queue::default();
        let big = Bytes::from(vec![b' '; BYTES_MAX]);
        assert_eq!(queue.push(Notification, big.clone()), Pushed::Taken { dropped: 0 });
        assert_eq!(queue.push(Notification, big), Pushed::Taken { dropped: 1 });
    }

    #[tokio::test]
    async fn ends_after_what_waits() {
        let queue = Queue::default();
        queue.push(Notification, text(1));
        queue.end(Some(CallError::Lost));
        queue.end(None);
        assert_eq!(queue.push(Notification, text(2)), Pushed::Refused);
        assert!(queue.pop().await.unwrap().is_ok());
        assert_eq!(queue.pop().await.unwrap().unwrap_err(), CallError::Lost);
        assert!(queue.pop().await.is_none());
        assert!(queue.pop().await.is_none());
    }
}
