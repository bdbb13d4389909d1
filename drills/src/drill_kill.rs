//! Acceptance 2: kill -9 of an owner, of the registry's leader, of an edge, of all nodes at once; under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng as _;
use rand::seq::IndexedRandom;
use tokio::task::JoinSet;

use crate::cli::{Cli, Victim};
use crate::client::{self, Clients, Session};
use crate::cluster::{Node, Roles};
use crate::drill_sessions::three;
use crate::load::Load;
use crate::report::{Found, Times};
use crate::stage::{Probed, Stage, probe};
use crate::web::{Message, To};
use crate::writes;

/// 99 % of the sessions that were hit are served again within this, and all of them within the next.
const MOST_WITHIN: Duration = Duration::from_secs(5);
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// New sessions are refused no longer than this after the leader's death.
const WRITES_WITHIN: Duration = Duration::from_secs(3);
/// A dead edge's clients are back within this.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// After this nobody is waited for any longer.
const GIVE_UP: Duration = Duration::from_secs(45);
/// A session that was served later than this was hit: a thousand that ask at once wait for each other.
const USUAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(cli: &Cli, victim: Victim) -> Result<Found> {
    let name = format!("kill {victim:?}").to_lowercase();
    let mut found = Found { rounds: cli.size.rounds(), ..Found::new(&name) };
    let mut nodes = three();
    if victim == Victim::Edge {
        nodes.push(Node::new("edge-1", Roles::Edge));
    }
    let mut stage = Stage::start(cli, &name, nodes).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    let mut rounds = Rounds { victim, sessions: Arc::clone(&sessions), fewest_in_flight: u64::MAX, never: 0 };
    for number in 1..=found.rounds {
        rounds.round(&mut stage, &load, &mut found).await.with_context(|| format!("round {number}"))?;
    }
    let tally = load.end().await;
    found.counts = tally.settle(stage.witness.ledger());
    rounds.judge(&mut found);
    stage.cluster.end().await?;
    Ok(found)
}

struct Rounds {
    victim: Victim,
    sessions: Arc<Vec<Session>>,
    fewest_in_flight: u64,
    /// Sessions that were not served before everybody gave up.
    never: u64,
}

impl Rounds {
    async fn round(&mut self, stage: &mut Stage, load: &Load, found: &mut Found) -> Result<()> {
        stage.settle(&self.sessions).await?;
        stage.busy(load).await?;
        self.fewest_in_flight = self.fewest_in_flight.min(load.in_flight());
        let which = self.choose(stage)?;
        let watchers = match self.victim {
            Victim::Edge => Some(Watchers::open(&stage.clients, &self.sessions, which[0], stage.size.probes()).await?),
            _ => None,
        };
        let killed = stage.cluster.kill(&which).await?;
        let asked = probe(&stage.clients, &self.sessions, stage.size.probes(), killed, GIVE_UP);
        let (asked, written) = (tokio::spawn(asked), tokio::spawn(writes::until_taken(stage.clients.clone(), killed)));
        if self.victim == Victim::All {
            stage.cluster.start_nodes(&which).await?;
        }
        self.heard(found, &asked.await?);
        found.writes.add(written.await?);
        if let Some(watchers) = watchers {
            watchers.back(found).await?;
        }
        if self.victim != Victim::All {
            stage.cluster.start_nodes(&which).await?;
        }
        let (lost, others) = stage.sweep(&self.sessions).await;
        found.lost += lost;
        found.limit(others.is_empty(), || format!("{} sessions answer wrongly: {:?}", others.len(), others[0]));
        Ok(())
    }

    fn choose(&self, stage: &Stage) -> Result<Vec<usize>> {
        let cluster = &stage.cluster;
        let leader = cluster.leader().ok();
        let owners: Vec<usize> =
            cluster.running().into_iter().filter(|&i| cluster.nodes[i].roles == Roles::All).collect();
        let one = |nodes: Vec<usize>| nodes.choose(&mut rand::rng()).map(|&node| vec![node]).context("nobody to kill");
        match self.victim {
            Victim::All => Ok(cluster.running()),
            Victim::Leader if owners.len() == 1 => Ok(owners),
            Victim::Leader => Ok(vec![cluster.leader()?]),
            Victim::Owner if owners.len() == 1 => Ok(owners),
            Victim::Owner => one(owners.into_iter().filter(|&node| Some(node) != leader).collect()),
            Victim::Edge => one((0..cluster.nodes.len()).filter(|&i| cluster.nodes[i].roles == Roles::Edge).collect()),
        }
    }

