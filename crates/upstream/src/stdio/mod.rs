//! Upstreams over stdio: supervised processes, one per legacy session, or one for a modern upstream.

mod group;
mod launcher;
mod orphan;
mod peers;
mod process;
mod routes;
mod spawner;
mod stderr;

use crate::common::Common;
use crate::era::Known;
use crate::peer::{Call, CallError, Exchange, Hello, Opened, Peer};
use crate::probe::{self, Verdict};
use crate::wire;
use bytes::Bytes;
use launcher::Launcher;
use parking_lot::Mutex;
use peers::{Modern, Session};
use process::Process;
use std::sync::Arc;
use std::time::Duration;

/// How long a process may take to answer a probe; one that says nothing is taken for legacy.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// One stdio upstream.
pub(crate) struct Stdio {
    common: Arc<Common>,
    launcher: Arc<Launcher>,
    modern: Arc<Modern>,
    /// A legacy process that was probed and now waits for its session.
    probed: Mutex<Option<Arc<Process>>>,
}

impl Stdio {
    pub(crate) fn new(common: Arc<Common>, program: &str) -> Self {
        let launcher = Launcher::new(common.clone(), program);
        let modern = Modern::new(common.clone(), launcher.clone());
        Self { common, launcher, modern, probed: Mutex::default() }
    }

    pub(crate) fn processes(&self) -> usize {
        self.launcher.running()
    }

    /// Asks a process which era it speaks. It is kept for what comes next.
    pub(crate) async fn probe(&self) -> Result<Known, CallError> {
        let process = match self.modern.running() {
            Some(process) => process,
            None => self.launcher.start().await?,
        };
        for _ in 0..2 {
            let asked =
                tokio::time::timeout(PROBE_MAX, self.request(&process, "server/discover", wire::discover)).await;
            // Old servers say nothing, or end, when the first request is not `initialize`.
            let Ok(Ok(answer)) = asked else { break };
            match probe::judge(&String::from_utf8_lossy(&answer)) {
                Verdict::Modern(result) => {
                    self.launcher.works();
                    self.modern.adopt(process);
                    return Ok(Known::Modern(result.into()));
                }
                Verdict::AskAgain => {}
                Verdict::Legacy | Verdict::Unknown(_) => break,
            }
        }
        *self.probed.lock() = Some(process);
        Ok(Known::Legacy)
    }

    /// What was probed is not as it seemed: those processes hang, or are of the other era, and others need their place.
    pub(crate) fn forget(&self) {
        self.modern.stop();
        *self.probed.lock() = None;
    }

    /// Opens a legacy session in a process of its own.
    pub(crate) async fn open(&self, hello: &Hello) -> Result<Opened, CallError> {
        let probed = self.probed.lock().take().filter(|process| process.is_alive());
        let process = match probed {
            Some(process) => process,
            None => self.launcher.start().await?,
        };
        let asked = self.request(&process, "initialize", |id| wire::initialize(id, hello));
        let answer = tokio::time::timeout(self.common.deadline(), asked).await.map_err(|_| CallError::Lost)??;
        let answer = std::str::from_utf8(&answer).map_err(|_| CallError::Protocol("not UTF-8"))?;
        let (version, result) = wire::initialized(answer)?;
        process.send(Bytes::from_static(wire::INITIALIZED.as_bytes())).await?;
        self.launcher.works();
        let result = result.into();
        Ok(Opened {
            peer: Arc::new(Session { common: self.common.clone(), process }),
            session_id: None,
            version,
            result,
        })
    }

    async fn request(
        &self,
        process: &Arc<Process>,
        method: &str,
        message: impl FnOnce(u64) -> Bytes,
    ) -> Result<Bytes, CallError> {
        let id = self.common.ids.next();
        let call = Call { id, message: message(id), method, name: None, headers: Vec::new(), progress_token: None };
        let mut messages = match process.exchange(call).await? {
            Exchange::Answer(answer) => return Ok(answer),
            Exchange::Stream(messages) => messages,
        };
        // Log lines may come before the answer; nobody is there yet to read them.
        while let Some(message) = messages.next().await {
            let message = message?;
            if std::str::from_utf8(&message).is_ok_and(|text| wire::answers(text, id)) {
                return Ok(message);
            }
        }
        Err(CallError::Lost)
    }

    /// The stateless peer.
    pub(crate) fn modern(&self) -> Arc<dyn Peer> {
        self.modern.clone()
    }
}
