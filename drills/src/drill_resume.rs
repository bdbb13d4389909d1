//! Acceptance 3: clients with open resumable streams while their owner is killed, with a delay between the nodes.
//! They resume on another node with `Last-Event-ID`; among 1,000 numbered events there is no gap and no double.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use rand::Rng as _;
use serde_json::json;

use crate::cli::Cli;
use crate::client::{Clients, Outcome, Session, is_stream};
use crate::delay::Wire;
use crate::drill_sessions::three;
use crate::numbered;
use crate::report::Found;
use crate::stage::Stage;
use crate::stream::{Reading, Stream};
use crate::web::To;
use crate::wire;
use crate::witness::EVENTS;

const COUNT: u64 = 1000;
const EVERY_MS: u64 = 2;
/// Clients with a stream each.
const STREAMS: usize = 10;
/// A client has read this many when its connection breaks.
const READ: usize = 300;
const DELAY: Duration = Duration::from_millis(30);
const END_WITHIN: Duration = Duration::from_secs(45);
const ALL_WITHIN: Duration = Duration::from_secs(10);

/// When the owner is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// All has been said, and the clients have not heard the rest yet.
    Said,
    /// All has been said, and the clients are reading the rest.
    Heard,
    /// In the middle of the calls: what comes after is lost with them.
    Middle,
}

/// One client.
struct Listener {
    clients: Clients,
    session: Session,
    call: u64,
    stream: Stream,
    /// The node that it reads at, or read at last.
    node: usize,
    reading: Option<Reading>,
}

pub(crate) async fn run(cli: &Cli) -> Result<Found> {
    let mut found = Found { rounds: cli.size.rounds(), ..Found::new("resume") };
    let (mut nodes, mut wires) = (three(), Vec::new());
    for node in &mut nodes {
        let wire = Wire::new(DELAY).await?;
        node.own["link_advertise"] = wire.address().to_string().into();
        wires.push(wire);
    }
    let mut stage = Stage::prepare(cli, "resume", nodes, json!({})).await?;
    stage.cluster.start_all(|index, link| wires[index].leads_to(link)).await?;
    let (sessions, _) = stage.open(100).await?;
    for number in 0..found.rounds {
        stage.balanced(&sessions).await?;
        let when = [When::Said, When::Heard, When::Middle][number as usize % 3];
        round(&mut stage, number as usize, when, &mut found).await.with_context(|| format!("round {}", number + 1))?;
    }
    let slowest = found.recover.max();
    found.limit(slowest <= ALL_WITHIN, || format!("resumed after {slowest:?} instead of {ALL_WITHIN:?}"));
    found.always();
    stage.cluster.end().await?;
    Ok(found)
}

async fn round(stage: &mut Stage, number: usize, when: When, found: &mut Found) -> Result<()> {
    let nodes = stage.cluster.running();
    let owner = nodes[number % nodes.len()];
    let clients = &stage.clients;
    let mut listeners = try_join_all((0..STREAMS).map(|_| Listener::begin(clients, owner))).await?;
    if when != When::Middle {
        // The rest is said while nobody listens.
        tokio::time::sleep(Duration::from_millis(COUNT * EVERY_MS * 2)).await;
    }
    if when == When::Heard {
        try_join_all(listeners.iter_mut().map(|listener| listener.hear_more(owner))).await?;
    }
    let killed = stage.cluster.kill(&[owner]).await?;
    let outcomes = join_all(listeners.iter_mut().map(Listener::hear_rest)).await;
    let mut ends = Vec::new();
    for (listener, outcome) in listeners.iter().zip(outcomes) {
        if let Some(resumed) = listener.stream.resumed {
            found.recover.add(resumed.saturating_duration_since(killed));
        }
        ends.push(format!("{} {}", judge(found, when, listener, &outcome), short(&outcome)));
    }
    found.notes.push(format!("{when:?}: events heard, and the end: {}", ends.join(", ")));
    stage.cluster.start_nodes(&[owner]).await?;
    Ok(())
}

impl Listener {
    /// Reads the first events at a node other than the owner, where there is one, and breaks off.
    async fn begin(clients: &Clients, owner: usize) -> Result<Listener> {
        // A node that owns slots keeps the sessions that are opened at it.
        let session = clients.open(To::Only(owner)).await.map_err(|why| anyhow::anyhow!("{why:?}"))?;
        clients.opened(To::Any, &session).await.map_err(|why| anyhow::anyhow!("{why:?}"))?;
        let (call, mut stream) = (clients.number(), Stream::default());
        let body = wire::call(call, EVENTS, json!({"count": COUNT, "every_ms": EVERY_MS}));
        let begun = clients.begin(To::AnyBut(owner), &session, body).await;
        let (node, response) = begun.map_err(|why| anyhow::anyhow!("no stream: {why:?}"))?;
        ensure!(is_stream(&response), "an answer instead of a stream");
        stream.begun_at(node);
        let why = stream.read_while(&mut Reading::of(response), call, |stream| stream.notices.len() < READ).await;
        ensure!(stream.notices.len() >= READ, "the stream broke off by itself: {why}");
        ensure!(stream.last.is_some(), "the events have no ids");
        Ok(Listener { clients: clients.clone(), session, call, stream, node, reading: None })
    }

    /// Resumes at a node other than the owner and reads some of the rest, any number of events; more is under way.
    async fn hear_more(&mut self, owner: usize) -> Result<()> {
        let more = rand::rng().random_range(0..COUNT as usize - READ);
        let resumed = self.clients.resumed(&self.session, To::AnyBut(owner), &mut self.stream).await;
        let (node, mut reading) = resumed.ok().flatten().context("the stream cannot be resumed")?;
        self.node = node;
        // What counts is when it goes on after the kill.
        self.stream.resumed = None;
        self.stream.read_while(&mut reading, self.call, |stream| stream.notices.len() < READ + more).await;
        self.reading = Some(reading);
        Ok(())
    }

    /// Reads to the end, resuming where it must.
    async fn hear_rest(&mut self) -> Outcome {
        let rest = async {
            if let Some(mut reading) = self.reading.take() {
                self.stream.read_while(&mut reading, self.call, |_| true).await;
            }
            self.clients.rest(&self.session, self.node, self.call, &mut self.stream).await
        };
        match tokio::time::timeout(END_WITHIN, rest).await {
            Ok(Ok(outcome) | Err(outcome)) => outcome,
            Err(_) => Outcome::Wrong(format!("no end within {END_WITHIN:?}")),
        }
    }
}

/// Returns how many events were heard.
fn judge(found: &mut Found, when: When, listener: &Listener, outcome: &Outcome) -> u64 {
    let heard = numbered::heard(&listener.stream.notices, listener.call);
    let last = heard.len() as u64;
    found.counts.calls += 1;
    if let Some(fault) = numbered::fault(&heard, COUNT, outcome).or_else(|| listener.stream.garbage()) {
        found.counts.wrong += 1;
        found.notes.push(format!("{when:?}: {fault}"));
    }
    let wanted = match when {
        When::Said | When::Heard => *outcome == Outcome::Result,
        When::Middle => last >= READ as u64 && matches!(outcome, Outcome::Unknown | Outcome::Result),
    };
    match outcome {
        Outcome::Result => found.counts.results += 1,
        Outcome::Unknown => found.counts.unknown += 1,
        _ => {}
    }
    found.limit(wanted, || format!("{when:?}: {last} events, then {outcome:?}"));
    last
}

fn short(outcome: &Outcome) -> String {
    let text = format!("{outcome:?}");
    text.split('(').next().unwrap_or_default().to_lowercase()
}
