//! Which era one message belongs to, decided from that message alone (BRIDGE.md rule 1).
//!
//! The order of the checks is part of the contract: the same garbage gets the same answer on every node.

use crate::envelope::{Kind, Request};
use crate::error::RpcError;
use crate::meta::Meta;
use crate::method::Method;
use crate::version::{Era, Version};
use crate::{header, json};
use std::borrow::Cow;

/// The headers that take part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// `MCP-Protocol-Version`.
    pub version: Option<&'a str>,
    /// `Mcp-Session-Id`.
    pub session: Option<&'a str>,
    /// `Mcp-Method`.
    pub method: Option<&'a str>,
    /// `Mcp-Name`.
    pub name: Option<&'a str>,
}

/// What a POST turned out to be.
#[derive(Debug, Clone)]
pub enum Class<'a> {
    /// A modern request; session headers play no part.
    Modern(Modern<'a>),
    /// A modern notification: accepted and without effect over HTTP.
    ModernNotification,
    /// `initialize` of a legacy client.
    Initialize,
    /// Traffic of the legacy session with this id.
    Legacy {
        /// The id as presented; not yet verified.
        session: &'a str,
    },
}

/// What a modern request says of itself.
#[derive(Debug, Clone)]
pub struct Modern<'a> {
    /// The client's capabilities, an object.
    pub capabilities: &'a str,
    /// The client's name and version.
    pub client_info: Option<&'a str>,
    /// The log level that it asks for.
    pub log_level: Option<Cow<'a, str>>,
    /// The progress token.
    pub progress_token: Option<&'a str>,
}

/// A message that is answered at the edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The JSON-RPC error.
    pub error: RpcError,
}

fn refuse(status: u16, error: RpcError) -> Refused {
    Refused { status, error }
}

/// Decides a POST of one message.
///
/// # Errors
/// The status and error to answer with.
pub fn classify<'a>(headers: Headers<'a>, kind: &Kind<'a>) -> Result<Class<'a>, Refused> {
    decide(headers, kind, true)
}

/// Decides one message of a transport without headers for each message (WebSocket), which belongs to `session` if it is a
/// legacy one. Nothing is mirrored into headers there (2026-07-28 basic/transports).
///
/// # Errors
/// As [`classify`].
pub fn classify_framed<'a>(session: Option<&'a str>, kind: &Kind<'a>) -> Result<Class<'a>, Refused> {
    decide(Headers { session, ..Headers::default() }, kind, false)
}

fn decide<'a>(headers: Headers<'a>, kind: &Kind<'a>, mirrored: bool) -> Result<Class<'a>, Refused> {
    let meta = match kind {
        Kind::Request(request) => request.meta(),
        Kind::Notification(notification) => Meta::read(notification.params),
        Kind::Response(_) => Ok(Meta::default()),
    };
    let meta = meta.map_err(|e| refuse(400, RpcError::invalid_params(format!("params: {e}"))))?;
    if meta.claims_modern {
        return modern(headers, kind, meta, mirrored);
    }
    if let Kind::Request(request) = kind
        && request.method == Method::Initialize.as_str()
    {
        return Ok(Class::Initialize);
    }
    if let Some(session) = headers.session {
        return match headers.version.map(Version::parse) {
            None => Ok(Class::Legacy { session }),
            Some(Some(version)) if version.era() == Era::Legacy => Ok(Class::Legacy { session }),
            Some(_) => Err(refuse(
                400,
                RpcError::invalid_request(
                    "MCP-Protocol-Version must name the revision that this session negotiated (2024-11-05 to 2025-11-25)",
                ),
            )),
        };
    }
    if mirrored {
        return without_session(headers, kind);
    }
    Err(refuse(
        400,
        RpcError::invalid_request(
            "no session is open on this connection: send initialize first, or name a session when you connect",
        ),
    ))
}

