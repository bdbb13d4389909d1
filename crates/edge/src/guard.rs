//! Who may be asked for, and which web pages may ask: `Host` and `Origin`, against DNS rebinding, and CORS.
//!
//! A page of another site reaches a local server either across origins, and then says so in `Origin`, or under a name
//! of its own that it made point here, and then says so in `Host`. No cookie is ever read or set.

use crate::config::Config;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use std::net::IpAddr;

/// The allow-lists of a node.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// The end of a connection that is ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The address that the client connected to.
    pub(crate) ip: IpAddr,
    /// The listening address is loopback.
    pub(crate) loopback: bool,
}

/// Why a request is refused with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    #[error("Forbidden: this host name is not served here; name it under hosts")]
    Host,
    #[error("Forbidden: requests from this origin are not allowed; name it under origins")]
    Origin,
}

impl Guard {
    pub(crate) fn new(config: &Config) -> Self {
        Self { hosts: config.hosts.clone(), origins: config.origins.clone() }
    }

    /// Admits a request. Gives the origin, when it came from a web page that may call.
    pub(crate) fn check<'a>(&self, place: Place, head: &'a Parts) -> Result<Option<&'a HeaderValue>, Forbidden> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let header = hosts.next().map(|value| value.to_str().unwrap_or_default());
        // HTTP/2 and absolute targets name the host in the target; a Host header beside it must be good too.
        let target = head.uri.authority().map(http::uri::Authority::as_str);
        let good = |host: Option<&str>| host.is_none_or(|host| self.serves(place, host));
        if hosts.next().is_some() || (header.is_none() && target.is_none()) || !good(header) || !good(target) {
            return Err(Forbidden::Host);
        }
        self.origin(place, &head.headers)
    }

    fn origin<'a>(&self, place: Place, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Forbidden> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(None) };
        let allowed = origin.to_str().is_ok_and(|text| {
            self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text))
                || (place.loopback && is_loopback_origin(text))
        });
        if allowed && origins.next().is_none() { Ok(Some(origin)) } else { Err(Forbidden::Origin) }
    }

    /// True for loopback names, the address that was connected to (which no name can be rebound to), and what is
    /// configured; ports count only where the configuration names one, because they change on the way through proxies.
    fn serves(&self, place: Place, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        is_loopback_name(name)
            || ip_of(name).is_some_and(|ip| ip.to_canonical() == place.ip.to_canonical())
            || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(name))
    }
}

/// `Host` without its port (RFC 9110, section 7.2); nothing when the port is none.
fn name_of(host: &str) -> Option<&str> {
    let colon = match host.rfind(']') {
        Some(end) => host[end..].find(':').map(|at| end + at),
        None => host.find(':'),
    };
    let Some(colon) = colon else { return Some(host) };
    host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()).then_some(&host[..colon])
}

fn ip_of(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    }
}

fn is_loopback_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || ip_of(name).is_some_and(|ip| ip.to_canonical().is_loopback())
}

fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.and_then(name_of).is_some_and(is_loopback_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn guard() -> Guard {
        let (hosts, origins) =
            (vec!["gate.example.com".into(), "b.example.com:81".into()], vec!["https://App.example.com".into()]);
        Guard::new(&Config { hosts, origins, ..Config::default() })
    }

    fn check(place: (&str, bool), headers: &[(&str, &str)]) -> Result<bool, Forbidden> {
        let place = Place { ip: place.0.parse().expect("an address"), loopback: place.1 };
        let mut request = Request::builder().uri("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).expect("a request").into_parts().0;
        guard().check(place, &head).map(|origin| origin.is_some())
    }

    #[test]
    fn hosts() {
        let good = [
            "localhost",
            "LocalHost:8808",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.8.8:9",
            "[::1]",
            "[::1]:8808",
            "10.1.2.3:80",
            "10.1.2.3",
            "gate.example.com",
            "Gate.Example.com:9999",
            "b.example.com:81",
        ];
        let bad = [
            "",
            "evil.example.com",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "127.0.0.1:1:2",
            "localhost:a",
            "localhost@evil.com",
            "10.1.2.4",
            "b.example.com",
            "b.example.com:82",
            "[::1",
            "::1",
            "0.0.0.0",
            "[::ffff:10.1.2.4]",
            "localhost, evil.com",
            "user@localhost",
            "1",
        ];
        for host in good {
            assert_eq!(check(("10.1.2.3", false), &[("host", host)]), Ok(false), "{host}");
        }
        for host in bad {
            assert_eq!(check(("10.1.2.3", false), &[("host", host)]), Err(Forbidden::Host), "{host:?}");
        }
        assert_eq!(check(("127.0.0.1", true), &[]), Err(Forbidden::Host));
        assert_eq!(check(("127.0.0.1", true), &[("host", "localhost"), ("host", "localhost")]), Err(Forbidden::Host));
    }

    #[test]
    fn the_target_counts_as_well_as_the_header() {
        let place = Place { ip: "127.0.0.1".parse().expect("an address"), loopback: true };
        for (target, header, good) in [
            ("http://localhost/mcp", None, true),
            ("http://evil.com/mcp", None, false),
            ("http://localhost/mcp", Some("evil.com"), false),
            ("http://evil.com/mcp", Some("localhost"), false),
            ("http://127.0.0.1:1/mcp", Some("localhost:1"), true),
        ] {
            let mut request = Request::builder().uri(target);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            let head = request.body(()).expect("a request").into_parts().0;
            assert_eq!(guard().check(place, &head).is_ok(), good, "{target} {header:?}");
        }
    }

    #[test]
    fn origins() {
        let local = [
            "http://localhost",
            "http://localhost:6274",
            "https://127.0.0.1:1",
            "http://[::1]:3000",
            "https://localhost",
        ];
        let evil = [
            "null",
            "",
            "http://evil.com",
            "http://localhost.evil.com",
            "http://evil.com#localhost",
            "ftp://localhost",
            "http://localhost/",
            "http://localhost:1/a",
            "localhost",
            "https://app.example.com.evil.com",
            "http://app.example.com",
            "https://app.example.com:444",
            "http://user@localhost",
        ];
        let host = ("host", "localhost");
        for loopback in [true, false] {
            let check = |origin| check(("127.0.0.1", loopback), &[host, ("origin", origin)]);
            for origin in local {
                let expected = if loopback { Ok(true) } else { Err(Forbidden::Origin) };
                assert_eq!(check(origin), expected, "{origin} {loopback}");
            }
            for origin in evil {
                assert_eq!(check(origin), Err(Forbidden::Origin), "{origin} {loopback}");
            }
            assert_eq!(check("https://app.example.com"), Ok(true));
        }
        let twice = [host, ("origin", "http://localhost"), ("origin", "http://localhost")];
        assert_eq!(check(("127.0.0.1", true), &twice), Err(Forbidden::Origin));
    }
}
