//! What the registry knows of a session, what a new one brings, and the limits on both.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Bindings, SessionId};

/// A session as every replica holds it. Times are registry time, in ms.
///
/// Small, because there are very many: what sessions have in common is one value for all of them, and what few have is
/// apart. In JSON it is one flat object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct SessionRecord {
    /// Its name.
    pub id: SessionId,
    /// Who opened it; nobody else may use it.
    pub principal: Arc<str>,
    /// When it was created.
    pub created_at_ms: u64,
    /// When it ends if nobody uses it.
    pub idle_expires_at_ms: u64,
    /// When it ends whatever happens.
    pub absolute_expires_at_ms: u64,
    facts: Facts,
}

/// What a session's owner goes by. It keeps this and not the record: a record changes with every round of idle times,
/// and one that somebody keeps is copied for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    client: Arc<Client>,
    /// None as long as all of it is empty.
    extras: Option<Box<Extras>>,
}

/// What the sessions of one kind of client have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) server: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) client_info: Arc<str>,
    pub(crate) capabilities: Arc<str>,
}

/// What comes to a session while it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    pub(crate) log_level: Option<Arc<str>>,
    pub(crate) upstreams: Bindings,
    pub(crate) subscriptions: BTreeSet<Arc<str>>,
}

static NOTHING: Extras = Extras { log_level: None, upstreams: Bindings::EMPTY, subscriptions: BTreeSet::new() };

/// A record in JSON: the order of the fields is part of the format.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(with = "crate::id::stored")]
    id: SessionId,
    principal: Arc<str>,
    server: Arc<str>,
    version: Arc<str>,
    client_info: Arc<str>,
    capabilities: Arc<str>,
    log_level: Option<Arc<str>>,
    upstreams: Bindings,
    subscriptions: BTreeSet<Arc<str>>,
    created_at_ms: u64,
    idle_expires_at_ms: u64,
    absolute_expires_at_ms: u64,
}

impl From<SessionRecord> for Stored {
    fn from(record: SessionRecord) -> Stored {
        let Facts { client, extras } = record.facts;
        let Extras { log_level, upstreams, subscriptions } = extras.map(|extras| *extras).unwrap_or_default();
        let Client { server, version, client_info, capabilities } = Arc::unwrap_or_clone(client);
        Stored {
            id: record.id,
            principal: record.principal,
            server,
            version,
            client_info,
            capabilities,
            log_level,
            upstreams,
            subscriptions,
            created_at_ms: record.created_at_ms,
            idle_expires_at_ms: record.idle_expires_at_ms,
            absolute_expires_at_ms: record.absolute_expires_at_ms,
        }
    }
}

impl From<Stored> for SessionRecord {
    fn from(stored: Stored) -> SessionRecord {
        let Stored { server, version, client_info, capabilities, .. } = stored;
        let client = Arc::new(Client { server, version, client_info, capabilities });
        let extras =
            Extras { log_level: stored.log_level, upstreams: stored.upstreams, subscriptions: stored.subscriptions };
        let extras = (extras != NOTHING).then(|| Box::new(extras));
        SessionRecord {
            id: stored.id,
            principal: stored.principal,
            created_at_ms: stored.created_at_ms,
            idle_expires_at_ms: stored.idle_expires_at_ms,
            absolute_expires_at_ms: stored.absolute_expires_at_ms,
            facts: Facts { client, extras },
        }
    }
}

impl SessionRecord {
    /// `client` is what `new` says of it; whoever has a shared copy gives that.
    pub(crate) fn new(new: &NewSession, client: Arc<Client>, now_ms: u64, limits: &Limits) -> SessionRecord {
        let mut record = SessionRecord {
            id: new.id,
            principal: new.principal.clone(),
            created_at_ms: now_ms,
            idle_expires_at_ms: now_ms.saturating_add(limits.idle_ms),
            absolute_expires_at_ms: now_ms.saturating_add(limits.absolute_ms),
            facts: Facts { client, extras: None },
        };
        if let Some(level) = &new.log_level {
            record.change(|extras| extras.log_level = Some(level.clone()));
        }
        record
    }

