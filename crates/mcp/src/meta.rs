//! `_meta` of a request: the metadata that a modern request carries in every message, and the progress token of both eras.

use crate::id::Id;
use crate::json::{self, Fields, Malformed};
use std::borrow::Cow;

/// Key of the protocol version in `_meta` (2026-07-28 basic, `_meta`).
pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Key of the client's name and version.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Key of the client's capabilities.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Key of the log level that a request asks for.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Key of the subscription that a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Key of the server's name and version in results.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Who the gateway is, to clients (`serverInfo`) and to upstreams (`clientInfo`): a JSON object.
pub const IMPLEMENTATION: &str =
    concat!(r#"{"name":"enfilade","title":"Enfilade","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// What `_meta` of one request says; absent members are absent in the request.
#[derive(Debug, Clone, Default)]
pub struct Meta<'a> {
    /// The protocol version, when it is a string.
    pub version: Option<Cow<'a, str>>,
    /// The client's name and version, an object.
    pub client_info: Option<&'a str>,
    /// The client's capabilities, an object.
    pub capabilities: Option<&'a str>,
    /// The log level asked for.
    pub log_level: Option<Cow<'a, str>>,
    /// The progress token: the JSON text of a string or an integer.
    pub progress_token: Option<&'a str>,
    /// True when the version's key is there, whatever its value.
    pub claims_modern: bool,
}

impl<'a> Meta<'a> {
    /// Reads `_meta` of a params object.
    ///
    /// # Errors
    /// When params or `_meta` has a key twice, or `_meta` is no object.
    pub fn read(params: Option<&'a str>) -> Result<Self, Malformed> {
        params.map_or(Ok(Self::default()), |params| Self::of_text(Self::find(params)?))
    }

    /// The text of `_meta` in a params object.
    pub(crate) fn find(params: &'a str) -> Result<Option<&'a str>, Malformed> {
        Ok(Fields::read(params)?.get("_meta"))
    }

    /// Reads the object itself.
    pub(crate) fn of_text(meta: Option<&'a str>) -> Result<Self, Malformed> {
        let Some(meta) = meta else { return Ok(Self::default()) };
        let meta = Fields::read(meta)?;
        Ok(Self {
            version: meta.string(VERSION),
            client_info: meta.get(CLIENT_INFO).filter(|text| json::is_object(text)),
            capabilities: meta.get(CLIENT_CAPABILITIES).filter(|text| json::is_object(text)),
            log_level: meta.string(LOG_LEVEL),
            progress_token: meta.get("progressToken").filter(|token| Id::from_json(token).is_some()),
            claims_modern: meta.get(VERSION).is_some(),
        })
    }
}
