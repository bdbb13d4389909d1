//! What most drills begin with: a witness, a cluster, clients with sessions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::stream::{self, StreamExt};
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::cli::{Cli, Size};
use crate::client::{self, Clients, Outcome, Served, Session};
use crate::cluster::{Cluster, Node, Roles, Setup};
use crate::load::Load;
use crate::moves::{SLOTS, Slots};
use crate::report::Times;
use crate::web::To;
use crate::witness::{WORK, Witness};

/// Sessions that are opened, or asked, at a time.
const AT_A_TIME: usize = 64;

/// Sessions that are asked at a time after a failure. Those that are not answered within [`AT_ONCE`] are held by an edge,
/// and do not count: they cost nothing, and must not keep others from being asked.
const PROBED_AT_A_TIME: usize = 512;
const AT_ONCE: Duration = Duration::from_millis(100);

/// An answer that took longer was held up, and not only by the others that ask.
const USUAL: Duration = Duration::from_millis(500);

/// How long a cluster may take until all of its nodes serve all sessions.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// A folder that goes with the drill, unless it is to be kept.
pub(crate) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    pub(crate) fn new(cli: &Cli, drill: &str) -> Result<Folder> {
        let name = drill.replace(' ', "-");
        let path = match &cli.keep {
            Some(dir) => dir.join(name),
            None => std::env::temp_dir().join(format!("enfilade-drills-{}-{name}", std::process::id())),
        };
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder { path: path.canonicalize()?, keep: cli.keep.is_some() })
    }
}

impl Folder {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing can be done about a folder that stays.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Everything that a drill works with.
pub(crate) struct Stage {
    pub(crate) witness: Witness,
    pub(crate) cluster: Cluster,
    pub(crate) clients: Clients,
    pub(crate) size: Size,
    // After the cluster: its processes write there.
    _folder: Folder,
}

impl Stage {
    /// A cluster of `nodes` with a witness behind it.
    pub(crate) async fn start(cli: &Cli, drill: &str, nodes: Vec<Node>) -> Result<Stage> {
        Stage::start_with(cli, drill, nodes, json!({})).await
    }

    async fn start_with(cli: &Cli, drill: &str, nodes: Vec<Node>, section: Value) -> Result<Stage> {
        let mut stage = Stage::prepare(cli, drill, nodes, section).await?;
        stage.cluster.start_all(|_, _| {}).await?;
        Ok(stage)
    }

    /// The same without starting the nodes; `section` is added to the section `cluster` of all of them.
    pub(crate) async fn prepare(cli: &Cli, drill: &str, nodes: Vec<Node>, section: Value) -> Result<Stage> {
        Stage::prepare_at(cli, drill, nodes, section, ([127, 0, 0, 1], 0).into()).await
    }

    /// Likewise, with the witness at this address.
    pub(crate) async fn prepare_at(
        cli: &Cli,
        drill: &str,
        nodes: Vec<Node>,
        section: Value,
        witness: SocketAddr,
    ) -> Result<Stage> {
        let folder = Folder::new(cli, drill)?;
        let witness = Witness::start(witness).await?;
        let program = cli.gateway.canonicalize().with_context(|| format!("no gateway: {}", cli.gateway.display()))?;
        let setup = Setup {
            program,
            alone: cli.alone,
            log: cli.node_log.clone(),
            upstream: format!("http://{}/mcp", witness.address()),
            dir: folder.path.clone(),
            cluster: section,
        };
        let nodes = if cli.alone { nodes.into_iter().take(1).collect() } else { nodes };
        let cluster = Cluster::new(setup, nodes);
        let clients = Clients::new(cluster.web.clone());
        Ok(Stage { witness, cluster, clients, size: cli.size.clone(), _folder: folder })
    }

    /// Opens sessions on random nodes and uses each once, so that it is bound to the upstream; all of that must work.
    pub(crate) async fn open(&self, count: usize) -> Result<(Arc<Vec<Session>>, Times)> {
        let mut times = Times::default();
        let mut sessions = Vec::with_capacity(count);
        let opened = stream::iter(0..count).map(|_| async {
            let begun = Instant::now();
            let session = self.clients.open(To::Any).await.map_err(failed)?;
            let took = begun.elapsed();
            self.clients.opened(To::AnyBut(session.node), &session).await.map_err(failed)?;
            let (call, arguments) = (self.clients.number(), json!({"ms": 0}));
            match self.clients.call(To::Any, &session, call, WORK, arguments).await.0 {
                Outcome::Result => Ok::<_, anyhow::Error>((session, took)),
                other => Err(failed(other)),
            }
        });
        let mut opened = opened.buffer_unordered(AT_A_TIME);
        while let Some(done) = opened.next().await {
            let (session, took) = done?;
            times.add(took);
            sessions.push(session);
        }
        Ok((Arc::new(sessions), times))
    }

    /// The first session that a node opens once it said that it is ready, and a call in it there.
    pub(crate) async fn first_call(&self, node: usize) -> Result<(Outcome, Duration)> {
        let begun = Instant::now();
        let session = self.clients.open(To::Only(node)).await.map_err(failed)?;
        let (call, arguments) = (self.clients.number(), json!({"ms": 0}));
        let (outcome, _) = self.clients.call(To::Only(node), &session, call, WORK, arguments).await;
        Ok((outcome, begun.elapsed()))
    }

