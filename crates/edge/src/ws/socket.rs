//! One open WebSocket: reads messages, runs them at the same time, and writes what is said.
//!
//! Rule: a stream is asked for its next message only when the socket has taken the one before, so a slow client is bounded
//! as the reader of server-sent events is. Dropping it cancels modern requests; a session stays, to be gone on with.

use super::ask::{Ask, Message, Said, SessionOf};
use super::hearing::Hearing;
use super::meter::Meter;
use super::outgoing::Outgoing;
use super::token;
use crate::connection::Edge;
use crate::stop::Watch;
use crate::ticket::Reason;
use bytes::Bytes;
use enfilade_registry::SessionId;
use enfilade_runtime::Permit;
use enfilade_session::owner::ServerId;
use futures::stream::{FuturesUnordered, SelectAll};
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame, error::ProtocolError};

/// How often a client is asked for a sign of life; one that gave none until the next time is gone.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Requests of one connection at a time; a further one is refused. As many as calls of one session.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Messages of all kinds at a time, answers that wait for the client among them; no further one is read.
const MESSAGES_MAX: usize = 2 * REQUESTS_MAX;
/// Steps after which other tasks have their turn.
const STEPS_MAX: usize = 64;

const STOPPING: &str = "This node is being stopped; connect again, to any node";
const UNHEARD: &str = "The session's stream has ended or is read elsewhere; connect again";
const FULL: &str = "Too many requests in flight on this connection; try again";

/// What a connection begins with.
#[derive(Default)]
pub(crate) struct Start {
    pub(crate) session: Option<SessionId>,
    pub(crate) general: Option<Hearing>,
    pub(crate) calls: Vec<Hearing>,
    /// Messages that come first.
    pub(crate) told: Vec<Bytes>,
}

