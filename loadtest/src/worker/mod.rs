//! One worker: its share of the sessions, their streams and the calls. It knows no phases; it does what it is told, counts
//! by second, and sends what it counted to the coordinator once a second.

mod churn;
mod hold;
mod link;
mod open;
mod pool;
mod requests;
mod sessions;
mod shared;
mod socket;
mod stream;
mod sweep;
mod targets;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use enfilade_process::parent_gone;
use tokio::task::spawn_local;

use crate::cli::WorkerOptions;
use crate::clock::Clock;
use crate::limits;
use crate::proto::{Plan, to_worker};
use crate::worker::hold::Load;
use crate::worker::link::Link;
use crate::worker::shared::Shared;

/// How often it says what it counted.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Does what a coordinator says, until it is done.
pub(crate) async fn run(options: &WorkerOptions) -> Result<()> {
    limits::raise_descriptors()?;
    tokio::select! {
        done = work(options) => done,
        () = parent_gone(), if options.with_parent => bail!("the program that started it is gone"),
    }
}

async fn work(options: &WorkerOptions) -> Result<()> {
    let mut link = Link::dial(options).await?;
    let Some(to_worker::Message::Plan(plan)) = link.next().await? else { bail!("no plan came first") };
    let shared = prepare(plan, options).await?;
    let opening = spawn_local(open::all(Rc::clone(&shared)));
    let mut load: Option<Load> = None;
    let mut tick = tokio::time::interval(REPORT_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => link.report(&shared).await?,
            message = link.next() => match message? {
                Some(to_worker::Message::Hold(hold)) => {
                    opening.abort();
                    load = Some(Load::begin(&shared, hold.second));
                }
                Some(to_worker::Message::Rate(rate)) => {
                    load.as_mut().context("nothing is held yet")?.calls(rate.second, rate.calls_per_second);
                }
                Some(to_worker::Message::Targets(targets)) => shared.targets.replace(&targets.urls).await?,
                Some(to_worker::Message::Finish(_)) => break,
                Some(to_worker::Message::Plan(_)) | None => bail!("the coordinator is gone"),
            },
        }
    }
    drop(load);
    let mut finish = spawn_local(sweep::finish(Rc::clone(&shared)));
    loop {
        tokio::select! {
            _ = tick.tick() => link.report(&shared).await?,
            _ = &mut finish => break,
        }
    }
    link.report(&shared).await?;
    link.done().await
}

async fn prepare(plan: Plan, options: &WorkerOptions) -> Result<Rc<Shared>> {
    let scenario = serde_json::from_str(&plan.scenario).context("the plan holds no scenario")?;
    let clock = Clock::starting_at(plan.start_unix_ms);
    Shared::new(scenario, clock, plan.worker, plan.workers, &plan.targets, options.source).await
}
