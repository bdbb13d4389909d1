//! A legacy server whose calls a test answers, and a world of it under slots and a second copy that do what the test says.

#![allow(dead_code, unreachable_pub, reason = "a module of the tests that use it")]

use crate::common::{Client, World, events as events_of, upstream, value, within};
use crate::scripted::*;
use enfilade_session::config::{Limits, PrefixChoice};
use enfilade_session::copy::Copies;
use enfilade_session::slots::Slots;
use enfilade_session::stream::{Event, EventStream};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

pub const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{},"_meta":{"progressToken":"p"}}}"#;

pub fn quick() -> Limits {
    Limits { health_interval_ms: 60_000, list_wait_ms: 200, ..Limits::default() }
}

/// A legacy server whose calls are answered by the test; it notes what it is asked.
pub struct Server {
    pub server: Scripted,
    pub calls: mpsc::Receiver<(Value, mpsc::Sender<Value>)>,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start() -> Self {
        let (sender, calls) = mpsc::channel(8);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = asked.clone();
        let server = Scripted::start(move |request| {
            let what = if request.verb == "POST" { request.method() } else { &request.verb };
            noted.lock().unwrap().push(what.to_owned());
            match (request.verb.as_str(), request.method()) {
                ("GET", _) => Say::Status(405),
                (_, "initialize") => initialized(request, json!({"tools": {"listChanged": true}, "logging": {}})),
                (_, "tools/list") => request.result(json!({"tools": [
                    {"name": "t", "inputSchema": {"type": "object"}},
                    {"name": "r", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}}]})),
                (_, "tools/call") => {
                    let (events, say) = events();
                    sender.try_send((request.body.clone(), events)).unwrap();
                    say
                }
                (_, "ping" | "logging/setLevel") => request.result(json!({})),
                _ => Say::Status(202),
            }
        })
        .await;
        Self { server, calls, asked }
    }

    pub fn config(&self) -> enfilade_upstream::Config {
        upstream("one", &self.server.url)
    }

    pub async fn call(&mut self) -> Running {
        let (body, events) = within(self.calls.recv()).await.unwrap();
        Running { body, events }
    }

    pub fn heard(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }
}

pub struct Running {
    pub body: Value,
    pub events: mpsc::Sender<Value>,
}

impl Running {
    pub async fn progress(&self, progress: u64) {
        let token = &self.body["params"]["_meta"]["progressToken"];
        let params = json!({"progressToken": token, "progress": progress});
        self.events.send(notification("notifications/progress", params)).await.unwrap();
    }

    pub async fn answer(&self, text: &str) {
        let result = json!({"content": [{"type": "text", "text": text}]});
        let answer = json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result});
        // The gateway may have gone away by now.
        let _ = self.events.send(answer).await;
    }
}

pub fn world(server: &Server, slots: Arc<dyn Slots>, copies: Arc<dyn Copies>) -> World {
    World::among(vec![server.config()], PrefixChoice::Always, quick(), slots, copies)
}

pub async fn event(stream: &mut EventStream) -> Event {
    within(stream.next()).await.expect("the stream ended")
}

pub fn text(event: &Event) -> Value {
    value(std::str::from_utf8(&event.data).unwrap())
}

/// A call that said `progress` things and is not answered; what the client read of it.
pub async fn half_a_call(client: &Client<'_>, server: &mut Server, progress: u64) -> (Vec<Event>, Running) {
    let (reply, running) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        for step in 1..=progress {
            running.progress(step).await;
        }
        running
    });
    let mut stream = events_of(reply);
    let mut read = Vec::new();
    // One of them is left unread; the first is the priming event.
    while read.len() < usize::try_from(progress).unwrap() {
        read.push(event(&mut stream).await);
    }
    (read, running)
}
