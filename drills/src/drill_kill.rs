//! Acceptance 2: kill -9 of an owner, of the registry's leader, of an edge, of all nodes at once; under load.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt};
use rand::Rng as _;
use rand::seq::IndexedRandom;
use tokio::task::JoinSet;

use crate::cli::{Cli, Victim};
use crate::client::{self, Clients, Session};
use crate::cluster::{Node, Roles};
use crate::drill_sessions::three;
use crate::ended::{Ended, Enders};
use crate::load::{Flight, Load};
use crate::report::{Found, Times, short};
use crate::stage::{Probed, Stage, probe};
use crate::stream::Stream;
use crate::web::{Message, To};
use crate::writes;

/// 99 % of the sessions that were hit are served again within this, and all of them within the next.
const MOST_WITHIN: Duration = Duration::from_secs(5);
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// New sessions are refused no longer than this after the leader's death.
const WRITES_WITHIN: Duration = Duration::from_secs(3);
/// A dead edge's clients are back within this.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Clients of the edge: each holds a descriptor here, and one more at the upstream, which is here as well.
const WATCHERS_MAX: usize = 5_000;
/// Streams that are opened at a time.
const OPENED_AT_A_TIME: usize = 256;
/// After this nobody is waited for any longer.
const GIVE_UP: Duration = Duration::from_secs(45);
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
    let enders = Enders::start(&stage.clients);
    let mut rounds = Rounds { victim, sessions: Arc::clone(&sessions), ..Rounds::default() };
    for number in 1..=found.rounds {
        rounds.round(&mut stage, &load, &mut found).await.with_context(|| format!("round {number}"))?;
        eprint!(".");
    }
    eprintln!();
    let tally = load.end().await;
    found.counts = tally.settle(stage.witness.ledger());
    // Where all of them are asked in each round, this is for what happened to them after the last one.
    stage.settle(&sessions).await?;
    let (lost, others) = stage.sweep(&sessions).await;
    found.lost += lost;
    found.limit(others.is_empty(), || format!("{} sessions answer wrongly: {:?}", others.len(), others[0]));
    rounds.judge(&mut found);
    let Ended { sessions: ended, served, other } = enders.end().await;
    found
        .limit(served.is_empty(), || format!("sessions are served although their clients have ended them: {served:?}"));
    found.limit(other.is_none(), || format!("an ended session is answered with {other:?}"));
    found
        .notes
        .push(format!("{ended} sessions ended by their clients meanwhile; {} of them served afterwards", served.len()));
    found.notes.push(format!("{} sessions at the upstream for {} of clients", stage.witness.opened(), sessions.len()));
    stage.cluster.end().await?;
    Ok(found)
}

#[derive(Default)]
struct Rounds {
    victim: Victim,
    sessions: Arc<Vec<Session>>,
    /// Who was killed last.
    last: Option<usize>,
    /// At the moment of each kill.
    flights: Vec<Flight>,
    /// The slowest session of each round.
    slowest: Vec<Duration>,
    /// When the last session of a round was asked first.
    asked: Duration,
    /// A dead edge's clients.
    back: Times,
    /// Sessions that were not served before everybody gave up.
    never: u64,
}