/// Why a connection ends.
pub(super) enum End {
    /// The client is gone.
    Gone,
    /// It was closed in order.
    Closed,
    /// It is closed with a code (RFC 6455, section 7.4).
    Close(CloseCode, &'static str),
    /// It goes on with a new buffer.
    Renew,
}

/// One connection.
pub(crate) struct Socket<S> {
    edge: Arc<Edge>,
    server: ServerId,
    ws: WebSocketStream<Meter<S>>,
    session: SessionOf,
    general: Option<Hearing>,
    /// Nothing while the connection is idle.
    work: Option<Box<Work>>,
    out: Option<Outgoing>,
    timer: Pin<Box<Sleep>>,
    /// A ping is to be sent, or was.
    ping: Ping,
    stopping: Watch,
    /// Why it takes no more requests, and ends once the last one is answered; and what ends it at once then.
    leaving: Option<(&'static str, Watch)>,
    /// The socket takes nothing more for now.
    blocked: bool,
    /// The client has begun to close.
    closing: bool,
    /// Counts as open.
    _counts: Option<Permit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ping {
    None,
    Due,
    Sent,
}

/// What is under way.
#[derive(Default)]
struct Work {
    asks: FuturesUnordered<Ask>,
    answers: VecDeque<Bytes>,
    streams: SelectAll<Hearing>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.asks.is_empty() && self.answers.is_empty() && self.streams.is_empty()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) fn new(edge: Arc<Edge>, server: ServerId, ws: WebSocketStream<Meter<S>>, start: Start) -> Self {
        let mut work = Work::default();
        work.answers.extend(start.told);
        work.streams.extend(start.calls);
        Self {
            server,
            ws,
            session: start.session.map_or(SessionOf::None, SessionOf::Open),
            general: start.general,
            work: (!work.is_empty()).then(|| Box::new(work)),
            out: None,
            timer: Box::pin(tokio::time::sleep(PING_INTERVAL)),
            ping: Ping::None,
            stopping: edge.stopping.watch(),
            leaving: None,
            blocked: false,
            closing: false,
            _counts: edge.figures.websockets.enter(),
            edge,
        }
    }

    /// Goes on with a new library's object in front of the same socket.
    pub(super) async fn renewed(self, config: fn(&Edge) -> WebSocketConfig) -> Self {
        let config = config(&self.edge);
        let meter = self.ws.into_inner().renewed();
        Self { ws: WebSocketStream::from_raw_socket(meter, Role::Server, Some(config)).await, ..self }
    }

    /// Ends everything that hangs on the connection.
    pub(super) fn into_inner(self) -> WebSocketStream<Meter<S>> {
        self.ws
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..STEPS_MAX {
            match self.step(context) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when there may be more to do at once.
    fn step(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        self.look_at_the_time(context)?;
        if self.leaving.is_none() && self.stopping.poll(context) {
            self.leave(STOPPING);
        }
        if self.leaving.as_mut().is_some_and(|(_, abort)| abort.poll(context)) {
            return Err(End::Close(CloseCode::Away, "This node ends"));
        }
        self.hear_asks(context);
        self.blocked = !self.write(context)?;
        if self.blocked {
            // A client that takes nothing is not read either: what it sends may have to be answered, pings for one.
            return Ok(Poll::Pending);
        }
        if let Some((why, _)) = self.leaving
            && self.is_quiet()
        {
            return Err(End::Close(CloseCode::Restart, why));
        }
        if self.work.as_ref().is_some_and(|work| work.is_empty()) {
            self.work = None;
        }
        self.read(context)
    }

    /// Takes no more requests, and closes when those that are there are answered.
    fn leave(&mut self, why: &'static str) {
        if self.leaving.is_none() {
            self.leaving = Some((why, self.edge.abort.watch()));
        }
    }

    /// Nobody waits for an answer.
    fn is_quiet(&self) -> bool {
        let work = self.work.as_ref();
        work.is_none_or(|work| work.asks.is_empty() && !work.streams.iter().any(Hearing::is_call))
    }

    /// Asks the client for a sign of life from time to time, and ends with one that gives none.
    fn look_at_the_time(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        while self.timer.poll_unpin(context).is_ready() {
            self.timer.as_mut().reset(Instant::now() + PING_INTERVAL);
            let meter = self.ws.get_mut();
            let (heard, taken) = (meter.was_heard(), meter.has_taken());
            // What stands behind that which is still being taken cannot have been answered, nor is the client read then.
            let excused = taken && (self.ping == Ping::Due || self.blocked);
            if !heard && self.ping != Ping::None && !excused {
                return Err(End::Close(CloseCode::Error, "No pong came"));
            }
            if meter.pending() > Duration::from_millis(self.edge.config.body_timeout_ms) {
                return Err(End::Close(CloseCode::Policy, "The message did not arrive in time"));
            }
            self.ping = Ping::Due;
        }
        Ok(())
    }

    /// Runs what was asked on.
    fn hear_asks(&mut self, context: &mut Context<'_>) {
        while let Some(work) = &mut self.work {
            let Poll::Ready(Some(said)) = work.asks.poll_next_unpin(context) else { return };
            self.hear(said, context);
        }
    }

    fn hear(&mut self, said: Said, context: &mut Context<'_>) {
        let work = self.work.get_or_insert_default();
        match said {
            Said::Nothing => {}
            Said::Text(text) => work.answers.push_back(text),
            Said::Stream(hearing) => work.streams.push(hearing),
            Said::Opened(text, None) => {
                self.session = SessionOf::None;
                work.answers.push_back(text);
            }
            Said::Opened(text, Some(session)) => {
                self.session = SessionOf::Open(session);
                work.answers.push_back(token::with_session(text, session));
                let general = Ask::general(self.edge.clone(), self.server, session);
                self.ask(general, context);
            }
            Said::General(Some(hearing)) => self.general = Some(hearing),
            Said::General(None) => self.leave(UNHEARD),
            Said::Cancel(id, text) => {
                let mine = work.asks.iter_mut().any(|ask| ask.cancel(&id))
                    || work.streams.iter_mut().any(|hearing| hearing.cancel(&id));
                if !mine {
                    self.accept(text, true, context);
                }
            }
        }
    }

    /// Begins with a message at once, so that messages begin in the order in which they came.
    fn ask(&mut self, mut ask: Ask, context: &mut Context<'_>) {
        match ask.poll_unpin(context) {
            Poll::Ready(said) => self.hear(said, context),
            Poll::Pending => {
                if ask.opens_session() {
                    self.session = SessionOf::Opening;
                }
                self.work.get_or_insert_default().asks.push(ask);
            }
        }
    }

    fn accept(&mut self, text: Bytes, is_cancel_checked: bool, context: &mut Context<'_>) {
        let full = self.work.as_ref().is_some_and(|work| work.asks.len() + work.streams.len() >= REQUESTS_MAX);
        let leaving = self.leaving.as_ref().map(|(why, _)| (Reason::Stopping, *why));
        // It was counted when it came.
        let mut ticket = (!is_cancel_checked).then(|| self.edge.figures.accounts.enter());
        let is_one_too_many = ticket.as_mut().is_some_and(|ticket| !ticket.takes(self.edge.figures.requests.enter()));
        let message = Message {
            text,
            session: self.session,
            closed_to_requests: leaving.or(full.then_some((Reason::Requests, FULL))),
            is_cancel_checked,
            is_one_too_many,
            _bytes: self.ws.get_mut().take(),
        };
        self.ask(Ask::new(self.edge.clone(), self.server, message, ticket), context);
    }

    /// Writes what there is as long as the socket takes it; true when nothing is left.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.closing {
            return Ok(true);
        }
        for _ in 0..STEPS_MAX {
            // Nothing may be left in the library's buffer, such as a pong.
            match self.ws.poll_flush_unpin(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(_)) => return Err(End::Gone),
                Poll::Ready(Ok(())) => {}
            }
            let Some(frame) = self.frame(context) else { return Ok(true) };
            if self.ws.start_send_unpin(frame).is_err() {
                return Err(End::Gone);
            }
        }
        context.waker().wake_by_ref();
        Ok(false)
    }

