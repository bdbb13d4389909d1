//! One request of a client at any node, from when it was due to its outcome.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::sessions::Client;
use super::shared::Shared;
use crate::address::Target;
use crate::http::{Answer, Connection, Fault, Head};
use crate::outcome::{self, Outcome, REFUSALS};
use crate::tally::Operation;
use crate::wire::{Ask, Asker};

/// Nodes that are tried before nobody takes the connection.
const NODES_TRIED: usize = 6;
/// A session that was not served is asked again this often, and for this long.
const AGAIN_EVERY: Duration = Duration::from_millis(250);
const AGAIN_FOR: Duration = Duration::from_secs(60);
/// Sessions that are asked at a time until they are served again; more say nothing new.
const RECOVERING_MAX: u64 = 256;

/// An outcome that is not good, and why.
pub(super) type Failed = (Outcome, String);

impl Shared {
    /// Sends what `request` writes for a node, to one that takes the connection, and reads the whole answer.
    pub(super) async fn send(&self, request: impl Fn(&Target) -> Vec<u8>) -> Result<Answer, Failed> {
        let mut last = String::new();
        for _ in 0..NODES_TRIED {
            let target = self.targets.any();
            let mut connection = match self.pool.take(target.address) {
                Some(connection) => connection,
                None => match Connection::open(target.address, self.source).await {
                    Ok(connection) => connection,
                    Err(fault) => {
                        self.targets.refused(target.address);
                        last = format!("{}: {fault}", target.host);
                        continue;
                    }
                },
            };
            return match connection.ask(&request(&target)).await {
                Ok(answer) => {
                    if answer.head.keeps {
                        self.pool.put(target.address, connection, self.idle_max());
                    }
                    Ok(answer)
                }
                Err(fault @ Fault::NotHttp) => Err((Outcome::Wrong, format!("{}: {fault}", target.host))),
                Err(fault) => Err((Outcome::Unknown, format!("{}: {fault}", target.host))),
            };
        }
        Err((Outcome::Unreached, last))
    }

    /// Asks and reads the answer as JSON-RPC; `text` is what a tool must give back.
    pub(super) async fn ask(&self, client: &Client, ask: &Ask, text: Option<&str>) -> Result<(), Failed> {
        let id = self.id();
        let asked = async {
            match client {
                Client::Legacy(session) => self.posted(ask, Asker::Session(session), id).await,
                Client::Modern => self.posted(ask, Asker::Modern, id).await,
                Client::Socket(socket) => socket.ask(ask, id).await,
            }
        };
        let answer = timeout(self.scenario.calls.patience, asked).await;
        let answer = answer.map_err(|_| (Outcome::Silent, "no answer".to_owned()))??;
        // What is no JSON has no id, and is a wrong answer.
        let said = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
        match outcome::of_answer(id, &said, text) {
            Outcome::Ok => Ok(()),
            Outcome::Error if matches!(client, Client::Socket(_)) && outcome::says_again(&said) => {
                Err((Outcome::Refused, shown(&answer)))
            }
            other => Err((other, shown(&answer))),
        }
    }

    /// Over HTTP: the body of a good answer.
    async fn posted(&self, ask: &Ask, asker: Asker<'_>, id: u64) -> Result<Vec<u8>, Failed> {
        let answer = self.send(|target| ask.post(target, asker, id)).await?;
        let Head { status, says_when, .. } = answer.head;
        match outcome::of_status(status, says_when, matches!(asker, Asker::Session(_))) {
            Some(outcome) => Err((outcome, format!("{status} {}", shown(&answer.body)))),
            None => Ok(answer.body),
        }
    }

    /// The whole of an operation that was offered: its outcome is counted, and a session that was not served is asked
    /// again until it is.
    pub(super) async fn perform(
        self: Rc<Self>,
        operation: Operation,
        due: Instant,
        client: Client,
        ask: Ask,
        text: Option<String>,
    ) {
        match self.ask(&client, &ask, text.as_deref()).await {
            Ok(()) => self.end(operation, due, Outcome::Ok, ""),
            Err((outcome, why)) => {
                self.end(operation, due, outcome, &why);
                let not_served = REFUSALS.contains(&outcome) || matches!(outcome, Outcome::Unknown | Outcome::Silent);
                // Where nothing breaks a refusal is not a session that is away, and to ask again would be more load.
                if not_served && client.id().is_some() && !self.scenario.faults.is_empty() {
                    spawn_local(self.recover(client, due));
                }
            }
        }
    }

    /// Asks a session until it is served again; the time counts from when it was not.
    async fn recover(self: Rc<Self>, client: Client, since: Instant) {
        if self.recovering.get() >= RECOVERING_MAX {
            return;
        }
        self.recovering.set(self.recovering.get() + 1);
        self.offer(Operation::Recover, since);
        let mut last = (Outcome::Silent, String::new());
        while since.elapsed() < AGAIN_FOR && !self.ending.get() {
            match self.ask(&client, &Ask::plain("ping"), None).await {
                Ok(()) => {
                    last = (Outcome::Ok, String::new());
                    break;
                }
                Err(failed) => last = failed,
            }
            if last.0 == Outcome::Lost {
                break;
            }
            sleep(AGAIN_EVERY).await;
        }
        self.end(Operation::Recover, since, last.0, &last.1);
        self.recovering.set(self.recovering.get() - 1);
    }
}

/// The beginning of an answer, for an example.
pub(super) fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}
