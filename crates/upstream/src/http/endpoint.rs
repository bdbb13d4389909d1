//! One Streamable HTTP endpoint: its requests, with everything that never changes prepared once.

use super::dial::Target;
use super::link::Body;
use super::pool::Pool;
use super::reply::Reply;
use crate::config::ConfigError;
use crate::peer::CallError;
use bytes::Bytes;
use enfilade_runtime::Limit;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Header names of MCP.
pub(crate) static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) static METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(crate) static NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Room for the headers that are added to the fixed ones.
const HEADERS_ADDED: usize = 6;

/// An endpoint.
pub(crate) struct Endpoint {
    pool: Arc<Pool>,
    /// Path and query, as requests have it.
    uri: Uri,
    /// `Host` and the configured headers.
    fixed: HeaderMap,
}

impl Endpoint {
    pub(crate) fn new(url: &str, headers: &BTreeMap<String, String>, answers: Limit) -> Result<Arc<Self>, ConfigError> {
        let bad = |why: &str| ConfigError::Url { url: url.to_owned(), why: why.to_owned() };
        let parsed: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        let https = match parsed.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        let authority = parsed.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it holds credentials; put them into headers"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let target = Target::new(authority.host(), port, https).map_err(|why| bad(&why))?;
        let path = parsed.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let uri = path.parse().map_err(|_| bad("its path cannot be sent"))?;
        let mut fixed = configured(headers)?;
        fixed.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| bad("its host cannot be sent"))?);
        Ok(Arc::new(Self { pool: Pool::new(target, answers), uri, fixed }))
    }

    /// A POST of one message.
    pub(crate) fn post(&self, message: Bytes) -> Request<Body> {
        let mut request = self.request(Method::POST, message);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, BOTH);
        request
    }

    /// A GET of a stream.
    pub(crate) fn get(&self) -> Request<Body> {
        let mut request = self.request(Method::GET, Bytes::new());
        request.headers_mut().insert(ACCEPT, EVENTS);
        request
    }

    /// A DELETE of a session.
    pub(crate) fn delete(&self) -> Request<Body> {
        self.request(Method::DELETE, Bytes::new())
    }

    fn request(&self, method: Method, body: Bytes) -> Request<Body> {
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        let mut headers = HeaderMap::with_capacity(self.fixed.len() + HEADERS_ADDED);
        headers.extend(self.fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
        *request.headers_mut() = headers;
        request
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Reply, CallError> {
        let (response, lease) = self.pool.send(request).await?;
        if response.status().is_redirection() {
            let location = response.headers().get(LOCATION);
            tracing::warn!(uri = %self.uri, ?location, "the upstream redirects: configure the url that it names");
        }
        Ok(Reply::new(response, lease))
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

/// Puts in the headers of one call.
pub(crate) fn put(request: &mut Request<Body>, headers: &[(String, String)]) -> Result<(), CallError> {
    let bad = || CallError::Protocol("a header cannot be sent");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(())
}

fn configured(headers: &BTreeMap<String, String>) -> Result<HeaderMap, ConfigError> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let bad = || ConfigError::Header(name.clone());
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(parsed == AUTHORIZATION);
        map.insert(parsed, value);
    }
    Ok(map)
}
