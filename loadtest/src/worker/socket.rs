//! The session of a client on a WebSocket: its requests wait for their answers on the one connection, and for a new
//! connection where that one has broken.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::time::sleep;

use super::requests::Failed;
use super::shared::Shared;
use crate::address::Target;
use crate::http::frames;
use crate::outcome::{self, Outcome};
use crate::wire::{self, Ask, Asker, INITIALIZED};

/// How often a request looks whether its socket is open again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The member of a result in which the gateway says the session's id.
const SESSION: &str = "io.enfilade/session";
/// 16 bytes in Base64. It protects from caches that answer what they do not understand; there are none here.
const KEY: &str = "ZW5maWxhZGUtbG9hZHRlcw==";

#[derive(Default)]
pub(super) struct Socket {
    /// Empty until it is known.
    id: RefCell<Rc<str>>,
    stream: RefCell<Option<Rc<TcpStream>>>,
    waiting: RefCell<Vec<(u64, oneshot::Sender<Vec<u8>>)>>,
    /// Held while a frame is written, which others must not come between.
    writing: Mutex<()>,
}

impl Socket {
    pub(super) fn id(&self) -> Rc<str> {
        Rc::clone(&self.id.borrow())
    }

    /// The request that opens it, with its session where it has one.
    pub(super) fn upgrade(&self, target: &Target) -> Vec<u8> {
        let id = self.id();
        wire::upgrade(target, (!id.is_empty()).then_some(&id), KEY)
    }

    pub(super) fn opened(&self, stream: Rc<TcpStream>) {
        *self.stream.borrow_mut() = Some(stream);
    }

    /// Whoever waits for an answer will not get one.
    pub(super) fn closed(&self) {
        *self.stream.borrow_mut() = None;
        *self.waiting.borrow_mut() = Vec::new();
    }

    /// Opens the session, and subscribes. Somebody has to read meanwhile.
    pub(super) async fn set_up(&self, shared: &Shared, uri: Option<&str>) -> Result<(), Failed> {
        let id = shared.id();
        let answer = self.ask(&Ask::initialize(), id).await?;
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        match (outcome::of_answer(id, &said, None), said["result"]["_meta"][SESSION].as_str()) {
            (Outcome::Ok, Some(session)) => *self.id.borrow_mut() = session.into(),
            (Outcome::Ok, None) => return Err((Outcome::Wrong, "no session id".to_owned())),
            (Outcome::Error, _) if outcome::says_again(&said) => {
                return Err((Outcome::Refused, format!("initialize: {said}")));
            }
            (other, _) => return Err((other, format!("initialize: {said}"))),
        }
        self.send(INITIALIZED).await.map_err(|error| (Outcome::Unknown, error.to_string()))?;
        let Some(uri) = uri else { return Ok(()) };
        let id = shared.id();
        let answer = self.ask(&Ask::of_resource("resources/subscribe", uri), id).await?;
        let said: Value = serde_json::from_slice(&answer).unwrap_or_default();
        match outcome::of_answer(id, &said, None) {
            Outcome::Ok => Ok(()),
            other => Err((other, format!("resources/subscribe: {said}"))),
        }
    }

    /// Sends a request, once the socket is open, and waits for its answer for as long as the socket is.
    pub(super) async fn ask(&self, ask: &Ask, id: u64) -> Result<Vec<u8>, Failed> {
        while self.stream.borrow().is_none() {
            sleep(LOOK_EVERY).await;
        }
        let (answers, answer) = oneshot::channel();
        self.waiting.borrow_mut().push((id, answers));
        // Whose it is the socket knows.
        let sent = self.send(&ask.message(Asker::Nobody, id)).await;
        sent.map_err(|error| (Outcome::Unknown, format!("socket: {error}")))?;
        answer.await.map_err(|_| (Outcome::Unknown, "the socket was closed before the answer".to_owned()))
    }

    /// Takes a message if it is an answer that somebody waits for.
    pub(super) fn answered(&self, message: &[u8]) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return false;
        }
        let Some(id) = serde_json::from_slice::<Value>(message).ok().and_then(|said| said["id"].as_u64()) else {
            return false;
        };
        let Some(index) = waiting.iter().position(|(waits, _)| *waits == id) else { return false };
        let (_, answers) = waiting.swap_remove(index);
        if waiting.is_empty() {
            *waiting = Vec::new();
        }
        // Somebody who has given up does not hear it.
        let _ = answers.send(message.to_vec());
        true
    }

    /// Answers a ping, unless a frame is being written; false when there is no room for that, which means that the other
    /// side does not read.
    pub(super) fn pong(&self, payload: &[u8]) -> bool {
        let Ok(_writing) = self.writing.try_lock() else { return true };
        let frame = frames::pong(payload, rand::random());
        let stream = self.stream.borrow();
        stream.as_ref().is_some_and(|stream| stream.try_write(&frame).is_ok_and(|length| length == frame.len()))
    }

    async fn send(&self, message: &str) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        let Some(stream) = self.stream.borrow().clone() else { return Err(io::ErrorKind::NotConnected.into()) };
        let frame = frames::text(message.as_bytes(), rand::random());
        let mut rest = &frame[..];
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
