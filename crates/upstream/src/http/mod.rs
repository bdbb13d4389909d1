//! Upstreams over Streamable HTTP: legacy sessions and the stateless modern endpoint, over one pool of connections.

mod answer;
mod dial;
mod endpoint;
mod events;
mod link;
mod modern;
mod pool;
mod reply;
mod session;
mod signal;
mod streams;

use crate::common::Common;
use crate::config::ConfigError;
use crate::era::Known;
use crate::peer::{Call, CallError, Hello, Opened, Peer};
use crate::probe::{self, Verdict};
use crate::wire;
use bytes::Bytes;
use endpoint::{Endpoint, SESSION_ID};
use enfilade_mcp::Version;
use futures::stream::{self, StreamExt};
use http::HeaderValue;
use modern::Modern;
use parking_lot::Mutex;
use reply::Reply;
use session::Session;
use std::sync::{Arc, Weak};
use std::time::Duration;
use streams::CallStream;

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// How long all sessions together may take to end at a shutdown, and how many end at a time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);
const DELETES_AT_A_TIME: usize = 32;

/// One HTTP upstream.
pub(crate) struct Http {
    common: Arc<Common>,
    endpoint: Arc<Endpoint>,
    modern: Arc<Modern>,
    sessions: Mutex<Vec<Weak<Session>>>,
}

impl Http {
    pub(crate) fn new(common: Arc<Common>, url: &str) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(url, &common.config.headers, common.answers.clone())?;
        let modern = Modern::new(common.clone(), endpoint.clone());
        Ok(Self { common, endpoint, modern, sessions: Mutex::default() })
    }

    /// Asks which era the endpoint speaks.
    pub(crate) async fn probe(&self) -> Result<Known, CallError> {
        for _ in 0..2 {
            let (status, body) =
                tokio::time::timeout(PROBE_MAX, self.discover()).await.map_err(|_| CallError::Lost)??;
            match probe::judge_http(status, &String::from_utf8_lossy(&body)) {
                Verdict::Modern(result) => return Ok(Known::Modern(result.into())),
                Verdict::Legacy => return Ok(Known::Legacy),
                Verdict::Unknown(error) => return Err(error),
                Verdict::AskAgain => {}
            }
        }
        Err(CallError::Protocol("it refuses the revision that it lists"))
    }

    async fn discover(&self) -> Result<(u16, Bytes), CallError> {
        let id = self.common.ids.next();
        let call = Call {
            id,
            message: wire::discover(id),
            method: "server/discover",
            name: None,
            headers: Vec::new(),
            progress_token: None,
        };
        let reply = self.endpoint.send(modern::request(&self.endpoint, call)?).await?;
        let status = reply.status().as_u16();
        Ok((status, read_response(reply, id).await?))
    }

    /// Opens a legacy session.
    pub(crate) async fn open(&self, hello: &Hello) -> Result<Opened, CallError> {
        tokio::time::timeout(self.common.deadline(), self.initialize(hello)).await.map_err(|_| CallError::Lost)?
    }

    async fn initialize(&self, hello: &Hello) -> Result<Opened, CallError> {
        let id = self.common.ids.next();
        let reply = self.endpoint.send(self.endpoint.post(wire::initialize(id, hello))).await?;
        let status = reply.status();
        let session_id = reply.headers().get(&SESSION_ID).cloned();
        let response = read_response(reply, id).await?;
        let response = std::str::from_utf8(&response).map_err(|_| CallError::Protocol("not UTF-8"))?;
        if !status.is_success() {
            tracing::warn!(upstream = %self.common.name, %status, "initialize was refused");
            return Err(CallError::Status(status.as_u16()));
        }
        let (version, result) = wire::initialized(response)?;
        let session = self.session(session_id.as_ref(), version);
        if let Err(error) = session.post(Bytes::from_static(wire::INITIALIZED.as_bytes())).await {
            session.delete().await;
            return Err(error);
        }
        Ok(Opened {
            peer: session,
            session_id: session_id.as_ref().and_then(|id| id.to_str().ok()).map(Arc::from),
            version,
            result: result.into(),
        })
    }

    /// The peer of a session that was opened before a restart, or by another node.
    pub(crate) fn resume(&self, session_id: &str, version: Version) -> Option<Arc<dyn Peer>> {
        let session_id = HeaderValue::from_str(session_id).ok()?;
        self.common.ids.skip_past();
        Some(self.session(Some(&session_id), version))
    }

    fn session(&self, session_id: Option<&HeaderValue>, version: Version) -> Arc<Session> {
        let session = Session::new(self.common.clone(), self.endpoint.clone(), session_id, version);
        let mut sessions = self.sessions.lock();
        if sessions.len() == sessions.capacity() {
            sessions.retain(|session| session.strong_count() > 0);
        }
        sessions.push(Arc::downgrade(&session));
        session
    }

    pub(crate) fn modern(&self) -> Arc<dyn Peer> {
        self.modern.clone()
    }

    /// Ends everything; `delete` also tells the upstream to forget the sessions.
    pub(crate) async fn shutdown(&self, delete: bool) {
        let sessions = std::mem::take(&mut *self.sessions.lock());
        if delete {
            let live = sessions.iter().filter_map(Weak::upgrade);
            let all = stream::iter(live).for_each_concurrent(DELETES_AT_A_TIME, async |session| session.delete().await);
            let _ = tokio::time::timeout(SHUTDOWN_MAX, all).await;
        }
        self.endpoint.close();
    }
}

/// The response to request `id`, or the whole body where there is no stream.
async fn read_response(reply: Reply, id: u64) -> Result<Bytes, CallError> {
    if !reply.is_events() {
        return reply.collect().await;
    }
    let mut messages = CallStream::new(id, reply, None);
    while let Some(message) = messages.next().await {
        let message = message?;
        if std::str::from_utf8(&message).is_ok_and(|text| wire::answers(text, id)) {
            return Ok(message);
        }
    }
    Err(CallError::Lost)
}
