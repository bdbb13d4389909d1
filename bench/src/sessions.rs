//! How fast a cluster creates sessions over HTTP, durably, and what a session takes in the memory of each voter.
//!
//! Sessions are opened at all nodes in turn, by a closed loop on persistent connections; each answer to `initialize`
//! means that a majority has the session on its disk.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enfilade_process::{CpuTime, resident_bytes};
use hdrhistogram::Histogram;
use hyper::Uri;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::SessionsOptions;
use crate::client::{Client, Fault};
use crate::cluster::{Cluster, REPLICAS_MAX, Setup};
use crate::environment::Environment;
use crate::process::{Cores, Server, TempDir};
use crate::result_file;
use crate::wire::{CallTemplate, Era};

const LATENCY_US_MAX: u64 = 600_000_000;
const ERROR_TEXTS_MAX: usize = 3;
/// Sessions that are used before those whose memory is measured.
const WARM_UP: u64 = 20_000;
/// Sessions of which one rate is given while filling.
const STEP: usize = 20_000;
/// Text of a call that uses a session.
const CALL_BYTES: usize = 200;
/// How long the nodes are left alone while their memory is read, once a second; the least counts. The allocator gives pages
/// back after 10 s and more, and once a minute nodes take some for a while, to note which sessions are in use.
const SETTLE_S: u32 = 30;

/// Sessions that were created one after the other on many connections.
#[derive(Debug, Serialize)]
struct Created {
    sessions: u64,
    errors: u64,
    error_texts: Vec<String>,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// CPU of all nodes per session.
    cpu_us: f64,
}

/// What is done with each session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is created.
    No,
    /// It is created, and makes one call through an upstream session of its own.
    OneCall,
}

/// Sessions that stay, and the memory of all nodes together before and after.
#[derive(Debug, Serialize)]
struct Filling {
    steps: Vec<Created>,
    before_bytes: u64,
    after_bytes: u64,
    per_session_and_voter: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    callers: usize,
    timed: Created,
    filling: Option<Filling>,
    used: Option<Filling>,
    rate_min: Option<f64>,
    bytes_max: Option<f64>,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &SessionsOptions) -> Result<bool> {
    ensure!(
        options.nodes > 0 && options.callers > 0 && options.sessions > 0,
        "a run needs nodes, callers and sessions"
    );
    let environment = Environment::read("nginx".as_ref(), Some(&options.gateway)).await;
    let folder = TempDir::new()?;
    let data = options.data_dir.clone().unwrap_or_else(|| folder.path().join("data"));
    let upstream = Server::upstream(folder.path(), Cores::Any).await?;
    let setup = Setup { gateway: &options.gateway, upstream: &upstream.endpoint, data: &data, folder: folder.path() };
    let mut cluster = Cluster::start(setup, options.nodes).await?;
    // The first connections and the first sessions pay for what is made once.
    cluster.create(options.callers, options.callers as u64, Use::OneCall).await?;
    let timed = cluster.create(options.callers, options.sessions, Use::No).await?;
    eprintln!("{timed}");
    let filling = cluster.fill(options.callers, options.memory_sessions, Use::No).await?;
    cluster.stop()?;
    let used = match options.used_sessions {
        0 => None,
        sessions => used(Setup { data: &data.join("used"), ..setup }, options, sessions).await?,
    };
    upstream.process.end().await?;
    let (nodes, callers) = (options.nodes, options.callers);
    let (rate_min, bytes_max) = (options.rate_min, options.bytes_max);
    let report = Report { nodes, callers, timed, filling, used, rate_min, bytes_max };
    print!("{report}");
    let good = report.is_good();
    let run = result_file::Run { prefix: "sessions-", folder: &options.results, environment: &environment, good };
    println!("raw results: {}", result_file::write::<_, _, ()>(&run, options, &report, &[])?.display());
    Ok(good)
}

/// The memory of sessions that are used, in a cluster of their own: where others were before, memory that was free
/// already would be taken for none.
async fn used(setup: Setup<'_>, options: &SessionsOptions, sessions: u64) -> Result<Option<Filling>> {
    let mut cluster = Cluster::start(setup, options.nodes).await?;
    // The first pay for what nodes make once: buffers, tables of slots, room of the allocator's.
    let first = cluster.create(options.callers, WARM_UP, Use::OneCall).await?;
    ensure!(first.errors == 0, "errors before anything was measured: {:?}", first.error_texts);
    let filling = cluster.fill(options.callers, sessions, Use::OneCall).await?;
    cluster.stop()?;
    Ok(filling)
}

impl Cluster {
    /// Creates that many sessions, and measures the memory that they take. None for none.
    async fn fill(&mut self, callers: usize, sessions: u64, what: Use) -> Result<Option<Filling>> {
        if sessions == 0 {
            return Ok(None);
        }
        let (mut steps, before_bytes) = (Vec::new(), self.resident_bytes().await?);
        for from in (0..sessions).step_by(STEP) {
            let step = self.create(callers, (sessions - from).min(STEP as u64), what).await?;
            eprintln!("{step}");
            steps.push(step);
        }
        let after_bytes = self.resident_bytes().await?;
        let created: u64 = steps.iter().map(|step| step.sessions).sum();
        let voters = self.pids.len().min(REPLICAS_MAX) as f64;
        let per_session_and_voter = after_bytes.saturating_sub(before_bytes) as f64 / (created.max(1) as f64 * voters);
        Ok(Some(Filling { steps, before_bytes, after_bytes, per_session_and_voter }))
    }

