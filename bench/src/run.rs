//! The conductor: starts upstream and proxies, measures cell by cell, reports and judges.

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::cli::{Pin, RunOptions};
use crate::environment::Environment;
use crate::load::{Load, Place};
use crate::plan::{self, Cell, Via};
use crate::process::{Cores, Server, TempDir};
use crate::proxies::{self, Proxy};
use crate::report::Report;
use crate::result_file;
use crate::sample::Sample;
use crate::wire::Era;

/// A measured cell of one round.
#[derive(Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) via: Via,
    pub(crate) round: u32,
    pub(crate) sample: Sample,
}

/// Runs everything; true when the run is good.
pub(crate) async fn run(options: &RunOptions) -> Result<bool> {
    check(options)?;
    let nginx = proxies::find_nginx(options.nginx.as_deref())?;
    let environment = Environment::read(&nginx, options.gateway.as_deref()).await;
    let folder = TempDir::new()?;
    let mut bench = Bench::start(options, &nginx, &folder).await?;
    let mut measured = Vec::new();
    for &era in &options.eras {
        bench.measure_era(era, &mut measured).await?;
    }
    bench.stop().await?;

    let report = Report::new(&measured, options.ratio_max);
    print!("{report}");
    let run =
        result_file::Run { prefix: "", folder: &options.results, environment: &environment, good: report.is_good() };
    let file = result_file::write(&run, options, &report, &measured)?;
    println!("raw results: {}", file.display());
    Ok(report.is_good())
}

fn check(options: &RunOptions) -> Result<()> {
    options.matrix.check()?;
    if let Some(gateway) = options.gateway.as_deref() {
        ensure!(gateway.is_file(), "no gateway binary at {}", gateway.display());
    }
    Ok(())
}

/// What stays up for the whole run.
struct Bench<'a> {
    options: &'a RunOptions,
    folder: &'a TempDir,
    upstream: Server,
    nginx: Proxy,
}

impl<'a> Bench<'a> {
    async fn start(options: &'a RunOptions, nginx: &std::path::Path, folder: &'a TempDir) -> Result<Self> {
        let upstream = Server::upstream(folder.path(), load_cores(options)).await?;
        let workers = nginx_workers(options);
        let cores = proxy_cores(options);
        let nginx = proxies::start_nginx(nginx, workers, &upstream.endpoint, folder.path(), cores).await?;
        Ok(Self { options, folder, upstream, nginx })
    }

    /// All cells of one era. The gateway is started for each era, because its upstream's era is configured.
    async fn measure_era(&mut self, era: Era, measured: &mut Vec<Measured>) -> Result<()> {
        let mut gateway = self.start_gateway(era).await?;
        for round in 0..self.options.matrix.rounds {
            for cell in plan::cells(&self.options.matrix, era) {
                for via in plan::order(round, gateway.is_some()) {
                    let sample = self.measure(cell, via, gateway.as_ref()).await?;
                    progress(cell, via, round, &sample);
                    measured.push(Measured { cell, via, round, sample });
                }
                if let Some(gateway) = &mut gateway {
                    gateway.server.process.check_alive()?;
                }
                self.nginx.server.process.check_alive()?;
                self.upstream.process.check_alive()?;
            }
        }
        if let Some(gateway) = gateway {
            gateway.server.process.end().await?;
        }
        Ok(())
    }

    async fn start_gateway(&self, era: Era) -> Result<Option<Proxy>> {
        let Some(binary) = self.options.gateway.as_deref() else {
            return Ok(None);
        };
        let (upstream_era, folder, cores) = (self.options.upstream_era, self.folder.path(), proxy_cores(self.options));
        let started = proxies::start_gateway(binary, era, upstream_era, &self.upstream.endpoint, folder, cores);
        started.await.map(Some)
    }

    /// One interval, driven by a generator process of its own.
    async fn measure(&self, cell: Cell, via: Via, gateway: Option<&Proxy>) -> Result<Sample> {
        let (server, pids): (_, &[i32]) = match (via, gateway) {
            (Via::Gateway, Some(gateway)) => (&gateway.server, &gateway.pids),
            (Via::Gateway, None) => bail!("no gateway runs"),
            (Via::Nginx, _) => (&self.nginx.server, &self.nginx.pids),
            (Via::Direct, _) => (&self.upstream, &[]),
        };
        let Cell { era, payload, connections } = cell;
        let (places, path) = (vec![Place::alone(server.endpoint.address)], &server.endpoint.path);
        let load = self.options.matrix.load((payload, connections), places, path, &self.upstream);
        let load = Load { era, proxy_pids: pids.to_vec(), ..load };
        load.sample(load_cores(self.options)).await
    }

    async fn stop(self) -> Result<()> {
        self.nginx.server.process.end().await?;
        self.upstream.process.end().await?;
        Ok(())
    }
}

fn progress(cell: Cell, via: Via, round: u32, sample: &Sample) {
    let Cell { era, payload, connections } = cell;
    let cpu = sample.proxy_cpu.map_or(String::from("-"), |cpu| format!("{:.1}", cpu.clock_us));
    eprintln!(
        "round {round} {era} {payload} B x{connections} {via:?}: {} calls, {:.0}/s, CPU {cpu} us, {} errors {:?}",
        sample.calls, sample.calls_per_second, sample.errors, sample.error_texts
    );
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn proxy_cores(options: &RunOptions) -> Cores {
    match options.pin {
        Pin::None => Cores::Any,
        Pin::Apart | Pin::Together => Cores::Only(core_count() - 1),
    }
}

fn load_cores(options: &RunOptions) -> Cores {
    match options.pin {
        Pin::None => Cores::Any,
        Pin::Apart => Cores::Only(0),
        Pin::Together => proxy_cores(options),
    }
}

/// A tokio runtime counts the cores that it may use; so does this.
fn nginx_workers(options: &RunOptions) -> usize {
    match (options.nginx_workers, proxy_cores(options)) {
        (0, Cores::Any) => core_count(),
        (0, Cores::Only(_)) => 1,
        (given, _) => given,
    }
}
