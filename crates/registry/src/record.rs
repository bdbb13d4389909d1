//! What the registry knows of a session, what a new one brings, and the limits on both.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Bindings, SessionId};

/// A session as every replica holds it. Times are registry time, in ms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecord {
    /// Its name.
    #[serde(with = "crate::id::stored")]
    pub id: SessionId,
    /// Who opened it; nobody else may use it.
    pub principal: Arc<str>,
    /// The server (a path's set of upstreams) that it talks to.
    pub server: Arc<str>,
    /// The revision of MCP agreed with the client.
    pub version: Arc<str>,
    /// The client's `clientInfo`, raw JSON.
    pub client_info: Arc<str>,
    /// The client's `capabilities`, raw JSON.
    pub capabilities: Arc<str>,
    /// Set by `logging/setLevel`.
    pub log_level: Option<Arc<str>>,
    /// Upstream sessions that were opened for it.
    pub upstreams: Bindings,
    /// URIs it subscribed to, as the client knows them.
    pub subscriptions: BTreeSet<Arc<str>>,
    /// When it was created.
    pub created_at_ms: u64,
    /// When it ends if nobody uses it.
    pub idle_expires_at_ms: u64,
    /// When it ends whatever happens.
    pub absolute_expires_at_ms: u64,
}

impl SessionRecord {
    pub(crate) fn new(new: &NewSession, now_ms: u64, limits: &Limits) -> SessionRecord {
        SessionRecord {
            id: new.id,
            principal: new.principal.clone(),
            server: new.server.clone(),
            version: new.version.clone(),
            client_info: new.client_info.clone(),
            capabilities: new.capabilities.clone(),
            log_level: new.log_level.clone(),
            upstreams: Bindings::default(),
            subscriptions: BTreeSet::new(),
            created_at_ms: now_ms,
            idle_expires_at_ms: now_ms.saturating_add(limits.idle_ms),
            absolute_expires_at_ms: now_ms.saturating_add(limits.absolute_ms),
        }
    }

    /// When it ends unless it is used.
    pub fn expires_at_ms(&self) -> u64 {
        self.idle_expires_at_ms.min(self.absolute_expires_at_ms)
    }

    /// Bytes of text in it, which is what clients can make grow.
    pub(crate) fn text_bytes(&self) -> usize {
        let fixed = [&self.principal, &self.server, &self.version, &self.client_info, &self.capabilities];
        let bindings = self.upstreams.iter().map(|(name, binding)| {
            name.len() + binding.version.len() + binding.session_id.as_ref().map_or(0, |id| id.len())
        });
        fixed.iter().map(|text| text.len()).sum::<usize>()
            + self.log_level.as_ref().map_or(0, |level| level.len())
            + bindings.sum::<usize>()
            + self.subscriptions.iter().map(|uri| uri.len()).sum::<usize>()
    }
}

/// What a session is created from. The times come from the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Its name, minted by the node that creates it.
    #[serde(with = "crate::id::stored")]
    pub id: SessionId,
    /// Who opens it.
    pub principal: Arc<str>,
    /// The server that it talks to.
    pub server: Arc<str>,
    /// The revision of MCP agreed with the client.
    pub version: Arc<str>,
    /// The client's `clientInfo`, raw JSON.
    pub client_info: Arc<str>,
    /// The client's `capabilities`, raw JSON.
    pub capabilities: Arc<str>,
    /// A log level known from the start (ambient sessions carry it in requests).
    pub log_level: Option<Arc<str>>,
}

impl NewSession {
    /// Whether `record` is what this would have created: then a repeat is a retry, not a clash.
    pub(crate) fn created(&self, record: &SessionRecord) -> bool {
        self.id == record.id
            && self.principal == record.principal
            && self.server == record.server
            && self.version == record.version
            && self.client_info == record.client_info
            && self.capabilities == record.capabilities
    }
}

/// Limits, part of the replicated state so that replicas agree on every refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most sessions in all.
    pub sessions_max: u64,
    /// Most sessions of one principal.
    pub sessions_per_principal_max: u64,
    /// Most resource subscriptions of one session.
    pub subscriptions_per_session_max: u32,
    /// Most bytes of text in one record, all fields together.
    pub record_bytes_max: u32,
    /// A session unused for this long ends.
    pub idle_ms: u64,
    /// A session this old ends.
    pub absolute_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions_max: 1_000_000,
            // High, because without authentication all clients are one principal.
            sessions_per_principal_max: 200_000,
            subscriptions_per_session_max: 1_000,
            record_bytes_max: 64 * 1024,
            idle_ms: 60 * 60 * 1000,
            absolute_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

impl Limits {
    /// A session must outlive the command that creates it.
    pub(crate) fn is_sound(&self) -> bool {
        self.idle_ms > 0 && self.absolute_ms > 0
    }
}
