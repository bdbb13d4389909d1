//! The MCP headers of a request. One that is repeated, or holds other bytes than visible ASCII, must not look absent:
//! it reads as [`UNREADABLE`], which no name, version, session id or parameter equals.

use enfilade_mcp::classify::Headers;
use enfilade_session::owner::HeaderLookup;
use http::header::{AsHeaderName, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Stands for a value that cannot be read: no header can carry it, and `enfilade_mcp::header::decode` refuses it.
pub(crate) const UNREADABLE: &str = "\0";

pub(crate) static SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
static METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// What the names of parameters' headers begin with.
const PARAM: &str = "mcp-param-";
static NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The headers that decide what a message is.
pub(crate) fn mcp(map: &HeaderMap) -> Headers<'_> {
    Headers {
        version: text(map, &VERSION),
        session: text(map, &SESSION),
        method: text(map, &METHOD),
        name: text(map, &NAME),
    }
}

/// One header; nothing when it is absent.
pub(crate) fn text(map: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = map.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(UNREADABLE);
    }
    // White space around a value is no part of it (RFC 9110, section 5.5); HTTP/2 does not take it off.
    Some(HeaderValue::to_str(value).unwrap_or(UNREADABLE).trim_matches([' ', '\t']))
}

/// Whether a header that is a list of tokens names this one.
pub(crate) fn has_token(map: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = map.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// The headers of one request, as the owner asks for them.
pub(crate) struct Lookup<'a>(pub(crate) &'a HeaderMap);

impl HeaderLookup for Lookup<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        text(self.0, name)
    }

    fn params(&self, each: &mut dyn FnMut(&str, &str)) {
        for name in self.0.keys().map(HeaderName::as_str).filter(|name| name.starts_with(PARAM)) {
            each(name, text(self.0, name).unwrap_or(UNREADABLE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_does_not_look_absent_and_matches_nothing() {
        let mut map = HeaderMap::new();
        map.append("mcp-param-a", HeaderValue::from_static(" x\t"));
        map.append("mcp-param-b", HeaderValue::from_static("x"));
        map.append("mcp-param-b", HeaderValue::from_static("x"));
        map.append("mcp-param-c", HeaderValue::from_bytes(b"\xc3\xa9").expect("allowed by HTTP"));
        let lookup = Lookup(&map);
        let values = ["mcp-param-a", "mcp-param-b", "mcp-param-c", "mcp-param-d"].map(|name| lookup.header(name));
        let mut named = Vec::new();
        lookup.params(&mut |name, value| named.push((name.to_owned(), value.to_owned())));
        named.sort();
        let expected = [("mcp-param-a", "x"), ("mcp-param-b", UNREADABLE), ("mcp-param-c", UNREADABLE)];
        assert_eq!(named, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(values, [Some("x"), Some(UNREADABLE), Some(UNREADABLE), None]);
        assert!(enfilade_mcp::header::decode(UNREADABLE).is_err());
        assert!(HeaderValue::from_str(UNREADABLE).is_err());
    }

    #[test]
    fn names_in_any_case() {
        let map: HeaderMap = [("MCP-Protocol-Version", "1"), ("MCP-SESSION-ID", "2"), ("mcp-METHOD", "3")]
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let headers = mcp(&map);
        assert_eq!((headers.version, headers.session, headers.method), (Some("1"), Some("2"), Some("3")));
        assert_eq!(headers.name, None);
    }
}
