//! The nodes of `up`: all are started, one that dies is started again, and all are stopped in order.
//! Rule: a node that never served is a mistake to be told, not an accident to be survived.

use super::child::{Child, Event, Program, Told};
use super::plan::{Addresses, Plan};
use anyhow::Context;
use std::fs::{OpenOptions, rename};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// The longest that all nodes may take until they serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A node that dies is started again after this time at first; it doubles with each failure.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_DOUBLINGS_MAX: u32 = 5;

/// A node that has served for this long has recovered.
const RECOVERED: Duration = Duration::from_secs(10);

/// After this many failures a node looks for other addresses between nodes: its own may be taken.
const FAILURES_WITH_ADDRESSES_MAX: u32 = 3;

/// What a stop takes beyond the time that calls may take to finish.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// How long a node may take that was told to stop at once.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Events wait here; nodes that say more wait with them.
const EVENTS_MAX: usize = 64;

/// Why there is no cluster.
#[derive(Debug)]
pub(super) enum Failed {
    /// A node refused to start with this exit code, after saying why.
    Refused {
        name: String,
        code: u8,
    },
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// All nodes.
pub(super) struct Nodes {
    plan: Plan,
    program: Program,
    nodes: Vec<Node>,
    known: Vec<Addresses>,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
}

#[derive(Default)]
struct Node {
    child: Option<Child>,
    /// Which start it is: events of earlier ones mean nothing.
    start: u64,
    urls: Vec<String>,
    serving_since: Option<Instant>,
    failures: u32,
    again_at: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(plan: Plan, program: Program) -> Self {
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        let nodes = (0..plan.nodes()).map(|_| Node::default()).collect();
        let known = vec![Addresses::default(); plan.nodes()];
        Self { plan, program, nodes, known, told, tell }
    }

    /// Starts all nodes and waits until each of them serves.
    ///
    /// # Errors
    /// One of them ended, or took too long.
    pub(super) async fn start(&mut self) -> Result<(), Failed> {
        let until = Instant::now() + START_LIMIT;
        // The first one's addresses are what the others are given to find it.
        self.spawn(0)?;
        while self.known[0].gossip.is_none() {
            self.starting(until).await?;
        }
        (1..self.plan.nodes()).try_for_each(|node| self.spawn(node))?;
        while self.nodes.iter().any(|node| node.serving_since.is_none()) {
            self.starting(until).await?;
        }
        Ok(())
    }

    /// Takes one event during the start.
    async fn starting(&mut self, until: Instant) -> Result<(), Failed> {
        let told = timeout_at(until, self.told.recv()).await.context("the nodes do not serve in time")?;
        let Some(told) = told else { return Ok(()) };
        if let Some((node, ended)) = self.take(told) {
            let name = self.plan.name(node);
            return Err(match ended.and_then(|ended| ended.code()).and_then(|code| u8::try_from(code).ok()) {
                Some(code) if code != 0 => Failed::Refused { name, code },
                _ => Failed::Other(anyhow::anyhow!("{name} ended before it served: {}", shown(ended))),
            });
        }
        Ok(())
    }

    /// Where clients reach each node.
    pub(super) fn urls(&self) -> impl Iterator<Item = &[String]> {
        self.nodes.iter().map(|node| node.urls.as_slice())
    }

