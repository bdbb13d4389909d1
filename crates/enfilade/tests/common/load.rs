//! Clients that call in a loop until told to stop, and a record of every call.

use super::LIMIT;
use super::client::{Client, Kind, text_of};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// A number that goes up, and can be waited for.
#[derive(Default)]
pub(crate) struct Tally {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Tally {
    pub(crate) fn add(&self) {
        *self.count.lock().expect("no panic") += 1;
        self.changed.notify_all();
    }

    pub(crate) fn count(&self) -> u64 {
        *self.count.lock().expect("no panic")
    }

    /// Waits until it has reached `count`.
    pub(crate) fn wait(&self, what: &str, count: u64) {
        let guard = self.count.lock().expect("no panic");
        let (now, _) = self.changed.wait_timeout_while(guard, LIMIT, |now| *now < count).expect("no panic");
        assert!(*now >= count, "{what}: {} of {count}", *now);
    }
}

/// One call.
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// The whole answer when it was not the expected one.
    pub(crate) wrong: Option<Value>,
}

/// The clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<Tally>, JoinHandle<Vec<Record>>)>,
}

impl Load {
    /// Starts `each` clients of either era; each calls `echo` of these upstreams in turn. A prefix ends in `__`, or is
    /// empty where there is one upstream.
    pub(crate) fn start(url: &str, each: usize, prefixes: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kinds = [Kind::Legacy, Kind::Modern].into_iter().flat_map(|kind| std::iter::repeat_n(kind, each));
        let start = |kind| {
            // Opened before anything happens: what becomes of sessions is the question.
            let client = Client::new(kind, url);
            let (good, stop) = (Arc::new(Tally::default()), stop.clone());
            let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
            let tally = good.clone();
            (good, std::thread::spawn(move || run(client, prefixes, &tally, &stop)))
        };
        let clients = kinds.map(start).collect();
        Self { stop, clients }
    }

    /// Waits until every client has got `more` good answers.
    pub(crate) fn proceed(&self, what: &str, more: u64) {
        let goals: Vec<_> = self.clients.iter().map(|(good, _)| (good, good.count() + more)).collect();
        goals.into_iter().for_each(|(good, goal)| good.wait(what, goal));
    }

    /// Ends it, and gives all calls. A client that saw anything but HTTP 200 makes this panic.
    pub(crate) fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|(_, client)| client.join().expect("every answer was HTTP 200")).collect()
    }
}

fn run(mut client: Client, prefixes: Vec<String>, good: &Tally, stop: &AtomicBool) -> Vec<Record> {
    let mut records = Vec::new();
    for (number, prefix) in prefixes.iter().cycle().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (began, text) = (Instant::now(), format!("call {number} of {prefix}"));
        let answer = client.call(&format!("{prefix}echo"), json!({"text": text}));
        let wrong = (text_of(&answer) != Some(&text)).then_some(answer);
        if wrong.is_none() {
            good.add();
        }
        records.push(Record { began, ended: Instant::now(), wrong });
    }
    records
}