    fn heard(&mut self, found: &mut Found, probed: &Probed) {
        let hit = probed.hit(USUAL);
        if hit.count() > 0 {
            found.detect.add(hit.min());
        }
        found.recover.merge(&hit);
        found.lost += probed.lost;
        self.never += probed.never;
    }

    fn judge(&self, found: &mut Found) {
        let never = self.never;
        found.limit(never == 0, || format!("{never} sessions were not served within {GIVE_UP:?}"));
        let (most, all, writes) = (found.recover.at(0.99), found.recover.max(), found.writes.max());
        if matches!(self.victim, Victim::Owner | Victim::Leader) {
            found.limit(most <= MOST_WITHIN, || format!("99 % served after {most:?} instead of {MOST_WITHIN:?}"));
            found.limit(all <= ALL_WITHIN, || format!("all served after {all:?} instead of {ALL_WITHIN:?}"));
        }
        if self.victim == Victim::Leader {
            found.limit(writes <= WRITES_WITHIN, || format!("writes refused for {writes:?}, not {WRITES_WITHIN:?}"));
        }
        let errors = found.counts.errors;
        found.limit(errors == 0, || format!("{errors} calls ended in another error"));
        let gone = found.counts.gone;
        // Owner and second at once are more than a stream survives.
        found.limit(gone == 0 || self.victim == Victim::All, || format!("{gone} streams could not be resumed"));
        let not_sent = found.counts.not_sent;
        let reachable = not_sent == 0 || self.victim == Victim::All;
        found.limit(reachable, || format!("{not_sent} calls found no node"));
        found.notes.push(format!("{} sessions that were asked were hit", found.recover.count()));
        let (fewest, counts) = (self.fewest_in_flight, &found.counts);
        let more = format!("{} replayed, {} ran after \"unknown\" was said", counts.replayed, counts.late);
        found.notes.push(format!("{fewest} calls in flight at least; {more}"));
        found.always();
    }
}

/// Clients with an open stream at one node, who come back elsewhere when it dies.
struct Watchers(JoinSet<Result<Duration>>);

impl Watchers {
    async fn open(clients: &Clients, sessions: &Arc<Vec<Session>>, node: usize, count: usize) -> Result<Watchers> {
        let mut open = JoinSet::new();
        for index in 0..count {
            let (clients, sessions) = (clients.clone(), Arc::clone(sessions));
            open.spawn(async move {
                let stream = attach(&clients, To::Only(node), &sessions[index].id).await?;
                anyhow::Ok((clients, sessions, index, stream))
            });
        }
        let mut watchers = JoinSet::new();
        while let Some(opened) = open.join_next().await {
            let (clients, sessions, index, stream) = opened??;
            watchers.spawn(async move { watch(&clients, &sessions[index].id, stream).await });
        }
        Ok(Watchers(watchers))
    }

    async fn back(mut self, found: &mut Found) -> Result<()> {
        let mut times = Times::default();
        while let Some(back) = self.0.join_next().await {
            times.add(back??);
        }
        let longest = times.max();
        found.limit(longest <= BACK_WITHIN, || format!("clients back after {longest:?}, not {BACK_WITHIN:?}"));
        found.notes.push(format!("{} clients back p50 / p99 / max: {}", times.count(), times.shown()));
        Ok(())
    }
}

type Body = hyper::Response<hyper::body::Incoming>;

async fn attach(clients: &Clients, to: To, session: &str) -> Result<Body> {
    match clients.web.send(to, &Message::get(session, None)).await {
        Ok((_, response)) => {
            ensure!(client::is_stream(&response), "no stream: {}", response.status());
            Ok(response)
        }
        Err(fault) => anyhow::bail!("no stream: {fault:?}"),
    }
}

/// Reads until the connection breaks; returns how long it took to be back on another one.
async fn watch(clients: &Clients, session: &str, stream: Body) -> Result<Duration> {
    let mut seen = client::Stream::default();
    seen.read(stream, 0).await;
    let broken = Instant::now();
    // Without the word of the server clients spread themselves, lest they all come at once.
    let spread = Duration::from_millis(rand::rng().random_range(500..3000));
    tokio::time::sleep(seen.retry.unwrap_or(spread)).await;
    while broken.elapsed() < GIVE_UP {
        if attach(clients, To::Any, session).await.is_ok() {
            return Ok(broken.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("a client was not back within {GIVE_UP:?}")
}
