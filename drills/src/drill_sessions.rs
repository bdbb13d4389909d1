//! Acceptance 1: sessions are created on random nodes and used at once on others, without stickiness.

use std::time::Instant;

use anyhow::Result;
use futures::stream::{self, StreamExt};
use serde_json::json;

use crate::cli::Cli;
use crate::client::Outcome;
use crate::cluster::{Node, Roles};
use crate::report::{Found, Times, short};
use crate::stage::Stage;
use crate::tally::Tally;
use crate::web::To;
use crate::witness::WORK;

/// Clients that do this at a time.
const AT_A_TIME: usize = 64;

pub(crate) fn three() -> Vec<Node> {
    (1..=3).map(|number| Node::new(&format!("node-{number}"), Roles::All)).collect()
}

pub(crate) async fn run(cli: &Cli) -> Result<Found> {
    let mut found = Found::new("sessions");
    let stage = Stage::start(cli, "sessions", three()).await?;
    let (tally, count) = (Tally::default(), stage.size.sessions());
    let begun = Instant::now();
    let used = stream::iter(0..count).map(|_| create_and_use(&stage, &tally));
    let mut used = used.buffer_unordered(AT_A_TIME);
    let (mut creation, mut use_at_once) = (Times::default(), Times::default());
    while let Some((created, called)) = used.next().await {
        created.into_iter().for_each(|time| creation.add(time));
        called.into_iter().for_each(|time| use_at_once.add(time));
    }
    drop(used);
    let elapsed = begun.elapsed();
    found.rounds = 1;
    found.counts = tally.settle(stage.witness.ledger());
    let (good, counts) = (found.counts.results, &found.counts);
    found.notes = vec![
        format!("creation p50 / p99 / max: {}", creation.shown()),
        format!("the first call, on another node, p50 / p99 / max: {}", use_at_once.shown()),
        format!("{} false 404; {good} of {} requests good; {} in all", counts.lost, counts.calls, short(elapsed)),
        format!("{:.0} sessions/s created and used", count as f64 / elapsed.as_secs_f64()),
        format!("{} requests went to another node before anything was sent", stage.clients.web.turned_away()),
    ];
    let bad = counts.calls - good;
    found.limit(bad == 0, || format!("{bad} requests failed"));
    found.limit(creation.count() == count as u64, || "not all sessions were created".to_owned());
    found.always();
    stage.cluster.end().await?;
    Ok(found)
}

/// Creation on any node, `initialized` on another, a call on another than the first.
async fn create_and_use(stage: &Stage, tally: &Tally) -> (Option<std::time::Duration>, Option<std::time::Duration>) {
    let clients = &stage.clients;
    let begun = Instant::now();
    let session = match clients.open(To::Any).await {
        Ok(session) => session,
        Err(outcome) => {
            tally.add(&outcome);
            return (None, None);
        }
    };
    let created = begun.elapsed();
    tally.add(&Outcome::Result);
    let elsewhere = To::AnyBut(session.node);
    let told = clients.opened(elsewhere, &session).await;
    tally.add(&told.err().unwrap_or(Outcome::Result));
    let (call, begun) = (clients.number(), Instant::now());
    let (outcome, _) = clients.call(elsewhere, &session, call, WORK, json!({"ms": 0})).await;
    let called = (outcome == Outcome::Result).then(|| begun.elapsed());
    tally.call(stage.witness.ledger(), call, false, &outcome);
    (Some(created), called)
}