    /// Starts nodes again that end; never returns.
    pub(super) async fn keep(&mut self) {
        loop {
            let next = self.nodes.iter().filter_map(|node| node.again_at).min();
            tokio::select! {
                told = self.told.recv() => {
                    let Some(told) = told else { return };
                    if let Some((node, ended)) = self.take(told) {
                        self.fell(node, ended);
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.raise(),
            }
        }
    }

    /// Notes what was told; gives the node that ended.
    fn take(&mut self, (node, start, event): Told) -> Option<(usize, Option<ExitStatus>)> {
        let (own, known) = (&mut self.nodes[node], &mut self.known[node]);
        if start != own.start {
            return None;
        }
        match event {
            Event::Link(address) => known.link = Some(address),
            Event::Gossip(address) => known.gossip = Some(address),
            Event::Ready(url) => {
                own.urls.push(url);
                if own.urls.len() == self.plan.urls_of_each() {
                    own.serving_since = Some(Instant::now());
                    known.listen = addresses(&own.urls);
                    tracing::info!(node = self.plan.name(node), "serves");
                }
            }
            Event::Ended(ended) => {
                own.child = None;
                return Some((node, ended));
            }
        }
        None
    }

    /// Plans the next start of a node that ended by itself.
    fn fell(&mut self, node: usize, ended: Option<ExitStatus>) {
        let own = &mut self.nodes[node];
        if own.serving_since.take().is_some_and(|since| since.elapsed() >= RECOVERED) {
            own.failures = 0;
        }
        let delay = BACKOFF_MIN * 2_u32.pow(own.failures.min(BACKOFF_DOUBLINGS_MAX));
        own.failures += 1;
        own.again_at = Some(Instant::now() + delay);
        if own.failures > FAILURES_WITH_ADDRESSES_MAX {
            (self.known[node].link, self.known[node].gossip) = (None, None);
        }
        let (name, ended) = (self.plan.name(node), shown(ended));
        tracing::warn!(node = name, ended, again_in_ms = delay.as_millis(), "a node ended; it is started again");
    }

    /// Starts the nodes whose time has come.
    fn raise(&mut self) {
        let now = Instant::now();
        for node in 0..self.nodes.len() {
            if self.nodes[node].again_at.is_some_and(|at| at <= now) {
                self.nodes[node].again_at = None;
                if let Err(error) = self.spawn(node) {
                    tracing::error!(node = self.plan.name(node), error = format!("{error:#}"), "cannot be started");
                    self.fell(node, None);
                }
            }
        }
    }

    fn spawn(&mut self, node: usize) -> anyhow::Result<()> {
        let (file, name) = (self.plan.file(node), self.plan.name(node));
        let config = self.plan.config(node, &self.known);
        let text = serde_saphyr::to_string(&config).context("the configuration of a node cannot be written as YAML")?;
        write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
        let own = &mut self.nodes[node];
        own.start += 1;
        own.urls.clear();
        own.serving_since = None;
        let child = Child::start(&self.program, &file, &name, (node, own.start), self.tell.clone())?;
        tracing::info!(node = name, pid = child.pid, start = own.start, "started");
        own.child = Some(child);
        Ok(())
    }

    /// Stops one node after the other, the last one first, so that each can hand its sessions on while most are there.
    /// Gives the names of those that did not stop in order.
    pub(super) async fn stop(mut self, drain: Duration) -> Vec<String> {
        let mut late = Vec::new();
        for node in (0..self.nodes.len()).rev() {
            if self.nodes[node].child.is_some() && !self.stop_one(node, drain + STOP_GRACE).await {
                late.push(self.plan.name(node));
            }
        }
        late
    }

    /// Whether it stopped in order.
    async fn stop_one(&mut self, node: usize, limit: Duration) -> bool {
        for limit in [limit, AT_ONCE] {
            if let Some(child) = &self.nodes[node].child {
                child.terminate();
            }
            if let Ok(ended) = timeout(limit, self.end_of(node)).await {
                return ended.is_some_and(|ended| ended.success());
            }
        }
        // Kills it.
        self.nodes[node].child = None;
        false
    }

    async fn end_of(&mut self, node: usize) -> Option<ExitStatus> {
        loop {
            let told = self.told.recv().await?;
            match self.take(told) {
                Some((ended, status)) if ended == node => return status,
                _ if self.nodes[node].child.is_none() => return None,
                _ => {}
            }
        }
    }
}

/// Each listening address once, in order.
fn addresses(urls: &[String]) -> Vec<SocketAddr> {
    let of = |url: &String| url.strip_prefix("http://")?.split('/').next()?.parse().ok();
    let mut addresses: Vec<SocketAddr> = urls.iter().filter_map(of).collect();
    addresses.dedup();
    addresses
}

fn shown(ended: Option<ExitStatus>) -> String {
    ended.map_or_else(|| "nobody knows how".to_owned(), |ended| ended.to_string())
}

/// For its owner only: headers of upstreams are in it.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(text.as_bytes())?;
    rename(&fresh, file)
}
