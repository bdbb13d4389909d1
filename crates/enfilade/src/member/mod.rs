//! A node of a cluster: its parts in the order in which each needs the one before, and how they stop.
//! Links → gossip → registry → (found or join) → sessions → lease → edge.

mod admin;
mod control;
mod entry;
mod gossip;
mod links;
mod replace;
mod settle;
mod share;

use crate::compose::{Front, connectors, registry_limits, tell_of_ends};
use crate::config::{Chosen, Cluster as Section, Config, Role, choose};
use crate::gateway::{Backing, Gateway, STOP_LIMIT};
use crate::identity::Identity;
use crate::keys::{self, Keys};
use crate::minting::Minting;
use admin::Admin;
use anyhow::Context;
use control::Control;
use enfilade_cluster::{Cluster, Prepared, Registration, Switchboard, boottime};
use enfilade_membership::Membership;
use enfilade_mesh::Mesh;
use enfilade_raft::{Registry, Share};
use enfilade_registry::{COMMAND_FORMAT, Command, Reader, Run, SessionKeys};
use enfilade_runtime::{Limit, Pressure, Shutdown};
use enfilade_session::{Node, NodeConfig};
use entry::Entry;
use gossip::Voice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long the registry's leader tries to let another lead before it stops.
const STEP_DOWN: Duration = Duration::from_secs(1);

/// How long balancers have, at least, to send clients elsewhere before a node takes no more.
const LEAVING_MIN: Duration = Duration::from_secs(1);

/// How long a command at the start or the end of a node may take.
const COMMAND: Duration = Duration::from_secs(2);

/// What makes a node a part of a cluster, while it runs.
pub(crate) struct Member {
    run: Run,
    entry: Entry,
    base: Base,
    cluster: Arc<Cluster>,
    is_owner: bool,
    is_removed: bool,
    drain: Duration,
    /// Holds the data directory.
    _identity: Identity,
}

/// What is there before the node belongs to a cluster.
struct Base {
    mesh: Mesh,
    membership: Arc<Membership>,
    share: Share,
    registry: Arc<dyn Registry>,
    switchboard: Arc<Switchboard>,
    voice: Arc<Voice>,
    cluster: watch::Sender<Option<Arc<Cluster>>>,
    /// Gossip's two directions, and the replacement of voters. None ends before gossip does.
    tasks: JoinSet<()>,
    /// Where the above live, but for links.
    control: Control,
}

