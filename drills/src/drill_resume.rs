//! Acceptance 3: a client with an open resumable stream while its owner is killed, with a delay between the nodes.
//! It resumes on another node with `Last-Event-ID`; among 1,000 numbered events there is no gap and no double.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::client::{Outcome, Session, Stream, is_stream};
use crate::delay::Wire;
use crate::drill_sessions::three;
use crate::report::Found;
use crate::stage::Stage;
use crate::web::To;
use crate::wire;
use crate::witness::EVENTS;

const COUNT: u64 = 1000;
const EVERY_MS: u64 = 2;
/// The client has read this many when its connection breaks.
const READ: usize = 300;
const DELAY: Duration = Duration::from_millis(30);
const END_WITHIN: Duration = Duration::from_secs(45);
const ALL_WITHIN: Duration = Duration::from_secs(10);

/// When the owner is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// All has been said, and the client has not heard the rest yet.
    Said,
    /// In the middle: what comes after is lost with the call.
    Middle,
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
    let (sessions, _) = stage.open(stage.size.probes()).await?;
    for number in 0..found.rounds {
        stage.settle(&sessions).await?;
        let when = if number % 2 == 0 { When::Said } else { When::Middle };
        round(&mut stage, number as usize, when, &mut found).await.with_context(|| format!("round {}", number + 1))?;
    }
    let slowest = found.recover.max();
    found.limit(slowest <= ALL_WITHIN, || format!("resumed after {slowest:?} instead of {ALL_WITHIN:?}"));
    found.always();
    stage.cluster.end().await?;
    Ok(found)
}

async fn round(stage: &mut Stage, number: usize, when: When, found: &mut Found) -> Result<()> {
    // A node that owns slots keeps the sessions that are opened at it.
    let nodes = stage.cluster.running();
    let owner = nodes[number % nodes.len()];
    let session = stage.clients.open(To::Only(owner)).await.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    stage.clients.opened(To::Any, &session).await.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let (call, mut stream) = (stage.clients.number(), Stream::default());
    let node = listen_to_some(stage, &session, owner, call, &mut stream).await?;
    if when == When::Said {
        // The rest is said while nobody listens.
        tokio::time::sleep(Duration::from_millis(COUNT * EVERY_MS * 2)).await;
    }
    let killed = stage.cluster.kill(&[owner]).await?;
    let rest = stage.clients.rest(&session, node, call, &mut stream);
    let outcome = match tokio::time::timeout(END_WITHIN, rest).await {
        Ok(Ok(outcome) | Err(outcome)) => outcome,
        Err(_) => Outcome::Wrong(format!("no end within {END_WITHIN:?}")),
    };
    if let Some(resumed) = stream.resumed {
        found.recover.add(resumed.saturating_duration_since(killed));
    }
    judge(found, when, call, &stream, &outcome);
    stage.cluster.start_nodes(&[owner]).await?;
    Ok(())
}

/// Reads the first events at a node other than the owner, where there is one, and breaks off.
async fn listen_to_some(
    stage: &Stage,
    session: &Session,
    owner: usize,
    call: u64,
    stream: &mut Stream,
) -> Result<usize> {
    let body = wire::call(call, EVENTS, json!({"count": COUNT, "every_ms": EVERY_MS}));
    let begun = stage.clients.begin(To::AnyBut(owner), session, body).await;
    let (node, response) = begun.map_err(|why| anyhow::anyhow!("no stream: {why:?}"))?;
    ensure!(is_stream(&response), "an answer instead of a stream");
    let why = stream.read_while(response, call, |stream| stream.notices.len() < READ).await;
    ensure!(stream.notices.len() >= READ, "the stream broke off by itself: {why}");
    ensure!(stream.last.is_some(), "the events have no ids");
    Ok(node)
}

fn judge(found: &mut Found, when: When, call: u64, stream: &Stream, outcome: &Outcome) {
    let numbers: Vec<u64> = stream.notices.iter().filter_map(|notice| number(notice, call)).collect();
    let last = numbers.last().copied().unwrap_or(0);
    found.counts.calls += 1;
    let in_order = numbers.iter().copied().eq(1..=last);
    if !in_order {
        found.counts.wrong += 1;
        let bad = numbers.iter().zip(1..).find(|(number, wanted)| **number != *wanted);
        found.notes.push(format!("{when:?}: a gap or a double: {bad:?} (is, should be) of {}", numbers.len()));
    }
    let wanted = match when {
        When::Said => last == COUNT && *outcome == Outcome::Result,
        When::Middle => last >= READ as u64 && matches!(outcome, Outcome::Unknown | Outcome::Result),
    };
    match outcome {
        Outcome::Result => found.counts.results += 1,
        Outcome::Unknown => found.counts.unknown += 1,
        _ => {}
    }
    found.notes.push(format!("{when:?}: {last} of {COUNT} events without gap or double: {in_order}; end: {outcome:?}"));
    found.limit(wanted, || format!("{when:?}: {last} events, then {outcome:?}"));
}

fn number(notice: &Value, call: u64) -> Option<u64> {
    let data = &notice["params"]["data"];
    (data["call"].as_u64() == Some(call)).then(|| data["number"].as_u64()).flatten()
}