    /// What its owner goes by.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The server (a path's set of upstreams) that it talks to.
    pub fn server(&self) -> &Arc<str> {
        &self.facts.client.server
    }

    /// Set by `logging/setLevel`.
    pub fn log_level(&self) -> Option<&Arc<str>> {
        self.facts.log_level()
    }

    /// URIs it subscribed to, as the client knows them.
    pub fn subscriptions(&self) -> &BTreeSet<Arc<str>> {
        self.facts.subscriptions()
    }

    /// When it ends unless it is used.
    pub fn expires_at_ms(&self) -> u64 {
        self.idle_expires_at_ms.min(self.absolute_expires_at_ms)
    }

    /// What it has in common with others.
    pub(crate) fn client(&self) -> &Client {
        &self.facts.client
    }

    /// Puts the shared copy of what it has in common with others in the place of its own.
    pub(crate) fn share_client(&mut self, shared: Arc<Client>) {
        self.facts.client = shared;
    }

    /// Changes what comes to a session while it is used.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut Extras) -> T) -> T {
        let extras = self.facts.extras.get_or_insert_default();
        let result = change(extras);
        if **extras == NOTHING {
            self.facts.extras = None;
        }
        result
    }

    /// Bytes of text in it, which is what clients can make grow.
    pub(crate) fn text_bytes(&self) -> usize {
        let extras = self.facts.extras();
        let bindings = extras.upstreams.iter().map(|(name, binding)| {
            name.len() + binding.version.len() + binding.session_id.as_ref().map_or(0, |id| id.len())
        });
        self.principal.len()
            + self.client().text_bytes()
            + extras.log_level.as_ref().map_or(0, |level| level.len())
            + bindings.sum::<usize>()
            + extras.subscriptions.iter().map(|uri| uri.len()).sum::<usize>()
    }
}

impl Facts {
    /// The revision of MCP agreed with the client.
    pub fn version(&self) -> &Arc<str> {
        &self.client.version
    }

    /// The client's `clientInfo`, raw JSON.
    pub fn client_info(&self) -> &Arc<str> {
        &self.client.client_info
    }

    /// The client's `capabilities`, raw JSON.
    pub fn capabilities(&self) -> &Arc<str> {
        &self.client.capabilities
    }

    /// Set by `logging/setLevel`.
    pub fn log_level(&self) -> Option<&Arc<str>> {
        self.extras().log_level.as_ref()
    }

    /// Upstream sessions that were opened for it.
    pub fn upstreams(&self) -> &Bindings {
        &self.extras().upstreams
    }

    /// URIs it subscribed to, as the client knows them.
    pub fn subscriptions(&self) -> &BTreeSet<Arc<str>> {
        &self.extras().subscriptions
    }

    fn extras(&self) -> &Extras {
        self.extras.as_deref().unwrap_or(&NOTHING)
    }
}

impl Client {
    fn text_bytes(&self) -> usize {
        [&self.server, &self.version, &self.client_info, &self.capabilities].iter().map(|text| text.len()).sum()
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
    /// What it has in common with others.
    pub(crate) fn client(&self) -> Client {
        Client {
            server: self.server.clone(),
            version: self.version.clone(),
            client_info: self.client_info.clone(),
            capabilities: self.capabilities.clone(),
        }
    }

    /// Whether `record` is what this would have created: then a repeat is a retry, not a clash.
    pub(crate) fn created(&self, record: &SessionRecord) -> bool {
        self.id == record.id && self.principal == record.principal && self.client() == *record.client()
    }

    /// Bytes of text in the record that it makes.
    pub(crate) fn text_bytes(&self) -> usize {
        let level = self.log_level.as_ref().map_or(0, |level| level.len());
        self.principal.len() + self.client().text_bytes() + level
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // There are very many; with the counts of its `Arc` it fills 112 bytes.
        assert!(size_of::<SessionRecord>() <= 96, "{} bytes", size_of::<SessionRecord>());
    }
}