/// Builds a node of a cluster. It comes back when the node serves.
///
/// # Errors
/// An address cannot be bound, keys or data directory cannot be used, or the cluster does not want this node.
pub(crate) async fn compose(own: Config, section: Section, pressure: Pressure) -> anyhow::Result<Gateway> {
    let front = if section.plays(Role::Edge) { Some(Front::bind(&own, pressure.clone()).await?) } else { None };
    let (messages, answers) = match &front {
        Some(front) => (front.messages(), front.answers()),
        None => {
            let (edge, limit) = (own.edge(), |bytes| Limit::of_memory(bytes, pressure.clone()));
            (limit(edge.messages_bytes_max), limit(edge.answers_bytes_max()))
        }
    };
    let links = links::bind(&section).await?;
    let link_told = links.link_told.clone();
    let dir = own.data_dir.clone();
    let (mut identity, keys) = open(dir.clone(), section.keys.clone()).await?;
    let run = identity.run();

    let base = Base::start(&section, &identity, &keys, links, dir).await?;
    identity = base.settle(&section, identity).await?;
    let Chosen { config, version, .. } = chosen(&*base.registry, own.clone()).await;
    if let Some(raft) = base.share.raft() {
        Admin::new(raft.clone(), own, version).serve(&base.switchboard);
    }

    let session_keys = Arc::new(SessionKeys::new(1, &keys.session)?);
    let registration = Registration {
        name: section.node.as_str().into(),
        link: link_told.into(),
        roles: section.roles(),
        formats: COMMAND_FORMAT.into(),
    };
    let servers: Vec<String> = config.servers.iter().map(|server| server.name.clone()).collect();
    let paths: Vec<String> = config.servers.iter().map(|server| server.path.clone()).collect();
    let timing = section.timing.registry();
    let mut cluster_config = enfilade_cluster::Config::new(run, registration, servers);
    cluster_config.timing = timing;
    (cluster_config.messages, cluster_config.answers) = (messages, answers.clone());
    cluster_config.control = Some(base.control.handle());
    let (mesh, registry) = (base.mesh.clone(), base.registry.clone());
    let prepared = Prepared::new(cluster_config, mesh, &base.share, session_keys.clone(), boottime())?;

    let limits = registry_limits(&config.limits);
    let connectors = connectors(config.upstreams, &answers)?;
    let node_config = NodeConfig { servers: config.servers, limits: config.limits, cursor_secret: keys.cursor };
    let (reader, writer) = (registry.clone(), registry.clone());
    let parts = enfilade_session::Registry { reader, writer, keys: session_keys.clone() };
    let start = if section.plays(Role::Owner) { Node::start } else { Node::idle };
    let slots = Minting::new(prepared.slots(), pressure);
    let node = start(node_config, connectors.clone(), parts, slots, prepared.copies())?;
    registry.on_ended(tell_of_ends(&node));

    let cluster = Arc::new(prepared.start(node.clone(), &base.switchboard));
    base.voice.speak_for(cluster.clone());
    base.cluster.send_replace(Some(cluster.clone()));
    let entry = base.entry(&section, run);
    tokio::select! {
        () = serves(&cluster, &section) => {}
        () = entry.removed() => anyhow::bail!(entry::REMOVED_TEXT),
    }
    configure(&*registry, limits).await;

    let (urls, edge) = match front {
        Some(front) => {
            let (urls, edge) = front.serve(cluster.router(), session_keys, &paths);
            (urls, Some(edge))
        }
        None => (Vec::new(), None),
    };
    let (is_owner, drain) = (section.plays(Role::Owner), Duration::from_millis(section.timing.drain_ms));
    let member = Member { run, entry, base, cluster, is_owner, is_removed: false, drain, _identity: identity };
    Ok(Gateway { urls, edge, node, connectors, backing: Backing::Member(Box::new(member)) })
}

/// The node's configuration with the cluster's in it. A version that this node cannot run is told, and passed over.
async fn chosen(registry: &dyn Registry, own: Config) -> Chosen {
    // What was applied before is applied here afterwards; without a quorum the node takes what it has.
    let _ = tokio::time::timeout(COMMAND, registry.submit(Command::Tick { elapsed_ms: 0 })).await;
    let configuration = registry.configuration();
    let versions = configuration.newest_first().map(|(version, document)| (version, &*document.text));
    let chosen = choose(own, versions, &|name| std::env::var(name).ok());
    for (version, why) in &chosen.refused {
        tracing::error!(version, why, runs = chosen.version, "this node cannot run a version of the configuration");
    }
    tracing::info!(version = chosen.version, "runs the cluster's configuration (0: its own file)");
    chosen
}

/// Resolves when the node can do what it is for.
async fn serves(cluster: &Cluster, section: &Section) {
    if section.plays(Role::Owner) || section.plays(Role::Edge) {
        cluster.ready().await;
    } else {
        // Owners may come later, and may wait for this node to be ready. The sender lives as long as the cluster.
        let _ = cluster.registered().wait_for(|registered| *registered).await;
    }
}

/// Takes the data directory, and reads the cluster's keys.
async fn open(dir: PathBuf, keys_dir: Option<PathBuf>) -> anyhow::Result<(Identity, Keys)> {
    let opened = tokio::task::spawn_blocking(move || {
        let keys = keys::read(&keys_dir.context("a node of a cluster needs keys")?)?;
        anyhow::Ok((Identity::open(&dir, crate::data::random)?, keys))
    });
    opened.await.context("opening the data directory failed")?
}

