//! MCP clients of the legacy era: open a session, ping, call. A call has exactly one outcome, and is sent once;
//! an answer that the gateway began as a resumable stream is fetched again where the connection broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::stream::{Reading, Stream};
use crate::web::{self, Fault, Message, To, Web};
use crate::wire::{self, Said};

/// Silence for longer than this is an outcome of its own, and a wrong one. The gateway gives up calls after a minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(75);

/// Between two attempts to fetch the rest of a stream, unless the stream said otherwise.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The result.
    Result,
    /// An error that says that nobody knows.
    Unknown,
    /// An error that says that it was not executed, or may be sent again.
    Again(String),
    /// 503 or 429: not executed.
    Refused(String),
    /// Any other error.
    Error(String),
    /// The session is not known: it is lost.
    Lost(String),
    /// The connection broke, and no revision lets a client resume this answer.
    Broken(String),
    /// The answer was a stream, of which the rest is not kept any more.
    Gone(String),
    /// No answer in time, or one to another request.
    Wrong(String),
    /// No node took it.
    NotSent(String),
}

/// A session of a client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// The node that opened it.
    pub(crate) node: usize,
}

/// Clients that share connections and the numbering of calls.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) web: Web,
    numbers: Arc<AtomicU64>,
}

impl Clients {
    pub(crate) fn new(web: Web) -> Clients {
        // Zero is the id of `initialize`.
        Clients { web, numbers: Arc::new(AtomicU64::new(1)) }
    }

    /// A number that no other call has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a session. `initialized` goes to another node, as a balancer without stickiness would have it.
    pub(crate) async fn open(&self, to: To) -> Result<Session, Outcome> {
        let message = Message::post(None, wire::initialize());
        let (node, response) = within(self.web.send(to, &message)).await?;
        let status = response.status();
        let id = web::header(&response, "mcp-session-id").map(str::to_owned);
        let body = within(web::body(response)).await?;
        if status != StatusCode::OK {
            return Err(of_status(status, &body));
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|error| Outcome::Wrong(error.to_string()))?;
        match (wire::said(0, &answer), id) {
            (Said::Result, Some(id)) => Ok(Session { id, node }),
            (Said::Result, None) => Err(Outcome::Wrong("no session id".to_owned())),
            (said, _) => Err(of_said(said)),
        }
    }

    /// Says that the session is open.
    pub(crate) async fn opened(&self, to: To, session: &Session) -> Result<(), Outcome> {
        let message = Message::post(Some(&session.id), wire::initialized());
        let (_, response) = within(self.web.send(to, &message)).await?;
        match response.status() {
            StatusCode::ACCEPTED => Ok(()),
            status => Err(of_status(status, &within(web::body(response)).await?)),
        }
    }

    /// A ping of the session: answered by its owner.
    pub(crate) async fn ping(&self, to: To, session: &Session) -> Outcome {
        let number = self.number();
        self.ask(to, session, number, wire::ping(number)).await.0
    }

    /// A call of a tool; `arguments` get the call's number.
    pub(crate) async fn call(
        &self,
        to: To,
        session: &Session,
        call: u64,
        tool: &str,
        arguments: Value,
    ) -> (Outcome, Stream) {
        self.ask(to, session, call, wire::call(call, tool, arguments)).await
    }

