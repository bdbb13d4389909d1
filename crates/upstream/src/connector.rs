//! One configured upstream: finds out its era, opens sessions and processes, and ends them all.

use crate::common::Common;
use crate::config::{Config, ConfigError, EraChoice, Reach, Sharing};
use crate::era::{Eras, Known};
use crate::http::Http;
use crate::peer::{CallError, Hello, Opened, Peer};
use crate::shared::SharedSessions;
use crate::stdio::{IS_MODERN, Stdio};
use enfilade_mcp::{Era, Version};
use enfilade_runtime::Limit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One configured upstream.
pub struct Connector {
    common: Arc<Common>,
    transport: Arc<Transport>,
    eras: Eras,
    shared: Arc<SharedSessions>,
}

enum Transport {
    Http(Http),
    Stdio(Stdio),
}

impl Connector {
    /// Checks the configuration; nothing is connected or started yet.
    ///
    /// # Errors
    /// [`ConfigError`] says what to change.
    pub fn new(config: Config) -> Result<Arc<Self>, ConfigError> {
        Self::within(config, Limit::new(usize::MAX >> 1))
    }

    /// The same, with the upstream's large answers counted among those under way, from whichever upstream. One for which there is no
    /// room is [`CallError::NoMemory`].
    ///
    /// # Errors
    /// As for [`Connector::new`].
    pub fn within(config: Config, answers: Limit) -> Result<Arc<Self>, ConfigError> {
        let common = Common::new(config, answers);
        let (transport, sessions_max) = match common.config.check()? {
            Reach::Url(url) => (Transport::Http(Http::new(common.clone(), url)?), 1),
            Reach::Command(command) => {
                (Transport::Stdio(Stdio::new(common.clone(), command)), common.config.processes_max)
            }
        };
        let shared = SharedSessions::new(common.clone(), sessions_max);
        Ok(Arc::new(Self { transport: Arc::new(transport), eras: Eras::default(), shared, common }))
    }

    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.common.name
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// A request id that was never used with this upstream before.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.common.ids.next()
    }

    /// Calls in flight, streams that are still read included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.common.guard.in_flight()
    }

    /// True while the breaker is open: the upstream failed repeatedly and has not answered since.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.common.guard.is_open()
    }

    /// Processes that run now (stdio).
    #[must_use]
    pub fn processes(&self) -> usize {
        match &*self.transport {
            Transport::Http(_) => 0,
            Transport::Stdio(stdio) => stdio.processes(),
        }
    }

    /// Notifications that were dropped because nobody took them in time.
    #[must_use]
    pub fn notifications_dropped(&self) -> u64 {
        self.common.dropped.load(Ordering::Relaxed)
    }

    /// Tells the breaker that a call's deadline passed, which only its owner can see.
    pub fn record_timeout(&self) {
        self.common.guard.record_failure();
    }

    /// Which era the upstream speaks: as configured, or asked once and remembered.
    ///
    /// # Errors
    /// When the upstream cannot be asked now; that is not remembered.
    pub async fn era(&self) -> Result<Era, CallError> {
        match self.common.config.era {
            EraChoice::Legacy => Ok(Era::Legacy),
            EraChoice::Modern => Ok(Era::Modern),
            EraChoice::Auto => Ok(match self.known().await? {
                Known::Legacy => Era::Legacy,
                Known::Modern(_) => Era::Modern,
            }),
        }
    }

    /// Asks again at the next use, because the upstream did not behave as its era does. The process of a modern one is
    /// ended, and with it the calls that it has.
    pub fn forget_era(&self) {
        self.eras.forget();
        if let Transport::Stdio(stdio) = &*self.transport {
            stdio.forget();
        }
    }

    /// The DiscoverResult of a modern upstream, a JSON object.
    ///
    /// # Errors
    /// When the upstream cannot be asked now, or is legacy.
    pub async fn discover(&self) -> Result<Arc<str>, CallError> {
        match self.known().await? {
            Known::Modern(result) => Ok(result),
            Known::Legacy => Err(CallError::Protocol("the upstream is not modern")),
        }
    }

    async fn known(&self) -> Result<Known, CallError> {
        let (common, transport) = (self.common.clone(), self.transport.clone());
        let probe = || async move {
            let mut permit = common.guard.admit()?;
            let found = match &*transport {
                Transport::Http(http) => http.probe().await,
                Transport::Stdio(stdio) => stdio.probe().await,
            };
            permit.settle(found.as_ref().err());
            found
        };
        self.eras.get(probe).await
    }

    /// Opens a legacy session for a client, or lends a shared one (then the client's capabilities are not declared).
    ///
    /// # Errors
    /// When the upstream cannot be reached, refuses, or there is no room for one more process.
    pub async fn open(&self, hello: &Hello) -> Result<Opened, CallError> {
        match self.common.config.sessions {
            Sharing::PerClient => self.open_own(hello).await,
            Sharing::Shared => self.shared.lend(|| async { self.open_own(&SharedSessions::hello()).await }).await,
        }
    }

    async fn open_own(&self, hello: &Hello) -> Result<Opened, CallError> {
        let mut permit = self.common.guard.admit()?;
        let opened = match &*self.transport {
            Transport::Http(http) => http.open(hello).await,
            Transport::Stdio(stdio) => stdio.open(hello).await,
        };
        permit.settle(opened.as_ref().err());
        match &opened {
            // Its process is kept: it has answered the probe, only late.
            Err(CallError::Protocol(IS_MODERN)) => self.eras.forget(),
            Err(CallError::Protocol(_) | CallError::Status(400..=499) | CallError::Gone | CallError::Lost) => {
                self.forget_era();
            }
            _ => {}
        }
        opened
    }

    /// The session with that id, opened before a restart or by another node. It is not asked whether it still exists:
    /// the first call tells. Nothing for stdio, and for shared sessions, which each node opens for itself.
    #[must_use]
    pub fn resume(&self, session_id: &str, version: Version) -> Option<Arc<dyn Peer>> {
        match &*self.transport {
            Transport::Http(http) if self.common.config.sessions == Sharing::PerClient => {
                http.resume(session_id, version)
            }
            _ => None,
        }
    }

    /// The stateless peer of a modern upstream; always the same endpoint or process.
    ///
    /// # Errors
    /// When its process cannot be started.
    pub async fn modern(&self) -> Result<Arc<dyn Peer>, CallError> {
        match &*self.transport {
            Transport::Http(http) => Ok(http.modern()),
            Transport::Stdio(stdio) => Ok(stdio.modern()),
        }
    }

    /// Ends everything: calls in flight, sessions (the upstream is told, for a bounded time), processes. Afterwards
    /// every call fails with [`CallError::Closed`].
    pub async fn shutdown(&self) {
        self.stop(true).await;
    }

    /// As [`Connector::shutdown`], but HTTP upstreams keep their sessions, for other nodes to [`Connector::resume`].
    pub async fn leave(&self) {
        self.stop(false).await;
    }

    async fn stop(&self, delete: bool) {
        self.common.guard.close();
        self.common.stop.cancel();
        if let Transport::Http(http) = &*self.transport {
            http.shutdown(delete).await;
        }
        self.common.tasks.close();
        self.common.tasks.wait().await;
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.common.name).finish_non_exhaustive()
    }
}