    /// Creates that many sessions on that many connections, spread over the nodes.
    async fn create(&mut self, callers: usize, sessions: u64, what: Use) -> Result<Created> {
        let shared = Rc::new(Shared::new(sessions, what)?);
        let mut clients = Vec::new();
        for (caller, endpoint) in (0..callers).zip(self.endpoints().cycle()) {
            let uri: Uri = endpoint.path.parse().context("the path is no URI")?;
            clients.push(Client::connect(endpoint.address, uri, caller as u64).await?);
        }
        let (cpu, begun) = (CpuTime::of(&self.pids)?, Instant::now());
        let mut loops = JoinSet::new();
        for client in clients {
            loops.spawn_local(drive(client, shared.clone()));
        }
        while loops.join_next().await.is_some() {}
        let (elapsed, cpu) = (begun.elapsed(), CpuTime::of(&self.pids)?.since(cpu));
        self.check_alive()?;
        Ok(shared.created(elapsed, cpu.clock))
    }

    /// Resident memory of all nodes, once they are at rest.
    async fn resident_bytes(&self) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..SETTLE_S {
            tokio::time::sleep(Duration::from_secs(1)).await;
            least = least.min(self.pids.iter().map(|&pid| resident_bytes(pid)).sum::<Result<_, _>>()?);
        }
        Ok(least)
    }
}

/// What the connections of a run share.
struct Shared {
    call: Option<CallTemplate>,
    left: Cell<u64>,
    done: Cell<u64>,
    errors: Cell<u64>,
    error_texts: RefCell<Vec<String>>,
    took_us: RefCell<Histogram<u64>>,
}

impl Shared {
    fn new(sessions: u64, what: Use) -> Result<Self> {
        Ok(Self {
            call: (what == Use::OneCall).then(|| CallTemplate::new(Era::Legacy, CALL_BYTES)),
            left: Cell::new(sessions),
            done: Cell::new(0),
            errors: Cell::new(0),
            error_texts: RefCell::default(),
            took_us: RefCell::new(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?),
        })
    }

    fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn failed(&self, fault: &Fault) {
        self.errors.set(self.errors.get() + 1);
        let mut texts = self.error_texts.borrow_mut();
        if texts.len() < ERROR_TEXTS_MAX {
            texts.push(fault.to_string());
        }
    }

    fn created(&self, elapsed: Duration, cpu: Duration) -> Created {
        let took_us = self.took_us.borrow();
        let ms = |us: u64| us as f64 / 1e3;
        let sessions = self.done.get();
        Created {
            sessions,
            errors: self.errors.get(),
            error_texts: self.error_texts.borrow().clone(),
            per_second: sessions as f64 / elapsed.as_secs_f64().max(1e-9),
            p50_ms: ms(took_us.value_at_quantile(0.5)),
            p99_ms: ms(took_us.value_at_quantile(0.99)),
            max_ms: ms(took_us.max()),
            cpu_us: cpu.as_secs_f64() * 1e6 / sessions.max(1) as f64,
        }
    }
}

/// One connection: creates sessions until all are made. A connection that breaks ends.
async fn drive(mut client: Client, shared: Rc<Shared>) {
    while shared.take() {
        let begun = Instant::now();
        let created = match &shared.call {
            Some(call) => client.create_and_use(call).await,
            None => client.create_session().await,
        };
        match created {
            Ok(()) => {
                let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                shared.took_us.borrow_mut().saturating_record(took_us);
                shared.done.set(shared.done.get() + 1);
            }
            Err(fault) => {
                shared.failed(&fault);
                if !client.is_usable() {
                    return;
                }
            }
        }
    }
}

impl Filling {
    fn errors(&self) -> u64 {
        self.steps.iter().map(|step| step.errors).sum()
    }

    fn is_larger(&self, bytes_max: Option<f64>) -> bool {
        bytes_max.is_some_and(|max| self.per_session_and_voter > max)
    }
}

impl Report {
    fn is_good(&self) -> bool {
        let mut fillings = [&self.filling, &self.used].into_iter().flatten();
        let steps = self.filling.iter().flat_map(|filling| &filling.steps).chain([&self.timed]);
        let slow = |created: &Created| self.rate_min.is_some_and(|min| created.per_second < min);
        let slow = steps.into_iter().any(slow);
        self.timed.errors == 0 && !slow && !fillings.any(|all| all.errors() > 0 || all.is_larger(self.bytes_max))
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms, CPU of all nodes {:.0} us each, {} \
             errors {:?}",
            self.sessions,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.cpu_us,
            self.errors,
            self.error_texts
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.rate_min.map_or("no limit".to_owned(), |min| format!("at least {min:.0}/s"));
        writeln!(f, "{} nodes, {} connections, over HTTP ({limit})", self.nodes, self.callers)?;
        writeln!(f, "{}", self.timed)?;
        let limit = self.bytes_max.map_or("no limit".to_owned(), |max| format!("at most {max:.0}"));
        for (filling, what) in [(&self.filling, "created"), (&self.used, "used for one call each")] {
            let Some(filling) = filling else { continue };
            filling.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (before, after) = (mib(filling.before_bytes), mib(filling.after_bytes));
            writeln!(
                f,
                "memory of all nodes {before:.0} -> {after:.0} MiB: {:.0} bytes per session and voter with what its owner \
                 keeps, sessions {what} ({limit})",
                filling.per_session_and_voter
            )?;
        }
        writeln!(f, "{}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}
