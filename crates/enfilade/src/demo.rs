//! The demo MCP server: alone (`enfilade demo`), or as the upstreams of an `up` without configuration.

use crate::cli::{Demo, DemoEra};
use anyhow::Context;
use enfilade_runtime::Signals;
use enfilade_testkit::everything::{self, Era, Options};
use std::net::Ipv4Addr;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The first demo upstream.
pub(crate) const FIRST: &str = "everything";

/// Serves the demo until a signal, or until standard input ends.
///
/// # Errors
/// The address cannot be bound, or serving failed.
pub(crate) async fn run(demo: Demo) -> anyhow::Result<()> {
    let signals = Signals::catch().context("cannot catch signals")?;
    let era = match demo.era {
        DemoEra::Both => Era::Both,
        DemoEra::Legacy => Era::Legacy,
        DemoEra::Modern => Era::Modern,
    };
    let options = Options { name: demo.name, era, ..Options::default() };
    if demo.stdio {
        return tokio::select! {
            served = everything::serve_stdio(options) => served.context("MCP over standard input and output failed"),
            () = signals.first() => Ok(()),
        };
    }
    let listener = TcpListener::bind(demo.listen).await.with_context(|| format!("cannot listen at {}", demo.listen))?;
    crate::announce::ready(&[url(&listener)?]);
    everything::serve_http(listener, options, signals.first()).await.context("the demo server failed")
}

/// The demo upstreams as configuration; where they are is filled in by [`Servers::start`].
pub(crate) fn upstreams() -> Vec<enfilade_upstream::Config> {
    [FIRST, "second"].map(|name| enfilade_upstream::Config::http(name, "http://127.0.0.1:0/mcp")).into()
}

/// Demo servers inside this process; they stop when told to, after everything that uses them.
pub(crate) struct Servers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Starts one server per upstream, at ports that the system chooses, and writes their addresses into `upstreams`.
    ///
    /// # Errors
    /// No port can be bound.
    pub(crate) async fn start(upstreams: &mut [enfilade_upstream::Config]) -> anyhow::Result<Self> {
        let mut servers = Self { stop: CancellationToken::new(), tasks: JoinSet::new() };
        for upstream in upstreams {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot start a demo upstream")?;
            upstream.url = Some(url(&listener)?);
            let name = upstream.name.clone();
            let options = Options { name: name.clone(), ..Options::default() };
            let served = everything::serve_http(listener, options, servers.stop.clone().cancelled_owned());
            // Owned by `tasks`. One that fails is an upstream that is down, which the gateway reports and survives.
            servers.tasks.spawn(async move {
                if let Err(error) = served.await {
                    tracing::error!(name, %error, "demo upstream failed");
                }
            });
        }
        Ok(servers)
    }

    /// Stops them.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

fn url(listener: &TcpListener) -> anyhow::Result<String> {
    Ok(format!("http://{}/mcp", listener.local_addr()?))
}