    async fn ask(&self, to: To, session: &Session, id: u64, body: String) -> (Outcome, Stream) {
        let mut stream = Stream::default();
        let asked = self.answer(to, session, id, body, &mut stream);
        let outcome = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(outcome) | Err(outcome)) => outcome,
            Err(_) => Outcome::Wrong(format!("silence for {ANSWER_WITHIN:?} of {id}: {}", stream.so_far(&session.id))),
        };
        (stream.garbage().map_or(outcome, Outcome::Wrong), stream)
    }

    async fn answer(
        &self,
        to: To,
        session: &Session,
        id: u64,
        body: String,
        stream: &mut Stream,
    ) -> Result<Outcome, Outcome> {
        let (node, response) = self.begin(to, session, body).await?;
        if !is_stream(&response) {
            let body = web::body(response).await?;
            let answer = serde_json::from_slice(&body).map_err(|error| Outcome::Wrong(error.to_string()))?;
            return Ok(of_said(wire::said(id, &answer)));
        }
        stream.begun_at(node);
        let broken = stream.read(response, id).await;
        if stream.answer.is_none() && stream.last.is_none() {
            return Err(Outcome::Broken(broken));
        }
        self.rest(session, node, id, stream).await
    }

    /// Sends a request; the head of its answer is good.
    pub(crate) async fn begin(
        &self,
        to: To,
        session: &Session,
        body: String,
    ) -> Result<(usize, Response<Incoming>), Outcome> {
        let (node, response) = self.web.send(to, &Message::post(Some(&session.id), body)).await?;
        match response.status() {
            StatusCode::OK => Ok((node, response)),
            status => Err(of_status(status, &web::body(response).await?)),
        }
    }

    /// Fetches the rest of a stream whose connection broke, from any node but `not`, until the answer is there.
    pub(crate) async fn rest(
        &self,
        session: &Session,
        not: usize,
        id: u64,
        stream: &mut Stream,
    ) -> Result<Outcome, Outcome> {
        let mut not = not;
        while stream.answer.is_none() {
            if let Some(node) = self.resume(session, not, id, stream).await? {
                not = node;
            }
            if stream.answer.is_none() {
                tokio::time::sleep(stream.retry.unwrap_or(RESUME_PAUSE)).await;
            }
        }
        Ok(stream.answer.as_ref().map_or(Outcome::Unknown, |answer| of_said(wire::said(id, answer))))
    }

    /// Fetches the rest of a stream from another node. None: not now.
    async fn resume(
        &self,
        session: &Session,
        not: usize,
        id: u64,
        stream: &mut Stream,
    ) -> Result<Option<usize>, Outcome> {
        let Some((node, mut reading)) = self.resumed(session, To::AnyBut(not), stream).await? else { return Ok(None) };
        stream.read_while(&mut reading, id, |_| true).await;
        Ok(Some(node))
    }

    /// The rest of a stream, where it can be had now.
    pub(crate) async fn resumed(
        &self,
        session: &Session,
        to: To,
        stream: &mut Stream,
    ) -> Result<Option<(usize, Reading)>, Outcome> {
        let last = stream.last.clone();
        let message = Message::get(&session.id, last.as_deref());
        let (node, response) = match self.web.send(to, &message).await {
            Ok(answered) => answered,
            Err(_) => return Ok(None),
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => return Ok(None),
            StatusCode::BAD_REQUEST => return Err(Outcome::Gone(text_of(&web::body(response).await?))),
            status => return Err(of_status(status, &web::body(response).await?)),
        }
        stream.resumed.get_or_insert_with(Instant::now);
        stream.begun_at(node);
        Ok(Some((node, Reading::of(response))))
    }
}

pub(crate) fn is_stream(response: &Response<Incoming>) -> bool {
    web::header(response, "content-type").is_some_and(|value| value.starts_with("text/event-stream"))
}

/// Opening takes no longer than an answer.
async fn within<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Outcome> {
    match tokio::time::timeout(ANSWER_WITHIN, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Outcome::Wrong(format!("silence for {ANSWER_WITHIN:?}"))),
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Outcome {
        match fault {
            Fault::NotSent(why) => Outcome::NotSent(why),
            Fault::Broken(why) => Outcome::Broken(why),
        }
    }
}

fn of_said(said: Said) -> Outcome {
    match said {
        Said::Result => Outcome::Result,
        Said::Unknown => Outcome::Unknown,
        Said::Again(text) => Outcome::Again(text),
        Said::Error(text) => Outcome::Error(text),
        Said::Wrong(text) => Outcome::Wrong(text),
    }
}

pub(crate) fn of_status(status: StatusCode, body: &[u8]) -> Outcome {
    let text = || format!("{status}: {}", text_of(body));
    match status {
        StatusCode::NOT_FOUND => Outcome::Lost(text()),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Outcome::Refused(text()),
        _ => Outcome::Error(text()),
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}

/// When a session was served again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// Since the failure.
    pub(crate) after: Duration,
    /// When it was asked first.
    pub(crate) asked: Duration,
    /// The first question had no good answer soon.
    pub(crate) was_hit: bool,
}

/// Pings until the session is served; returns when that was, and what came before. A session was hit if the first
/// question was not answered well within `usual`.
pub(crate) async fn until_served(
    clients: &Clients,
    session: &Session,
    since: Instant,
    usual: Duration,
    limit: Duration,
) -> (Option<Served>, Vec<Outcome>) {
    let (mut before, asked) = (Vec::new(), since.elapsed());
    loop {
        match clients.ping(To::Any, session).await {
            Outcome::Result => {
                let after = since.elapsed();
                let was_hit = !before.is_empty() || after - asked > usual;
                return (Some(Served { after, asked, was_hit }), before);
            }
            Outcome::Lost(text) => {
                before.push(Outcome::Lost(text));
                return (None, before);
            }
            other => before.push(other),
        }
        if since.elapsed() > limit {
            return (None, before);
        }
        // Nobody there at all: asking quickly only costs time that the nodes need to start.
        let pause = if matches!(before.last(), Some(Outcome::NotSent(_))) { 200 } else { 50 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
