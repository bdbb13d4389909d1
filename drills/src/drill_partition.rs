//! Acceptance 4: the network between nodes fails in one way or another, then heals. Clients and the upstream reach every
//! node all the time: the worst case, because nothing hides a node that is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum as _;
use serde_json::json;

use crate::cli::{Cli, Fault};
use crate::client::{Outcome, Session};
use crate::cluster::{Node, Roles};
use crate::effects::Effects;
use crate::load::Load;
use crate::net::{Net, address};
use crate::report::Found;
use crate::stage::{Stage, probe};
use crate::web::To;
use crate::{drill_still, drill_stopped};

/// How long the network is broken.
const BROKEN: Duration = Duration::from_secs(8);
/// A cut-off minority refuses after this: a lease, and what the edge may take to notice.
const LEASE: Duration = Duration::from_millis(2_500);
/// Those that have a quorum serve everything after this.
const TAKEN: Duration = Duration::from_secs(6);
/// Every slot serves again within this after healing.
pub(crate) const SERVED_WITHIN: Duration = Duration::from_secs(10);
pub(crate) const GIVE_UP: Duration = Duration::from_secs(45);
/// Sessions that are asked at each node while the network is broken.
const ASKED: usize = 50;

pub(crate) async fn run(cli: &Cli, case: Option<Fault>) -> Result<Vec<Found>> {
    if cli.alone {
        return Ok(vec![Found::skipped("partition", "one node alone cannot be parted")]);
    }
    let mut all = Vec::new();
    for fault in case.map_or(Fault::value_variants().to_vec(), |fault| vec![fault]) {
        let name = fault.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        eprintln!("{name} …");
        let found = match fault {
            Fault::Disks => drill_still::run(cli, &name).await,
            Fault::StoppedOwner | Fault::StoppedLeader => drill_stopped::run(cli, fault, &name).await,
            Fault::TwoOne | Fault::OneWay | Fault::OwnerFromEdges | Fault::LeaderAndOwner => {
                parted(cli, fault, &name).await
            }
        };
        all.push(found.with_context(|| name.clone())?);
    }
    Ok(all)
}

async fn parted(cli: &Cli, fault: Fault, name: &str) -> Result<Found> {
    let count = if fault == Fault::LeaderAndOwner { 5 } else { 3 };
    let net = match Net::new(count) {
        Ok(net) => net,
        Err(why) => return Ok(Found::skipped(name, &format!("{why:#}"))),
    };
    let nodes = (0..count).map(|index| node_at(&net, index)).collect();
    let mut found = Found { rounds: cli.size.rounds(), ..Found::new(name) };
    let mut stage = Stage::prepare_at(cli, name, nodes, json!({}), (net.outside(), 0).into()).await?;
    stage.cluster.start_all(|_, _| {}).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    for number in 1..=found.rounds {
        stage.balanced(&sessions).await?;
        stage.busy(&load).await?;
        round(&stage, &net, fault, &sessions, &mut found).await.with_context(|| format!("round {number}"))?;
    }
    found.counts = load.end().await.settle(stage.witness.ledger());
    let (lost, _) = stage.sweep(&sessions).await;
    found.lost += lost;
    let slowest = found.recover.max();
    found.limit(slowest <= SERVED_WITHIN, || format!("all served {slowest:?} after healing, not {SERVED_WITHIN:?}"));
    judge(&mut found, stage.witness.effects());
    let gone = found.counts.gone;
    // Owner and second at once are more than a stream survives. An owner that hears nobody takes its second for lost, and
    // says so to the registry, which hears it: then nobody has a copy that counts.
    let may_go = matches!(fault, Fault::LeaderAndOwner | Fault::OneWay);
    found.limit(gone == 0 || may_go, || format!("{gone} streams could not be resumed"));
    stage.cluster.end().await?;
    Ok(found)
}