/// Limits are the cluster's: whoever starts with others sets them for all. Without a leader those before stay.
async fn configure(registry: &dyn Registry, limits: enfilade_registry::Limits) {
    if registry.limits() == limits {
        return;
    }
    match tokio::time::timeout(COMMAND, registry.submit(Command::Configure { limits })).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the registry does not take the limits of this node's configuration"),
        Err(_) => tracing::warn!("the registry does not take the limits of this node's configuration in time"),
    }
}

impl Base {
    async fn start(
        section: &Section,
        identity: &Identity,
        keys: &Keys,
        links: links::Links,
        dir: PathBuf,
    ) -> anyhow::Result<Self> {
        let run = identity.run();
        let control = Control::start()?;
        let switchboard = Switchboard::new();
        let mut mesh_config = enfilade_mesh::Config::new(run);
        mesh_config.cluster = identity.cluster();
        mesh_config.tls = Some(keys.tls.clone());
        mesh_config.control = Some(control.handle());
        let mesh = Mesh::start(mesh_config, links.link, switchboard.clone()).context("links cannot start")?;
        let told = (links.gossip_told, links.link_told);
        let membership = Arc::new(gossip::start(section, keys, run, links.gossip, told, &control).await?);

        let mut tasks = JoinSet::new();
        let dir = dir.join("raft");
        let share = if section.plays(Role::Registry) {
            share::open(section, run, dir, &mesh, &control).await?
        } else {
            let (tell, replicas) = watch::channel(Vec::new());
            tasks.spawn_on(gossip::replicas(membership.roster(), mesh.clone(), tell), &control.handle());
            share::watch(run, &dir, replicas, &mesh, &control).await?
        };
        let registry = share.registry();

        let voice = Arc::new(Voice::new(membership.clone(), mesh.clone(), registry.clone()));
        let (cluster, follows) = watch::channel(None);
        let after = section.replace_after_ms;
        let replace_after = (after > 0).then(|| Duration::from_millis(after));
        let wanted = replace::Wanted { voters: section.voters.len(), replace_after };
        if let Some(raft) = share.raft() {
            switchboard.set_raft(raft.clone());
            tasks.spawn(replace::run(run.node, raft.clone(), mesh.clone(), membership.roster(), wanted));
        }
        tasks.spawn_on(voice.clone().run(), &control.handle());
        tasks.spawn_on(gossip::follow(membership.roster(), mesh.clone(), follows), &control.handle());
        Ok(Self { mesh, membership, share, registry, switchboard, voice, cluster, tasks, control })
    }

    /// Whether the replica found anything on the disk. It says so a moment after it was opened.
    async fn has_registry(&self) -> bool {
        let Some(raft) = self.share.raft() else { return true };
        let mut status = raft.status();
        let initialised = status.wait_for(|status| status.is_initialised);
        tokio::time::timeout(COMMAND, initialised).await.is_ok_and(|status| status.is_ok())
    }

    /// Waits until the node belongs to a cluster.
    async fn settle(&self, section: &Section, mut identity: Identity) -> anyhow::Result<Identity> {
        if let Some(cluster) = identity.cluster()
            && !self.has_registry().await
        {
            anyhow::bail!(
                "the data directory belongs to cluster {cluster}, and its registry is gone: this node might vote twice; \
                 start with an empty data directory to join as a new node"
            );
        }
        let entry = Arc::new(self.entry(section, identity.run()));
        entry.serve(&self.switchboard);
        if identity.cluster().is_some() {
            if self.share.raft().is_none() {
                // A replica has on its disk what it had; this node has nothing yet.
                let mut applied = self.registry.applied();
                tokio::select! {
                    _ = applied.wait_for(|applied| *applied > 0) => {}
                    () = entry.removed() => anyhow::bail!(entry::REMOVED_TEXT),
                }
            }
            return Ok(identity);
        }
        let cluster = entry.settle().await?;
        tracing::info!(%cluster, node = %identity.run(), "belongs to the cluster");
        self.mesh.set_cluster(cluster);
        let bound = tokio::task::spawn_blocking(move || identity.belongs_to(cluster).map(|()| identity));
        Ok(bound.await.context("writing the data directory failed")??)
    }

