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
use futures::future::BoxFuture;
use launcher::Launcher;
use parking_lot::Mutex;
use peers::{Modern, Session};
use process::Process;
use std::sync::Arc;
use std::time::Duration;

/// How long a process may take to answer a probe; one that says nothing is taken for legacy, until it says otherwise.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Why a legacy session was not opened: the process, slow to start, has answered the probe after all.
pub(crate) const IS_MODERN: &str = "the upstream turned out to be modern";

/// One stdio upstream.
pub(crate) struct Stdio {
    common: Arc<Common>,
    launcher: Arc<Launcher>,
    modern: Arc<Modern>,
    /// A legacy process that was probed and now waits for its session.
    probed: Mutex<Option<Probed>>,
}

type Answer = BoxFuture<'static, Result<Bytes, CallError>>;

struct Probed {
    process: Arc<Process>,
    /// Its answer to the probe, while it owes one.
    late: Option<Answer>,
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
        let mut late = None;
        for _ in 0..2 {
            let mut asked = self.request(&process, "server/discover", wire::discover);
            let Ok(answer) = tokio::time::timeout(PROBE_MAX, &mut asked).await else {
                late = Some(asked);
                break;
            };
            // Old servers may end when the first request is not `initialize`.
            let Ok(answer) = answer else { break };
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
        *self.probed.lock() = Some(Probed { process, late });
        Ok(Known::Legacy)
    }

    /// What was probed is not as it seemed: those processes hang, or are of the other era, and others need their place.
    pub(crate) fn forget(&self) {
        self.modern.stop();
        *self.probed.lock() = None;
    }

    /// Opens a legacy session in a process of its own. Fails with [`IS_MODERN`] where the process says so meanwhile.
    pub(crate) async fn open(&self, hello: &Hello) -> Result<Opened, CallError> {
        let probed = self.probed.lock().take().filter(|probed| probed.process.is_alive());
        let Probed { process, late } = match probed {
            Some(probed) => probed,
            None => Probed { process: self.launcher.start().await?, late: None },
        };
        let answer = self.request(&process, "initialize", |id| wire::initialize(id, hello));
        let answer = tokio::time::timeout(self.common.deadline(), async {
            tokio::select! {
                // First: what it said of the probe explains why it refuses to be initialised.
                biased;
                () = is_modern(late) => Err(CallError::Protocol(IS_MODERN)),
                answer = answer => answer,
            }
        });
        let answer = answer.await.map_err(|_| CallError::Lost)?;
        if answer == Err(CallError::Protocol(IS_MODERN)) {
            self.launcher.works();
            self.modern.adopt(process.clone());
        }
        let answer = answer?;
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

    /// Sends a request as soon as the answer is waited for.
    fn request(&self, process: &Arc<Process>, method: &'static str, message: impl FnOnce(u64) -> Bytes) -> Answer {
        let (process, id) = (process.clone(), self.common.ids.next());
        let call = Call { id, message: message(id), method, name: None, headers: Vec::new(), progress_token: None };
        Box::pin(async move {
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
        })
    }

    /// The stateless peer.
    pub(crate) fn modern(&self) -> Arc<dyn Peer> {
        self.modern.clone()
    }
}

/// Waits until the late answer to a probe says that the process is modern; for ever if it does not.
async fn is_modern(late: Option<Answer>) {
    if let Some(Ok(answer)) = futures::future::OptionFuture::from(late).await
        && matches!(probe::judge(&String::from_utf8_lossy(&answer)), Verdict::Modern(_) | Verdict::AskAgain)
    {
        return;
    }
    std::future::pending().await
}
