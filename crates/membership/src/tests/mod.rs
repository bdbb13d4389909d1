//! Nodes in one process, with real packets on the loopback.

mod cluster;
mod hostile;
mod parted;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enfilade_registry::{Generation, NodeId, Roles, Run};
use tokio::net::UdpSocket;

use crate::{BoxFuture, Config, GossipKeys, Identity, Membership, Resolve, Roster};

type Failed = Box<dyn std::error::Error>;

/// What the requirement allows for a join and for noticing a death.
const SOON: Duration = Duration::from_secs(5);

const SECRET: [u8; 32] = [7; 32];

fn run(node: u64, generation: u64) -> Run {
    Run { node: NodeId(node), generation: Generation(generation) }
}

fn identity(run: Run) -> Identity {
    Identity {
        run,
        name: format!("node-{}", run.node.0),
        gossip: SocketAddr::from(([127, 0, 0, 1], 0)),
        link: format!("127.0.0.1:{}", 9000 + run.node.0),
        roles: Roles::ALL,
    }
}

async fn socket(at: Option<SocketAddr>) -> io::Result<UdpSocket> {
    UdpSocket::bind(at.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))).await
}

fn config(seeds: &[SocketAddr]) -> Result<Config, Failed> {
    let seeds = seeds.iter().map(SocketAddr::to_string).collect();
    Ok(Config::new("test", GossipKeys::new(1, &SECRET)?, seeds))
}

async fn node(run: Run, seeds: &[SocketAddr]) -> Result<Membership, Failed> {
    Ok(Membership::start(config(seeds)?, identity(run), socket(None).await?).await?)
}

/// `count` nodes that know the first one.
async fn nodes(count: u64) -> Result<Vec<Membership>, Failed> {
    let mut all = vec![node(run(1, 1), &[]).await?];
    let seed = all[0].identity().gossip;
    for number in 2..=count {
        all.push(node(run(number, 1), &[seed]).await?);
    }
    Ok(all)
}

/// Waits until what `member` sees is so; says how long it took.
async fn sees(
    member: &Membership,
    what: &str,
    within: Duration,
    mut so: impl FnMut(&Roster) -> bool,
) -> Result<Duration, Failed> {
    let begun = Instant::now();
    let mut roster = member.roster();
    let waited = tokio::time::timeout(within, roster.wait_for(|roster| so(roster))).await.map(|seen| seen.map(|_| ()));
    if let Ok(seen) = waited {
        seen?;
        return Ok(begun.elapsed());
    }
    let last = Arc::clone(&roster.borrow());
    Err(format!("{}: not so within {within:?}: {what}; it sees {last:?}", member.identity().name).into())
}

async fn all_see(all: &[Membership], runs: &[Run], within: Duration) -> Result<Duration, Failed> {
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for member in all {
        let left = within.saturating_sub(begun.elapsed());
        sees(member, &format!("{runs:?}"), left, |roster| roster.runs().eq(runs.iter().copied())).await?;
        slowest = begun.elapsed();
    }
    Ok(slowest)
}

/// A name with several addresses.
struct Name(&'static str, Vec<SocketAddr>);

impl Resolve for Name {
    fn resolve<'a>(&'a self, seed: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let found = if seed == self.0 { Ok(self.1.clone()) } else { Err(io::ErrorKind::NotFound.into()) };
        Box::pin(std::future::ready(found))
    }
}