/// The limits of all these drills: every client reaches every node all the time, and no node dies.
pub(crate) fn judge(found: &mut Found, effects: &Effects) {
    let counts = found.counts.clone();
    let more = format!("{} replayed, {} ran after \"unknown\" was said", counts.replayed, counts.late);
    found.notes.push(more);
    found.limit(counts.errors == 0, || format!("{} calls ended in another error", counts.errors));
    found.limit(counts.not_sent == 0, || format!("{} calls found no node", counts.not_sent));
    found.limit(counts.broken == 0, || format!("{} connections broke", counts.broken));
    effects.judge(found);
    found.always();
}

fn node_at(net: &Net, index: usize) -> Node {
    let mut node = Node::new(&format!("node-{}", index + 1), Roles::All);
    let any = format!("{}:0", address(index));
    node.own = json!({"link": any, "gossip": any});
    node.listen = any;
    node.wrap = net.wrap(index);
    node
}

async fn round(stage: &Stage, net: &Net, fault: Fault, sessions: &Arc<Vec<Session>>, found: &mut Found) -> Result<()> {
    let minority = cut(stage, net, fault)?;
    let cut_at = Instant::now();
    let majority: Vec<usize> = stage.cluster.running().into_iter().filter(|node| !minority.contains(node)).collect();
    tokio::time::sleep_until((cut_at + LEASE).into()).await;
    let refusing = ask(stage, sessions, &minority, cut_at + BROKEN);
    let serving = async {
        tokio::time::sleep_until((cut_at + TAKEN).into()).await;
        ask(stage, sessions, &majority, cut_at + BROKEN).await
    };
    let (refusing, serving) = tokio::join!(refusing, serving);
    let served = refusing.iter().sum::<usize>();
    found.limit(served == 0, || format!("a minority served {served} requests {LEASE:?} after it was cut off"));
    let asked = ASKED.min(sessions.len());
    let all = serving.iter().all(|served| *served == asked);
    found.limit(all, || format!("{TAKEN:?} after the cut, of {asked} sessions the others serve {serving:?}"));
    tokio::time::sleep_until((cut_at + BROKEN).into()).await;
    net.heal()?;
    let probed = probe(&stage.clients, sessions, stage.size.probes(), Instant::now(), GIVE_UP).await;
    probed.served.iter().for_each(|time| found.recover.add(*time));
    found.lost += probed.lost;
    let never = probed.never;
    found.limit(never == 0, || format!("{never} sessions were not served within {GIVE_UP:?} of healing"));
    Ok(())
}

/// Breaks the network. Returns the nodes that have no quorum now.
fn cut(stage: &Stage, net: &Net, fault: Fault) -> Result<Vec<usize>> {
    let leader = stage.cluster.leader()?;
    let others: Vec<usize> = stage.cluster.running().into_iter().filter(|&node| node != leader).collect();
    match fault {
        Fault::OneWay => {
            net.deafen(others[0], leader)?;
            net.deafen(others[0], others[1])?;
            Ok(vec![others[0]])
        }
        Fault::OwnerFromEdges => {
            net.part(&[others[0]], &others[1..])?;
            Ok(Vec::new())
        }
        Fault::LeaderAndOwner => {
            net.part(&[leader, others[0]], &others[1..])?;
            Ok(vec![leader, others[0]])
        }
        _ => {
            net.part(&[others[0]], &[leader, others[1]])?;
            Ok(vec![others[0]])
        }
    }
}

/// How many of some sessions each of these nodes serves until `until`; none of them waits longer.
async fn ask(stage: &Stage, sessions: &Arc<Vec<Session>>, nodes: &[usize], until: Instant) -> Vec<usize> {
    let at = |node| async move {
        let asked = sessions.iter().take(ASKED).map(|session| {
            let asked = stage.clients.ping(To::Only(node), session);
            tokio::time::timeout_at(until.into(), asked)
        });
        let answers = futures::future::join_all(asked).await;
        answers.iter().filter(|answer| matches!(answer, Ok(Outcome::Result))).count()
    };
    futures::future::join_all(nodes.iter().map(|&node| at(node))).await
}
