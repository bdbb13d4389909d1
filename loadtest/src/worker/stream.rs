//! A stream that is held: opened, read without a buffer of its own, and opened again at another node when it breaks.
//! An idle one is a socket, a session id and a task of less than a kilobyte.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::requests::{Failed, shown};
use super::sessions::{Client, Kind};
use super::shared::Shared;
use crate::http::frames::{Frame, Frames};
use crate::http::{Body, Connection, Events, Fault, Head, Line};
use crate::outcome::{self, Outcome};
use crate::tally::Operation;
use crate::wire::{self, Ask, Asker, UPDATED};

const SCRATCH_BYTES: usize = 16 << 10;
/// The head of a stream must come within this time; a node holds a request for at most ten seconds.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// The reason why it does not come is part of the same answer.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to open a stream again: half of this to all of it.
const AGAIN: Duration = Duration::from_millis(400);
/// A stream that cannot be opened for this long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

thread_local! {
    /// All streams of a worker are read into it, one after the other.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// What the body of an answer says that is no stream.
async fn explanation(connection: &mut Connection, head: Head, rest: Vec<u8>) -> String {
    if head.is_events {
        return "events".to_owned();
    }
    match timeout(EXPLAINED_WITHIN, connection.answer(head, rest)).await {
        Ok(Ok(answer)) => shown(&answer.body),
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => "no body".to_owned(),
    }
}

/// A client and its stream.
pub(super) struct Holding {
    shared: Rc<Shared>,
    client: Client,
    /// It hears of the scenario's resource.
    subscribes: bool,
    last_event: Option<Box<str>>,
    /// When the newest announcement was due that it heard.
    heard: Option<Instant>,
    open: Option<Open>,
}

/// An open stream.
struct Open {
    socket: Rc<TcpStream>,
    reader: Reader,
}

/// What of a stream has been read.
enum Reader {
    Events(Body, Events),
    Frames(Frames),
}

/// A stream that counts as open.
struct Counted {
    shared: Rc<Shared>,
    kind: Kind,
    subscribes: bool,
}

impl Counted {
    fn new(shared: &Rc<Shared>, kind: Kind, subscribes: bool) -> Counted {
        shared.stream_opened(kind, subscribes, 1);
        Counted { shared: Rc::clone(shared), kind, subscribes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.stream_opened(self.kind, self.subscribes, -1);
    }
}

impl Holding {
    pub(super) fn new(shared: Rc<Shared>, client: Client, subscribes: bool) -> Holding {
        Holding { shared, client, subscribes, last_event: None, heard: None, open: None }
    }

    /// The resource that it hears of.
    fn uri(&self) -> Option<&str> {
        self.subscribes.then_some(self.shared.scenario.subscribe.uri.as_str())
    }

    /// Holds the stream until the test ends, or it cannot be opened any more.
    pub(super) async fn hold(mut self) {
        while !self.shared.ending.get() {
            if self.open.is_some() {
                // Taken back also when this task is ended from outside.
                let counted = Counted::new(&self.shared, self.client.kind(), self.subscribes);
                self.read().await;
                drop(counted);
            }
            // On the heap, so that an idle stream does not keep the room for it.
            if self.shared.ending.get() || !Box::pin(self.open_again()).await {
                return;
            }
        }
    }

    /// Opens it again somewhere, and counts how long that took. False when it is gone for good.
    async fn open_again(&mut self) -> bool {
        let since = Instant::now();
        self.shared.offer(Operation::Reopen, since);
        let mut last;
        loop {
            match self.open().await {
                Ok(()) => {
                    self.shared.end(Operation::Reopen, since, Outcome::Ok, "");
                    return true;
                }
                Err(failed) => last = failed,
            }
            let given_up = since.elapsed() > GIVE_UP_AFTER || self.shared.ending.get();
            if last.0 == Outcome::Lost || given_up {
                self.shared.end(Operation::Reopen, since, last.0, &last.1);
                return false;
            }
            sleep(AGAIN.mul_f64(rand::rng().random_range(0.5..1.0))).await;
        }
    }

    /// Opens it at any node; goes on behind the last event where that is known.
    pub(super) async fn open(&mut self) -> Result<(), Failed> {
        let target = self.shared.targets.any();
        let mut connection = Connection::open(target.address, self.shared.source).await.map_err(|fault| {
            self.shared.targets.refused(target.address);
            (Outcome::Unreached, format!("{}: {fault}", target.host))
        })?;
        let request = match &self.client {
            Client::Legacy(session) => wire::get(&target, session, self.last_event.as_deref()),
            Client::Modern => Ask::listen(self.uri()).post(&target, Asker::Modern, self.shared.id()),
            Client::Socket(socket) => socket.upgrade(&target),
        };
        let head = timeout(HEAD_WITHIN, connection.head(&request)).await;
        let (head, rest) = match head {
            Ok(Ok(head)) => head,
            Ok(Err(fault @ Fault::NotHttp)) => return Err((Outcome::Wrong, fault.to_string())),
            Ok(Err(fault)) => return Err((Outcome::Unknown, format!("{}: {fault}", target.host))),
            Err(_) => return Err((Outcome::Silent, format!("{}: no head of a stream", target.host))),
        };
        if let Err((outcome, why)) = self.begins(&target.host, &head) {
            return Err((outcome, format!("{why}: {}", explanation(&mut connection, head, rest).await)));
        }
        let socket = Rc::new(connection.into_stream());
        let reader = match &self.client {
            Client::Socket(own) => {
                own.opened(Rc::clone(&socket));
                Reader::Frames(Frames::default())
            }
            _ => Reader::Events(head.body, Events::default()),
        };
        self.open = Some(Open { socket, reader });
        self.take(&rest);
        self.set_up().await
    }

    /// The head is that of a stream.
    fn begins(&mut self, host: &str, head: &Head) -> Result<(), Failed> {
        let status = head.status;
        if status == 400 && self.last_event.take().is_some() {
            // What came after that event is not kept any more: the stream begins anew.
            return Err((Outcome::Error, "the last event is not known any more".to_owned()));
        }
        let is_good = match &self.client {
            Client::Socket(_) => status == 101,
            _ => head.is_events && status == 200,
        };
        let in_session = self.client.id().is_some_and(|id| !id.is_empty());
        match outcome::of_status(status, head.says_when, in_session) {
            _ if is_good => Ok(()),
            Some(outcome) => Err((outcome, format!("{host}: {status} for a stream"))),
            None => Err((Outcome::Wrong, format!("{host}: {status}, and no stream"))),
        }
    }

    /// What has to be said on a new WebSocket: it opens its session there.
    async fn set_up(&mut self) -> Result<(), Failed> {
        let Client::Socket(socket) = &self.client else { return Ok(()) };
        if !socket.id().is_empty() {
            return Ok(());
        }
        let (socket, shared) = (Rc::clone(socket), Rc::clone(&self.shared));
        let uri = self.uri().map(str::to_owned);
        let set_up = timeout(HEAD_WITHIN, socket.set_up(&shared, uri.as_deref()));
        tokio::select! {
            done = set_up => done.map_err(|_| (Outcome::Silent, "a session does not open".to_owned()))?,
            () = self.read() => Err((Outcome::Unknown, "the socket was closed".to_owned())),
        }
    }

    /// Reads until it ends or breaks.
    async fn read(&mut self) {
        loop {
            let Some(socket) = self.open.as_ref().map(|open| Rc::clone(&open.socket)) else { return };
            if socket.readable().await.is_err() {
                break;
            }
            let is_open = SCRATCH.with_borrow_mut(|scratch| match socket.try_read(scratch) {
                Ok(0) => false,
                Ok(length) => self.take(&scratch[..length]),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            });
            if !is_open {
                break;
            }
        }
        self.open = None;
        if let Client::Socket(socket) = &self.client {
            socket.closed();
        }
    }

    /// Takes what came; false when the stream has ended.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let Holding { shared, client, last_event, heard, open, .. } = self;
        match (open.as_mut().map(|open| &mut open.reader), client) {
            (Some(Reader::Events(body, events)), _) => {
                let read = body.read(bytes, |bytes| {
                    events.read(bytes, |line| match line {
                        Line::Id(id) => *last_event = Some(id.into()),
                        Line::Data(data) => shared.heard(data, heard),
                        Line::Retry(_) => {}
                    });
                });
                read.is_ok() && !body.has_ended()
            }
            (Some(Reader::Frames(frames)), Client::Socket(socket)) => {
                let mut is_open = true;
                let read = frames.read(bytes, |frame| match frame {
                    Frame::Text(text) if !socket.answered(text) => shared.heard(text, heard),
                    Frame::Text(_) => {}
                    Frame::Ping(payload) => is_open &= socket.pong(payload),
                    Frame::Close(_) => is_open = false,
                });
                read.is_ok() && is_open
            }
            _ => false,
        }
    }
}

impl Shared {
    /// A message came that answers nothing. A notice is that of the newest announcement, if its stream has not heard of
    /// that yet; its time counts from when the announcement was due.
    fn heard(&self, message: &[u8], last: &mut Option<Instant>) {
        let says = |text: &str| memchr::memmem::find(message, text.as_bytes()).is_some();
        if !(says(UPDATED) && says(&self.scenario.subscribe.uri)) {
            return;
        }
        // Not what a timer has set: a notice may be quicker than the timer of this worker.
        match self.announcements.get().and_then(|due| due.newest(Instant::now())) {
            Some(due) if *last != Some(due) => {
                *last = Some(due);
                self.end(Operation::Deliver, due, Outcome::Ok, "");
            }
            _ => self.end(Operation::Extra, Instant::now(), Outcome::Ok, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, unix_ms};
    use crate::scenario::Scenario;

    /// What a task of tokio takes besides.
    const TASK_BYTES: usize = 128;

    #[tokio::test]
    async fn an_idle_stream_takes_less_than_a_kilobyte() {
        let scenario = Scenario::parse(include_str!("../../scenarios/local.toml")).expect("a scenario");
        let urls = ["http://127.0.0.1:9/mcp".to_owned()];
        let shared = Shared::new(scenario, Clock::starting_at(unix_ms()), 0, 1, &urls, None).await.expect("shared");
        let id: Rc<str> = "x".repeat(60).into();
        let holding = Holding::new(shared, Client::Legacy(id), true).hold();
        let bytes = size_of_val(&holding) + TASK_BYTES;
        assert!(bytes < 768, "{bytes}");
    }
}
