//! The closed loop: N connections, each sending its next call when the last one is answered.
//! Every answer is checked; an interval ends after its time or its number of calls, whichever comes first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use enfilade_process::{CpuTime, MachineTime};
use hdrhistogram::Histogram;
use hyper::Uri;
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;
use tokio::time::{interval_at, timeout};

use crate::client::{Client, Fault};
use crate::load::{Load, Place};
use crate::sample::{CpuPerCall, Sample};
use crate::wire::{CallTemplate, Era};

/// Longest time for the answers that are still out when the interval ends.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node with more calls in flight than its share opens sessions elsewhere, until gossip says otherwise (2 s).
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(250);
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const ERROR_TEXTS_MAX: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measured,
    Over,
}

/// What the connections of this thread share.
struct Shared {
    phase: Cell<Phase>,
    calls: Cell<u64>,
    calls_max: u64,
    latency_ns: RefCell<Histogram<u64>>,
    /// From one call of a connection to its next, at least.
    pause: Option<Duration>,
    errors: Cell<u64>,
    error_texts: RefCell<Vec<String>>,
    /// Connections that still send.
    active: Cell<usize>,
    /// Connections that are open or have failed to open.
    opened: Cell<usize>,
    /// Nobody calls before all are open: to those that are not, the node would seem to do more than its share.
    all_open: Barrier,
    changed: Notify,
}

impl Shared {
    fn new(options: &Load) -> Result<Self> {
        Ok(Self {
            phase: Cell::new(Phase::Warmup),
            calls: Cell::new(0),
            calls_max: options.calls_max,
            latency_ns: RefCell::new(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?),
            pause: options.calls_per_second.map(|rate| Duration::from_secs_f64(options.connections as f64 / rate)),
            errors: Cell::new(0),
            error_texts: RefCell::new(Vec::new()),
            active: Cell::new(options.connections),
            opened: Cell::new(0),
            all_open: Barrier::new(options.connections),
            changed: Notify::new(),
        })
    }

    fn answered(&self, latency: Duration) {
        if self.phase.get() != Phase::Measured {
            return;
        }
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.borrow_mut().saturating_record(nanos);
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() >= self.calls_max {
            self.changed.notify_one();
        }
    }

    fn failed(&self, count: u64, text: impl ToString) {
        self.errors.set(self.errors.get() + count);
        let mut texts = self.error_texts.borrow_mut();
        if texts.len() < ERROR_TEXTS_MAX {
            texts.push(text.to_string());
        }
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.changed.notified().await;
        }
    }
}

/// Runs one cell.
pub(crate) async fn measure(options: &Load) -> Result<Sample> {
    ensure!(options.connections > 0 && options.calls_max > 0, "a cell needs connections and calls");
    ensure!(!options.places.is_empty(), "a cell needs a place");
    let shared = Rc::new(Shared::new(options)?);
    let mut loops = start_loops(options, &shared)?;
    let opened = shared.until(|s| s.opened.get() == options.connections);
    let within = Duration::from_millis(options.opened_within_ms);
    if timeout(within, opened).await.is_err() {
        let missing = options.connections - shared.opened.get();
        shared.failed(missing as u64, format!("{missing} connections did not open within {within:?}"));
        return sample(&shared, Duration::ZERO, &Meters::default());
    }
    tokio::time::sleep(Duration::from_millis(options.warmup_ms)).await;

    let before = Meters::read(options)?;
    let started = Instant::now();
    shared.phase.set(Phase::Measured);
    let over = shared.until(|s| s.calls.get() >= s.calls_max || s.active.get() == 0);
    // Reaching the time limit is the normal end of a slow cell.
    let _ = timeout(Duration::from_secs_f64(options.seconds), over).await;
    shared.phase.set(Phase::Over);
    let elapsed = started.elapsed();
    let used = Meters::read(options)?.since(&before);

    let finished = async { while loops.join_next().await.is_some() {} };
    if timeout(PATIENCE, finished).await.is_err() {
        shared.failed(shared.active.get() as u64, format!("no answer within {PATIENCE:?} after the end"));
    }
    sample(&shared, elapsed, &used)
}

