//! What comes back for a call as a stream of events, over one connection or several.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;

use crate::sse::{Event, Reader};

/// What a stream of an answer brought.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The last event id that arrived.
    pub(crate) last: Option<String>,
    pub(crate) retry: Option<Duration>,
    /// The messages before the answer, in order.
    pub(crate) notices: Vec<Notice>,
    /// What came and is no message.
    garbage: Vec<String>,
    /// When it went on, on a new connection.
    pub(crate) resumed: Option<Instant>,
    /// Answers that began: the first one, and one for each time that the rest was asked for.
    begun: Vec<usize>,
    pub(crate) answer: Option<Value>,
}

/// A message of a stream, and how it came.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) message: Value,
    /// Of its event.
    pub(crate) id: Option<String>,
    /// Where it was read.
    pub(crate) node: Option<usize>,
}

/// A stream of events that is being read.
pub(crate) struct Reading {
    body: Incoming,
    reader: Reader,
    /// Those that have come and were not taken yet.
    events: VecDeque<Event>,
}

impl Reading {
    pub(crate) fn of(response: Response<Incoming>) -> Reading {
        Reading { body: response.into_body(), reader: Reader::default(), events: VecDeque::new() }
    }
}

impl Stream {
    /// For the report of a call that is not answered.
    pub(crate) fn so_far(&self, session: &str) -> String {
        let (notices, last) = (self.notices.len(), self.last.as_deref().unwrap_or("none"));
        format!("session {session}, begun at nodes {:?}, {notices} messages, last event {last}", self.begun)
    }

    /// It is read at this node from now on.
    pub(crate) fn begun_at(&mut self, node: usize) {
        self.begun.push(node);
    }

    /// Says of events that are no messages, if there were any.
    pub(crate) fn garbage(&self) -> Option<String> {
        let first = self.garbage.first()?;
        Some(format!("{} events are not JSON, the first: {first}", self.garbage.len()))
    }

    /// Reads until the answer to `id`, or until the connection ends; then says why.
    pub(crate) async fn read(&mut self, response: Response<Incoming>, id: u64) -> String {
        self.read_while(&mut Reading::of(response), id, |_| true).await
    }

    /// Likewise, and stops where `go_on` says so.
    pub(crate) async fn read_while(
        &mut self,
        reading: &mut Reading,
        id: u64,
        go_on: impl Fn(&Stream) -> bool,
    ) -> String {
        loop {
            while let Some(event) = reading.events.pop_front() {
                self.take(event, id);
                if self.answer.is_some() {
                    return "answered".to_owned();
                }
                if !go_on(self) {
                    return "stopped".to_owned();
                }
            }
            match reading.body.frame().await.map(|frame| frame.map(hyper::body::Frame::into_data)) {
                Some(Ok(Ok(bytes))) => reading.events.extend(reading.reader.read(&bytes)),
                Some(Ok(Err(_))) => {}
                Some(Err(error)) => return error.to_string(),
                None => return "the stream ended without an answer".to_owned(),
            }
        }
    }

    fn take(&mut self, event: Event, id: u64) {
        let Event { id: event_id, retry_ms, data } = event;
        if event_id.is_some() {
            self.last.clone_from(&event_id);
        }
        if let Some(retry) = retry_ms {
            self.retry = Some(Duration::from_millis(retry));
        }
        // An event without data only says where the stream is.
        let Some(data) = data.filter(|data| !data.is_empty()) else { return };
        let node = self.begun.last().copied();
        let Ok(message) = serde_json::from_str::<Value>(&data) else {
            let text: String = data.chars().take(200).collect();
            return self.garbage.push(format!("{text:?}, event {event_id:?} at node {node:?}"));
        };
        if message["method"].is_string() {
            self.notices.push(Notice { message, id: event_id, node });
        } else if message["id"].as_u64() == Some(id) {
            self.answer = Some(message);
        }
    }
}