    /// Asks every session once. Returns those that are lost, and other answers than the right one.
    pub(crate) async fn sweep(&self, sessions: &[Session]) -> (u64, Vec<Outcome>) {
        let asked = stream::iter(sessions).map(|session| self.clients.ping(To::Any, session));
        let mut asked = asked.buffer_unordered(AT_A_TIME);
        let (mut lost, mut others) = (0, Vec::new());
        while let Some(outcome) = asked.next().await {
            match outcome {
                Outcome::Result => {}
                Outcome::Lost(_) => lost += 1,
                other => others.push(other),
            }
        }
        (lost, others)
    }

    /// Waits until a sample of the sessions is served at once at every node that runs, twice in a row.
    pub(crate) async fn settle(&self, sessions: &[Session]) -> Result<Duration> {
        let begun = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < 2 {
            if begun.elapsed() > SETTLE_WITHIN {
                bail!("the cluster does not settle within {SETTLE_WITHIN:?}");
            }
            in_a_row = if self.all_serve(sessions).await { in_a_row + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(begun.elapsed())
    }

    /// The same, and every node has its share of the slots, with a copy of each at another one: else there may be nothing
    /// to lose, or more than one fault at once.
    pub(crate) async fn balanced(&self, sessions: &[Session]) -> Result<()> {
        let begun = Instant::now();
        let owners = |node: &usize| self.cluster.nodes[*node].roles != Roles::Edge;
        let owners: Vec<usize> = self.cluster.running().into_iter().filter(owners).collect();
        loop {
            let slots = self.cluster.slots();
            if slots.balanced(&owners, SLOTS) && slots.copied(&owners) {
                return self.settle(sessions).await.map(drop);
            }
            let Slots { owned, uncopied, .. } = slots;
            ensure!(begun.elapsed() < SETTLE_WITHIN, "not balanced and copied: {owned:?}, without copy {uncopied:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn all_serve(&self, sessions: &[Session]) -> bool {
        for node in self.cluster.running() {
            let sample: Vec<&Session> = sessions.choose_multiple(&mut rand::rng(), 32).collect();
            let asked = sample.into_iter().map(|session| self.clients.ping(To::Only(node), session));
            let answers = futures::future::join_all(asked);
            match tokio::time::timeout(Duration::from_secs(1), answers).await {
                Ok(answers) if answers.iter().all(|answer| *answer == Outcome::Result) => {}
                _ => return false,
            }
        }
        true
    }

    /// Waits until most calls of the load are in flight.
    pub(crate) async fn busy(&self, load: &Load) -> Result<()> {
        let (begun, wanted) = (Instant::now(), self.size.calls() as u64 * 10 / 11);
        while load.in_flight() < wanted {
            ensure!(begun.elapsed() < SETTLE_WITHIN, "only {} calls are in flight", load.in_flight());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Asks a sample of the sessions at once and until they are served.
pub(crate) fn probe(
    clients: &Clients,
    sessions: &Arc<Vec<Session>>,
    count: usize,
    since: Instant,
    limit: Duration,
) -> impl Future<Output = Probed> + Send + use<> {
    let all: Vec<usize> = (0..sessions.len()).collect();
    let chosen: Vec<usize> = all.choose_multiple(&mut rand::rng(), count).copied().collect();
    let room = Arc::new(Semaphore::new(PROBED_AT_A_TIME));
    let asked: Vec<_> = chosen
        .into_iter()
        .map(|index| {
            let (clients, sessions, room) = (clients.clone(), Arc::clone(sessions), Arc::clone(&room));
            tokio::spawn(async move {
                let place = room.acquire().await;
                let mut served = pin!(client::until_served(&clients, &sessions[index], since, USUAL, limit));
                if let Ok(served) = tokio::time::timeout(AT_ONCE, &mut served).await {
                    return served;
                }
                drop(place);
                served.await
            })
        })
        .collect();
    async move {
        let mut probed = Probed::default();
        for asked in asked {
            let Ok((served, before)) = asked.await else { continue };
            match served {
                Some(served) => probed.take(served),
                None if before.iter().any(|outcome| matches!(outcome, Outcome::Lost(_))) => probed.lost += 1,
                None => probed.never += 1,
            }
        }
        probed
    }
}

/// What asking many sessions at once brought.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    pub(crate) served: Vec<Duration>,
    /// Of these, the sessions that were not served as if nothing had happened.
    pub(crate) hit: Times,
    /// When the last session was asked first.
    pub(crate) asked: Duration,
    pub(crate) lost: u64,
    /// Not served within the limit.
    pub(crate) never: u64,
}

impl Probed {
    fn take(&mut self, served: Served) {
        self.served.push(served.after);
        self.asked = self.asked.max(served.asked);
        if served.was_hit {
            self.hit.add(served.after);
        }
    }
}

fn failed(outcome: Outcome) -> anyhow::Error {
    anyhow::anyhow!("a session does not open: {outcome:?}")
}
