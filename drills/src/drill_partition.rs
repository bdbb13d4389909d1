//! Acceptance 4: the network between nodes fails in one way or another, then heals; and disks that stand still.
//! Clients and the upstream reach every node all the time: the worst case, because nothing hides a node that is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::Cli;
use crate::client::{Clients, Outcome, Session};
use crate::cluster::{Node, Roles};
use crate::disk::Disk;
use crate::load::Load;
use crate::net::{Net, address};
use crate::report::{Found, Times};
use crate::stage::{Stage, probe};
use crate::web::To;

/// How long the network is broken.
const BROKEN: Duration = Duration::from_secs(8);
/// A cut-off minority refuses after this: a lease, and what the edge may take to notice.
const LEASE: Duration = Duration::from_millis(2_500);
/// Every slot serves again within this after healing.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
const GIVE_UP: Duration = Duration::from_secs(45);
/// How long the disks stand still.
const STILL: Duration = Duration::from_secs(3);
/// Nothing but writes waits longer than this while they do.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// One of three cut off.
    TwoOne,
    /// One hears nobody, and is heard.
    OneWay,
    /// An owner cut off from all but the leader.
    OwnerFromEdges,
    /// Of five nodes the leader and another owner, together.
    LeaderAndOwner,
    /// The disks of all nodes.
    Disks,
}

pub(crate) async fn run(cli: &Cli) -> Result<Vec<Found>> {
    if cli.alone {
        return Ok(vec![Found::skipped("partition", "one node alone cannot be parted")]);
    }
    let mut all = Vec::new();
    for fault in [Fault::TwoOne, Fault::OneWay, Fault::OwnerFromEdges, Fault::LeaderAndOwner, Fault::Disks] {
        let name = format!("partition {fault:?}");
        let found = match fault {
            Fault::Disks => disks(cli).await,
            _ => parted(cli, fault, &name).await,
        };
        let found = found.with_context(|| name.clone())?;
        all.push(found);
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
    let mut found = Found { rounds: cli.size.rounds().min(5), ..Found::new(name) };
    let mut stage = Stage::prepare_at(cli, name, nodes, json!({}), (net.outside(), 0).into()).await?;
    stage.cluster.start_all(|_, _| {}).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    for number in 1..=found.rounds {
        stage.settle(&sessions).await?;
        stage.busy(&load).await?;
        round(&stage, &net, fault, &sessions, &mut found).await.with_context(|| format!("round {number}"))?;
    }
    found.counts = load.end().await.settle(stage.witness.ledger());
    let (lost, _) = stage.sweep(&sessions).await;
    found.lost = lost;
    let slowest = found.recover.max();
    found.limit(slowest <= SERVED_WITHIN, || format!("all served {slowest:?} after healing, not {SERVED_WITHIN:?}"));
    found.notes.push(format!("{} calls ran after \"unknown\" was said", found.counts.late));
    found.always();
    stage.cluster.end().await?;
    Ok(found)
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
    tokio::time::sleep_until((cut_at + LEASE).into()).await;
    // Asked at a node that must not serve, until the network heals.
    let mut served = 0;
    for &node in &minority {
        served += serves(stage, sessions, node, cut_at + BROKEN).await;
    }
    found.notes.push(format!("{} nodes without a quorum served {served} requests", minority.len()));
    found.limit(served == 0, || format!("a minority served {served} requests {LEASE:?} after it was cut off"));
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
        Fault::TwoOne => {
            net.part(&[others[0]], &[leader, others[1]])?;
            Ok(vec![others[0]])
        }
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
        Fault::Disks => Ok(Vec::new()),
    }
}

/// How many of some sessions a node serves until `until`; none of them waits longer.
async fn serves(stage: &Stage, sessions: &Arc<Vec<Session>>, node: usize, until: Instant) -> usize {
    let asked = sessions.iter().take(50).map(|session| {
        let asked = stage.clients.ping(To::Only(node), session);
        tokio::time::timeout_at(until.into(), asked)
    });
    let answers = futures::future::join_all(asked).await;
    answers.iter().filter(|answer| matches!(answer, Ok(Outcome::Result))).count()
}

/// Asks some sessions again and again until `until`. Returns how long they took, and how many are lost.
async fn ask(clients: Clients, sessions: Arc<Vec<Session>>, until: Instant) -> (Times, u64) {
    let (mut times, mut lost) = (Times::default(), 0);
    while Instant::now() < until {
        let probed = probe(&clients, &sessions, sessions.len().min(50), Instant::now(), GIVE_UP).await;
        probed.served.iter().for_each(|time| times.add(*time));
        lost += probed.lost;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (times, lost)
}

/// All disks stand still for a while: only writes wait.
async fn disks(cli: &Cli) -> Result<Found> {
    let mut found = Found { rounds: 1, ..Found::new("disks stand still") };
    let mut nodes = crate::drill_sessions::three();
    let folder = crate::stage::Folder::new(cli, "disks")?;
    let disk = match Disk::new(folder.path()) {
        Ok(disk) => disk,
        Err(why) => return Ok(Found::skipped("disks stand still", &format!("{why:#}"))),
    };
    for node in &mut nodes {
        node.data = Some(disk.path().join(&node.name));
    }
    let mut stage = Stage::prepare(cli, "disks stand still", nodes, json!({})).await?;
    stage.cluster.start_all(|_, _| {}).await?;
    let (sessions, _) = stage.open(stage.size.sessions()).await?;
    stage.settle(&sessions).await?;
    let load = Load::start(&stage.clients, &sessions, stage.witness.ledger(), stage.size.calls());
    stage.busy(&load).await?;
    let still = disk.freeze()?;
    let asked = tokio::spawn(ask(stage.clients.clone(), Arc::clone(&sessions), Instant::now() + STILL));
    tokio::time::sleep(STILL).await;
    drop(still);
    (found.recover, found.lost) = asked.await?;
    found.counts = load.end().await.settle(stage.witness.ledger());
    let slowest = found.recover.max();
    found.limit(slowest <= UNDISTURBED, || format!("sessions waited {slowest:?} for disks that they do not need"));
    let failed = found.counts.calls - found.counts.results;
    found.limit(failed == 0, || format!("{failed} calls failed"));
    found.always();
    stage.cluster.end().await?;
    Ok(found)
}
