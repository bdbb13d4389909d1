//! An owner that does what the method's name says, and remembers what it was asked.

use enfilade_mcp::classify::Modern;
use enfilade_mcp::{Envelope, Kind, RpcError};
use enfilade_registry::{SessionId, Slot};
use enfilade_session::owner::{Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use enfilade_session::stream::{self, EventId, Stream};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// How many calls are being run, and how many were dropped before they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub running: usize,
    pub dropped: usize,
}

/// The owner.
pub struct Script {
    asked: Mutex<Vec<String>>,
    streams: Mutex<Vec<Arc<Stream>>>,
    counts: watch::Sender<Counts>,
    /// Set to true, it lets `wait` end.
    pub release: watch::Sender<bool>,
}

struct Running<'a> {
    counts: &'a watch::Sender<Counts>,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| {
            counts.running -= 1;
            counts.dropped += usize::from(!self.ended);
        });
    }
}

impl Script {
    pub fn new() -> Self {
        let (asked, streams) = (Mutex::default(), Mutex::default());
        Self { asked, streams, counts: watch::Sender::default(), release: watch::Sender::new(false) }
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }

    /// Resolves when the numbers are such.
    pub async fn until(&self, counts: impl Fn(Counts) -> bool) {
        let mut seen = self.counts.subscribe();
        super::within(seen.wait_for(|now| counts(*now))).await.expect("the script lives");
    }

    /// The stream that was opened last.
    pub fn stream(&self) -> Arc<Stream> {
        self.streams.lock().last().expect("a stream was opened").clone()
    }

    fn open(&self, kind: stream::Kind) -> Reply {
        let mut streams = self.streams.lock();
        let stream = Stream::new(streams.len() as u64, 1, kind);
        let reader = stream.attach(None).expect("a reader");
        streams.push(stream);
        Reply::Events { stream: reader, session: None }
    }

    async fn run(&self, envelope: &Envelope<'_>, headers: Option<&dyn HeaderLookup>) -> Reply {
        let Kind::Request(request) = &envelope.kind else { return Reply::Accepted };
        let message = |result: &str| Reply::Message {
            status: 200,
            body: enfilade_mcp::error::result_message(&request.id, result).into(),
            session: None,
            retry_after_s: None,
        };
        match &*request.method {
            "wait" => {
                self.counts.send_modify(|counts| counts.running += 1);
                let mut running = Running { counts: &self.counts, ended: false };
                let mut release = self.release.subscribe();
                let _ = release.wait_for(|released| *released).await;
                running.ended = true;
                message("{}")
            }
            "kept" => self.open(stream::Kind::Resumable { priming: true }),
            "stream" | "subscriptions/listen" => self.open(stream::Kind::Ephemeral),
            "large" => message(&format!("\"{}\"", "x".repeat(16_000_000))),
            "length" => message(&envelope.text.len().to_string()),
            "headers" => {
                let region = headers.and_then(|headers| headers.header("mcp-param-region"));
                message(&enfilade_mcp::json::quote(region.unwrap_or("absent")))
            }
            "unknown" => Reply::error(404, Some(&request.id), &RpcError::method_not_found("unknown")),
            _ => message("{}"),
        }
    }

    fn note(&self, what: String) {
        self.asked.lock().push(what);
    }
}

fn name<'a>(envelope: &'a Envelope<'_>) -> &'a str {
    match &envelope.kind {
        Kind::Request(request) => &request.method,
        Kind::Notification(notification) => &notification.method,
        Kind::Response(_) => "response",
    }
}

impl Owner for Script {
    fn server_at(&self, path: &str) -> Option<ServerId> {
        ["/mcp", "/second"].iter().position(|known| *known == path).map(ServerId)
    }

    fn modern<'a>(
        &'a self,
        caller: Caller<'a>,
        request: &'a Envelope<'a>,
        _meta: &'a Modern<'a>,
        headers: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply> {
        self.note(format!("modern {} at {} by {}", name(request), caller.server.0, caller.principal));
        self.run(request, Some(headers)).boxed()
    }

    fn initialize<'a>(&'a self, _caller: Caller<'a>, request: &'a Envelope<'a>) -> BoxFuture<'a, Reply> {
        self.note("initialize".into());
        async move {
            let mut reply = self.run(request, None).await;
            if let Reply::Message { session, .. } = &mut reply {
                *session = Some(super::keys().mint(Slot::new(5).expect("a slot"), [9; 16]));
            }
            reply
        }
        .boxed()
    }

    fn legacy<'a>(&'a self, _caller: Caller<'a>, _session: SessionId, message: Legacy<'a>) -> BoxFuture<'a, Reply> {
        match message {
            Legacy::One { envelope, version, .. } => {
                self.note(format!("legacy {} {}", name(envelope), version.unwrap_or("-")));
                self.run(envelope, None).boxed()
            }
            Legacy::Batch(text) => {
                self.note(format!("batch {text}"));
                futures::future::ready(Reply::Accepted).boxed()
            }
        }
    }

    fn open_stream<'a>(
        &'a self,
        _caller: Caller<'a>,
        _session: SessionId,
        last_event_id: Option<&'a str>,
    ) -> BoxFuture<'a, Reply> {
        self.note(format!("open_stream {}", last_event_id.unwrap_or("-")));
        let reply = match last_event_id {
            None => self.open(stream::Kind::Resumable { priming: true }),
            Some(event) => {
                let event = EventId::parse(event).expect("an event id");
                let stream = self.streams.lock().get(usize::try_from(event.stream).expect("small")).cloned();
                match stream.and_then(|stream| stream.attach(Some(event.seq))) {
                    Some(stream) => Reply::Events { stream, session: None },
                    None => Reply::Status(404),
                }
            }
        };
        futures::future::ready(reply).boxed()
    }

    fn end<'a>(&'a self, _caller: Caller<'a>, _session: SessionId) -> BoxFuture<'a, Reply> {
        self.note("end".into());
        futures::future::ready(Reply::Status(200)).boxed()
    }
}