/// No modern metadata, no `initialize`, no session: say what is missing.
fn without_session<'a>(headers: Headers<'a>, kind: &Kind<'a>) -> Result<Class<'a>, Refused> {
    match headers.version.map(Version::parse) {
        Some(None | Some(Version::V2026_07_28)) => match kind {
            Kind::Response(_) => Err(refuse(400, posted_response())),
            Kind::Notification(_) if headers.version == Some(Version::MODERN.as_str()) => Ok(Class::ModernNotification),
            _ => Err(refuse(
                400,
                RpcError::invalid_params(format!(
                    "Invalid params: \"_meta\" must carry \"{}\" and \"{}\"",
                    crate::meta::VERSION,
                    crate::meta::CLIENT_CAPABILITIES
                )),
            )),
        },
        _ => Err(refuse(
            400,
            RpcError::invalid_request(
                "Mcp-Session-Id is missing: send initialize first and repeat the session id that it returned",
            ),
        )),
    }
}

fn posted_response() -> RpcError {
    RpcError::invalid_request("responses cannot be posted in 2026-07-28; retry the request with inputResponses")
}

fn modern<'a>(headers: Headers<'a>, kind: &Kind<'a>, meta: Meta<'a>, mirrored: bool) -> Result<Class<'a>, Refused> {
    let request = match kind {
        Kind::Request(request) => request,
        Kind::Notification(_) => return Ok(Class::ModernNotification),
        Kind::Response(_) => return Err(refuse(400, posted_response())),
    };
    let missing =
        |what: &str| refuse(400, RpcError::invalid_params(format!("Invalid params: \"_meta\" must carry \"{what}\"")));
    let version = meta.version.ok_or_else(|| missing(crate::meta::VERSION))?;
    let capabilities = meta.capabilities.ok_or_else(|| missing(crate::meta::CLIENT_CAPABILITIES))?;
    if mirrored {
        check_headers(headers, request, &version).map_err(|why| refuse(400, RpcError::header_mismatch(why)))?;
    }
    if version != Version::MODERN.as_str() {
        return Err(refuse(400, RpcError::unsupported_version(&version)));
    }
    if Method::parse(&request.method).is_some_and(Method::is_legacy_only) {
        return Err(refuse(404, RpcError::method_not_found(&request.method)));
    }
    Ok(Class::Modern(Modern {
        capabilities,
        client_info: meta.client_info,
        log_level: meta.log_level,
        progress_token: meta.progress_token,
    }))
}

/// The mirrored headers must say what the body says (2026-07-28 streamable-http, Server Validation).
fn check_headers(headers: Headers<'_>, request: &Request<'_>, version: &str) -> Result<(), String> {
    let same = |name: &str, header: Option<&str>, body: &str| match header {
        None => Err(format!("Header mismatch: {name} is missing")),
        Some(value) if value == body => Ok(()),
        Some(_) => Err(format!("Header mismatch: {name} differs from the body")),
    };
    same("MCP-Protocol-Version", headers.version, version)?;
    same("Mcp-Method", headers.method, &request.method)?;
    let Some(param) = Method::parse(&request.method).and_then(Method::name_param) else { return Ok(()) };
    let body = request.params.and_then(|params| json::get(params, param)).and_then(json::string);
    let Some(body) = body else { return Ok(()) }; // The params themselves are refused later, with a better text.
    let header = headers.name.map(header::decode).transpose();
    let header = header.map_err(|e| format!("Header mismatch: Mcp-Name: {e}"))?;
    same("Mcp-Name", header.as_deref(), &body)
}

/// Decides a GET or DELETE, which only sessions have.
///
/// # Errors
/// 405 where the revision has no such method or no session is named, 400 for a version that no session can have.
pub fn classify_bodiless<'a>(headers: Headers<'a>) -> Result<&'a str, u16> {
    match (headers.version.map(Version::parse), headers.session) {
        (Some(Some(Version::V2026_07_28)), _) | (_, None) => Err(405),
        (Some(None), Some(_)) => Err(400),
        (_, Some(session)) => Ok(session),
    }
}
