//! Processes as peers: one per legacy session, and the one that a modern upstream needs, started again when it has ended.

use super::launcher::Launcher;
use super::process::Process;
use crate::common::Common;
use crate::peer::{Call, CallError, Exchange, Messages, Peer};
use crate::wire;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How long a process may take to accept that something is not wanted any more.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// A legacy session: its process belongs to it.
pub(crate) struct Session {
    pub(crate) common: Arc<Common>,
    pub(crate) process: Arc<Process>,
}

impl Peer for Session {
    fn next_id(&self) -> u64 {
        self.common.ids.next()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>> {
        Box::pin(self.common.guard.call(|| self.process.exchange(call)))
    }

    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(self.process.send(message))
    }

    fn cancel(&self, id: u64, reason: &str) -> BoxFuture<'_, ()> {
        Box::pin(farewell(self.process.clone(), wire::cancelled(id, reason)))
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>> {
        Box::pin(std::future::ready(Ok(self.process.listen())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.process.stop();
        Box::pin(std::future::ready(()))
    }

    fn is_alive(&self) -> bool {
        self.process.is_alive()
    }
}

async fn farewell(process: Arc<Process>, message: Bytes) {
    let _ = tokio::time::timeout(FAREWELL_MAX, process.send(message)).await;
}

/// A modern upstream.
pub(crate) struct Modern {
    common: Arc<Common>,
    launcher: Arc<Launcher>,
    current: Mutex<Option<Arc<Process>>>,
    /// Held while a process is started, so that only one is.
    starting: tokio::sync::Mutex<()>,
}

impl Modern {
    pub(crate) fn new(common: Arc<Common>, launcher: Arc<Launcher>) -> Arc<Self> {
        Arc::new(Self { common, launcher, current: Mutex::default(), starting: tokio::sync::Mutex::default() })
    }

    /// Takes over a process that turned out to be modern.
    pub(crate) fn adopt(&self, process: Arc<Process>) {
        *self.current.lock() = Some(process);
    }

    /// Ends the process, whatever it does: the next call starts another one.
    pub(crate) fn stop(&self) {
        if let Some(process) = self.current.lock().take() {
            process.stop();
        }
    }

    /// The process, where one runs.
    pub(crate) fn running(&self) -> Option<Arc<Process>> {
        self.current.lock().clone().filter(|process| process.is_alive())
    }

    async fn process(&self) -> Result<Arc<Process>, CallError> {
        if let Some(process) = self.running() {
            return Ok(process);
        }
        let _starting = self.starting.lock().await;
        if let Some(process) = self.running() {
            return Ok(process);
        }
        let process = self.launcher.start().await?;
        self.adopt(process.clone());
        Ok(process)
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Exchange, CallError> {
        match self.process().await?.exchange(call.clone()).await {
            // It ended before it could read the request.
            Err(CallError::Gone) => self.process().await?.exchange(call).await,
            other => other,
        }
    }
}

impl Peer for Modern {
    fn next_id(&self) -> u64 {
        self.common.ids.next()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>> {
        Box::pin(self.common.guard.call(|| self.exchange(call)))
    }

    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move { self.running().ok_or(CallError::Gone)?.send(message).await })
    }

    fn cancel(&self, id: u64, reason: &str) -> BoxFuture<'_, ()> {
        let message = wire::cancelled(id, reason);
        Box::pin(async move {
            if let Some(process) = self.running() {
                farewell(process, message).await;
            }
        })
    }

    /// Everything that a modern process says belongs to a call.
    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn is_alive(&self) -> bool {
        !self.common.guard.is_closed()
    }
}