    fn entry(&self, section: &Section, run: Run) -> Entry {
        Entry {
            node: run.node,
            name: section.node.clone(),
            voters: section.voters.clone(),
            mesh: self.mesh.clone(),
            share: self.share.clone(),
            roster: self.membership.roster(),
        }
    }
}

impl Member {
    pub(crate) fn registry(&self) -> Arc<dyn Reader> {
        self.base.registry.clone()
    }

    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.clone()
    }

    /// The runtime of what must not be late.
    pub(crate) fn control(&self) -> tokio::runtime::Handle {
        self.base.control.handle()
    }

    /// Waits for a part to end, which none does by itself.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let mut status = self.base.registry.status();
        tokio::select! {
            () = self.entry.removed() => {
                self.is_removed = true;
                anyhow::anyhow!(entry::REMOVED_TEXT)
            }
            part = self.cluster.failed() => anyhow::anyhow!("the part {part:?} ended"),
            _ = self.base.tasks.join_next() => anyhow::anyhow!("gossip, or what follows it, ended by itself"),
            failed = status.wait_for(|status| status.failed.is_some()) => {
                let why = failed.ok().and_then(|status| status.failed.clone());
                anyhow::anyhow!("the registry failed: {}", why.as_deref().unwrap_or("it ended"))
            }
        }
    }

    /// Gives the node's slots to others, if there are any. What is not handed over in time others take by themselves.
    pub(crate) async fn hand_over(&self) {
        // What a removed node has, others have taken: whoever it would give it to is none of them.
        if !self.is_owner || self.is_removed {
            return;
        }
        self.base.voice.drain();
        let handed_over = tokio::select! {
            biased;
            () = self.nothing_to_give() => true,
            (drained, ()) = async { tokio::join!(self.cluster.drain(self.drain), tokio::time::sleep(LEAVING_MIN)) } => {
                drained
            }
        };
        if !handed_over {
            tracing::warn!("slots are not handed over in time: others take them once this node's lease is over");
        }
    }

    /// Resolves when nobody is there to take what this node has: neither slots, nor, if only one other node is left, the
    /// copies of that one's.
    async fn nothing_to_give(&self) {
        let (mut roster, mut applied) = (self.base.membership.roster(), self.base.registry.applied());
        loop {
            let members = self.base.registry.members();
            let alive = roster.borrow_and_update().clone();
            applied.borrow_and_update();
            let others = alive.runs().filter(|run| run.node != self.run.node && members.takes_slots(*run)).count();
            let owns = self.base.registry.slot_table().records().iter().any(|record| record.owner == Some(self.run));
            if others == 0 || others == 1 && !owns {
                return;
            }
            tokio::select! {
                changed = roster.changed() => if changed.is_err() { return },
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Stops what the node has of the cluster; it serves nobody any more.
    pub(crate) async fn stop(mut self, shutdown: &mut Shutdown) {
        // First, so that leases of others are renewed all the time.
        self.let_another_lead().await;
        let base = &mut self.base;
        shutdown.step("lease", STOP_LIMIT, self.cluster.shutdown()).await;
        shutdown.step("gossip", STOP_LIMIT, base.membership.leave()).await;
        shutdown.step("registry", STOP_LIMIT, base.share.close()).await;
        shutdown.step("links", STOP_LIMIT, base.mesh.close()).await;
        base.tasks.shutdown().await;
    }

    async fn let_another_lead(&self) {
        let Some(raft) = self.base.share.raft() else { return };
        let alive = self.base.membership.roster();
        let others_vote = raft
            .status()
            .borrow()
            .voters
            .iter()
            .any(|voter| *voter != self.run.node && alive.borrow().get(*voter).is_some());
        if raft.is_leader()
            && others_vote
            && let Err(error) = raft.step_down(STEP_DOWN).await
        {
            tracing::info!(%error, "no other voter leads now: the others elect one");
        }
    }
}