fn start_loops(options: &Load, shared: &Rc<Shared>) -> Result<JoinSet<()>> {
    let uri: Uri = options.path.parse().context("the path is no URI")?;
    let template = Rc::new(CallTemplate::new(options.era, options.payload));
    let mut loops = JoinSet::new();
    for (number, place) in (0..options.connections as u64).zip(options.places.iter().cycle()) {
        let open = open(place.clone(), uri.clone(), options.era, number);
        let (place, shared, template) = (place.clone(), shared.clone(), template.clone());
        loops.spawn_local(async move {
            let opened = open.await;
            shared.opened.set(shared.opened.get() + 1);
            shared.changed.notify_one();
            shared.all_open.wait().await;
            // With a pause the connections take turns.
            let turn = shared.pause.map(|pause| pause.mul_f64(number as f64 / shared.active.get() as f64));
            if let Err(fault) = drive(opened, &place, &shared, &template, turn).await {
                shared.failed(1, fault);
            }
            shared.active.set(shared.active.get() - 1);
            shared.changed.notify_one();
        });
    }
    Ok(loops)
}

/// A session of the wanted owner.
async fn open(place: Place, uri: Uri, era: Era, number: u64) -> Result<Client, Fault> {
    let Some(owner) = &place.owner else {
        return Client::open(place.address, uri, era, number).await;
    };
    loop {
        let mut client = Client::open(owner.address, uri.clone(), era, number).await?;
        if owner.address != place.address {
            client.move_to(place.address).await?;
        }
        if client.owner().await? == owner.name {
            return Ok(client);
        }
        client.close().await?;
        tokio::time::sleep(ELSEWHERE_PAUSE).await;
    }
}

/// One connection's life. A wrong answer is counted and the loop goes on; a broken connection ends it.
async fn drive(
    opened: Result<Client, Fault>,
    place: &Place,
    shared: &Shared,
    template: &CallTemplate,
    turn: Option<Duration>,
) -> Result<(), Fault> {
    let mut client = opened?;
    let mut pauses = shared.pause.map(|pause| interval_at((Instant::now() + turn.unwrap_or_default()).into(), pause));
    while shared.phase.get() != Phase::Over {
        if let Some(pauses) = &mut pauses {
            pauses.tick().await;
        }
        let sent = Instant::now();
        match client.call(template).await {
            Ok(()) => shared.answered(sent.elapsed()),
            Err(fault) if client.is_usable() => shared.failed(1, fault),
            Err(fault) => return Err(fault),
        }
    }
    if let Some(owner) = &place.owner {
        let found = client.owner().await?;
        if found != owner.name {
            return Err(Fault::Elsewhere(found));
        }
    }
    client.close().await
}

/// CPU of the three parties, and of the machine.
#[derive(Default)]
struct Meters {
    proxy: Option<CpuTime>,
    upstream: Option<CpuTime>,
    generator: Option<CpuTime>,
    machine: MachineTime,
}

impl Meters {
    fn read(options: &Load) -> Result<Self> {
        let some = |pids: &[i32]| (!pids.is_empty()).then(|| CpuTime::of(pids)).transpose();
        Ok(Self {
            proxy: some(&options.proxy_pids)?,
            upstream: some(&options.upstream_pids)?,
            generator: some(&[nix::unistd::getpid().as_raw()])?,
            machine: MachineTime::now()?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        let since = |now: Option<CpuTime>, then: Option<CpuTime>| Some(now?.since(then?));
        Self {
            proxy: since(self.proxy, before.proxy),
            upstream: since(self.upstream, before.upstream),
            generator: since(self.generator, before.generator),
            machine: self.machine.since(before.machine),
        }
    }

    /// CPU time that none of the three parties used.
    fn others(&self) -> Duration {
        let parties = [self.proxy, self.upstream, self.generator].into_iter().flatten();
        self.machine.busy.saturating_sub(parties.map(|party| party.clock).sum())
    }
}

fn sample(shared: &Shared, elapsed: Duration, used: &Meters) -> Result<Sample> {
    let calls = shared.calls.get();
    let latency = shared.latency_ns.borrow();
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let per_call = |time: Option<CpuTime>| {
        let time = time.filter(|_| calls > 0)?;
        let each = |duration: Duration| duration.as_secs_f64() * 1e6 / calls as f64;
        Some(CpuPerCall { clock_us: each(time.clock), stat_us: each(time.stat) })
    };
    let seconds = elapsed.as_secs_f64();
    let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    Ok(Sample {
        calls,
        errors: shared.errors.get(),
        error_texts: shared.error_texts.borrow().clone(),
        seconds,
        calls_per_second: if seconds > 0.0 { calls as f64 / seconds } else { 0.0 },
        p50_us: micros(latency.value_at_quantile(0.5)),
        p99_us: micros(latency.value_at_quantile(0.99)),
        max_us: micros(latency.max()),
        proxy_cpu: per_call(used.proxy),
        upstream_cpu: per_call(used.upstream),
        generator_cpu: per_call(used.generator),
        others_cores: per_second(used.others().as_secs_f64()),
        stolen_cores: per_second(used.machine.stolen.as_secs_f64()),
    })
}