impl Rounds {
    async fn round(&mut self, stage: &mut Stage, load: &Load, found: &mut Found) -> Result<()> {
        stage.balanced(&self.sessions).await?;
        let which = self.choose(stage)?;
        self.last = which.first().copied();
        let watchers = match self.victim {
            Victim::Edge => {
                let count = stage.size.probes().min(WATCHERS_MAX);
                Some(Watchers::open(&stage.clients, &self.sessions, which[0], count).await?)
            }
            _ => None,
        };
        stage.busy(load).await?;
        self.flights.push(load.flight(stage.witness.ledger()));
        let killed = stage.cluster.kill(&which).await?;
        let asked = probe(&stage.clients, &self.sessions, stage.size.probes(), killed, GIVE_UP);
        let (asked, written) = (tokio::spawn(asked), tokio::spawn(writes::until_taken(stage.clients.clone(), killed)));
        if self.victim == Victim::All {
            stage.cluster.start_nodes(&which).await?;
        }
        self.heard(found, &asked.await?);
        found.writes.add(written.await?);
        if let Some(watchers) = watchers {
            self.back.merge(&watchers.back().await?);
        }
        if self.victim != Victim::All {
            stage.cluster.start_nodes(&which).await?;
        }
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
            Victim::Owner => {
                // The one that was killed last has just begun to get its slots back: that is for each fourth round.
                let again = self.flights.len() % 4 == 3;
                let others = owners.into_iter().filter(|&node| Some(node) != leader);
                let (last, rested): (Vec<usize>, Vec<usize>) = others.partition(|&node| Some(node) == self.last);
                one(if (again && !last.is_empty()) || rested.is_empty() { last } else { rested })
            }
            Victim::Edge => one((0..cluster.nodes.len()).filter(|&i| cluster.nodes[i].roles == Roles::Edge).collect()),
        }
    }

    fn heard(&mut self, found: &mut Found, probed: &Probed) {
        if probed.hit.count() > 0 {
            found.detect.add(probed.hit.min());
        }
        found.recover.merge(&probed.hit);
        found.lost += probed.lost;
        self.slowest.push(probed.hit.max());
        self.asked = self.asked.max(probed.asked);
        self.never += probed.never;
    }

    fn judge(&self, found: &mut Found) {
        let never = self.never;
        found.limit(never == 0, || format!("{never} sessions were not served within {GIVE_UP:?}"));
        let (most, all, writes) = (found.recover.at(0.99), found.recover.max(), found.writes.max());
        found.limit(most <= MOST_WITHIN, || format!("99 % served after {most:?} instead of {MOST_WITHIN:?}"));
        found.limit(all <= ALL_WITHIN, || format!("all served after {all:?} instead of {ALL_WITHIN:?}"));
        if self.victim == Victim::Leader {
            found.limit(writes <= WRITES_WITHIN, || format!("writes refused for {writes:?}, not {WRITES_WITHIN:?}"));
        }
        let longest = self.back.max();
        found.limit(longest <= BACK_WITHIN, || format!("clients back after {longest:?}, not {BACK_WITHIN:?}"));
        let errors = found.counts.errors;
        found.limit(errors == 0, || format!("{errors} calls ended in another error"));
        let gone = found.counts.gone;
        // Owner and second at once are more than a stream survives, and a second that has just begun has no whole copy.
        found.limit(gone == 0 || self.victim != Victim::Edge, || format!("{gone} streams could not be resumed"));
        let not_sent = found.counts.not_sent;
        let reachable = not_sent == 0 || self.victim == Victim::All;
        found.limit(reachable, || format!("{not_sent} calls found no node"));
        found.always();
        self.tell(found);
    }

    fn tell(&self, found: &mut Found) {
        let (of, seconds) = (self.flights.len(), self.slowest.iter().map(|time| format!("{:.2}", time.as_secs_f64())));
        found.notes.push(format!(
            "{} sessions hit in {of} rounds, each first asked within {} of the kill; the slowest of each round: {} s",
            found.recover.count(),
            short(self.asked),
            seconds.collect::<Vec<_>>().join(" ")
        ));
        let fewest = |what: fn(&Flight) -> u64| self.flights.iter().map(what).min().unwrap_or(0);
        found.notes.push(format!(
            "at each kill at least {} calls in flight, {} of them unsafe, {} streams, {} at the upstream; {} to {} ms long",
            fewest(|flight| flight.calls),
            fewest(|flight| flight.not_safe),
            fewest(|flight| flight.streams),
            fewest(|flight| flight.executed),
            fewest(|flight| flight.ms_min),
            self.flights.iter().map(|flight| flight.ms_max).max().unwrap_or(0),
        ));
        let counts = &found.counts;
        let more = format!("{} replayed, {} ran after \"unknown\" was said", counts.replayed, counts.late);
        found.notes.push(more);
        if self.back.count() > 0 {
            found.notes.push(format!("{} clients back p50 / p99 / max: {}", self.back.count(), self.back.shown()));
        }
    }
}

/// Clients with an open stream at one node, who come back elsewhere when it dies.
struct Watchers(JoinSet<Result<Duration>>);

impl Watchers {
    async fn open(clients: &Clients, sessions: &Arc<Vec<Session>>, node: usize, count: usize) -> Result<Watchers> {
        let opened = stream::iter(0..count).map(|index| async move {
            let stream = attach(clients, To::Only(node), &sessions[index].id).await?;
            anyhow::Ok((index, stream))
        });
        let mut opened = pin!(opened.buffer_unordered(OPENED_AT_A_TIME));
        let mut watchers = JoinSet::new();
        while let Some(opened) = opened.next().await {
            let (index, stream) = opened?;
            let (clients, sessions) = (clients.clone(), Arc::clone(sessions));
            watchers.spawn(async move { watch(&clients, &sessions[index].id, stream).await });
        }
        Ok(Watchers(watchers))
    }

    async fn back(mut self) -> Result<Times> {
        let mut times = Times::default();
        while let Some(back) = self.0.join_next().await {
            times.add(back??);
        }
        Ok(times)
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
    let mut seen = Stream::default();
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