    fn frame(&mut self, context: &mut Context<'_>) -> Option<Frame> {
        if self.ping == Ping::Due {
            self.ping = Ping::Sent;
            return Some(Frame::Ping(Bytes::new()));
        }
        if self.out.is_none() {
            self.out = self.next(context).map(Outgoing::text);
        }
        let (frame, last) = self.out.as_mut()?.frame();
        if last {
            self.out = None;
        }
        Some(frame)
    }

    /// The next message for the client: answers, then what streams say.
    fn next(&mut self, context: &mut Context<'_>) -> Option<Bytes> {
        if let Some(work) = &mut self.work {
            if let Some(answer) = work.answers.pop_front() {
                return Some(answer);
            }
            if let Poll::Ready(Some(message)) = work.streams.poll_next_unpin(context) {
                return Some(message);
            }
        }
        match Pin::new(self.general.as_mut()?).poll_next(context) {
            Poll::Ready(Some(message)) => return Some(message),
            Poll::Ready(None) => {
                self.general = None;
                self.leave(UNHEARD);
                context.waker().wake_by_ref();
            }
            Poll::Pending => {}
        }
        None
    }

    /// Reads one message; pending when there is none, or too much is under way.
    fn read(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        let under_way = |work: &Work| work.asks.len() + work.answers.len() + work.streams.len();
        if self.work.as_deref().is_some_and(|work| under_way(work) >= MESSAGES_MAX) && !self.closing {
            return Ok(Poll::Pending);
        }
        if !self.closing && self.ws.get_ref().has_read_large() {
            return Err(End::Renew);
        }
        match self.ws.poll_next_unpin(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(None) => return Err(End::Closed),
            Poll::Ready(Some(Err(error))) => return Err(self.failed(&error)),
            Poll::Ready(Some(Ok(frame))) => match frame {
                Frame::Text(text) => self.accept(text.into(), false, context),
                Frame::Binary(_) => return Err(End::Close(CloseCode::Unsupported, "Messages are text")),
                Frame::Ping(bytes) | Frame::Pong(bytes) => self.ws.get_mut().control(bytes.len()),
                Frame::Close(_) => self.closing = true,
                Frame::Frame(_) => {}
            },
        }
        Ok(Poll::Ready(()))
    }

    /// RFC 6455, section 7.4.1.
    fn failed(&self, error: &Error) -> End {
        match error {
            Error::Capacity(_) => End::Close(CloseCode::Size, "The message is too large"),
            Error::Utf8(_) => End::Close(CloseCode::Invalid, "Text must be UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
            Error::Protocol(_) => End::Close(CloseCode::Protocol, "Not as RFC 6455 has it"),
            Error::Io(_) if self.ws.get_ref().is_overloaded() => {
                End::Close(CloseCode::Again, "Too many messages are being read; try again")
            }
            _ => End::Gone,
        }
    }
}
