//! What may be configured about the client side, its defaults, and which settings are refused.

use enfilade_mcp::MESSAGE_BYTES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Longest silence of an event stream, in milliseconds: proxies commonly cut connections after 60 s.
const KEEP_ALIVE_MS_MAX: u64 = 30_000;

/// The client side of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect. Default: 127.0.0.1:8808, HTTP/1.1.
    pub listen: Vec<Listen>,
    /// Permits addresses that are not loopback, although nobody is authenticated. Default: false.
    pub allow_remote: bool,
    /// Further names in `Host` that are served, as `name` (any port) or `name:port`. Loopback names and the address
    /// that a client connected to always are. Default: none.
    pub hosts: Vec<String>,
    /// Further web origins that may call, as `https://name` or `https://name:port`. Loopback origins always may where
    /// the listening address is loopback. Default: none.
    pub origins: Vec<String>,
    /// Most connections at a time; a further one is answered with 503 and closed. Default: 120000.
    pub connections_max: usize,
    /// Most connections of one address at a time, IPv6 by its first 64 bits; a further one is answered with 429 and closed.
    /// Default: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_address_max: Option<usize>,
    /// Most requests at a time that have no complete answer; a further one is answered with 503. Streams that stay
    /// open (GET, `subscriptions/listen`) count only until they open. Default: 20000.
    pub requests_in_flight_max: usize,
    /// While the node's own work has to wait for its turn for longer than this, in milliseconds, fewer and fewer calls are
    /// let in at a time, and others are answered with 503; upstreams that take their time do not count. A processor quota
    /// alone makes it wait for up to one of its periods, commonly 100 ms; 250 is a good value. 0: never. Default: 0.
    pub own_wait_max_ms: u64,
    /// Largest message of a client, in bytes; at most 16 MiB. Default: 16777216.
    pub message_bytes_max: usize,
    /// Most bytes that the messages of all requests in flight may take; a request past it is answered with 503. Large answers
    /// may take as much again (16 MiB at least). Default: 1073741824 (1 GiB).
    pub messages_bytes_max: usize,
    /// Silence after which a stream gets a comment, in milliseconds; at most 30000. Default: 15000.
    pub keep_alive_ms: u64,
    /// How long a connection may take to send a request's head, in milliseconds; also how long it may stay idle, so
    /// it must be longer than clients keep idle connections (commonly 90 s). Default: 120000.
    pub header_timeout_ms: u64,
    /// How long a request's body may take after its head, in milliseconds. Default: 60000.
    pub body_timeout_ms: u64,
    /// How long requests may finish once the node is told to stop, in milliseconds. Default: 10000.
    pub drain_ms: u64,
}

/// One listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// IP address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What is spoken there. Default: `http1`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken at a listening address; never guessed from what arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS and with prior knowledge.
    Http2,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8808)), protocol: Protocol::Http1 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listen::default()],
            allow_remote: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            connections_max: 120_000,
            connections_per_address_max: None,
            requests_in_flight_max: 20_000,
            own_wait_max_ms: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
            messages_bytes_max: 1 << 30,
            keep_alive_ms: 15_000,
            header_timeout_ms: 120_000,
            body_timeout_ms: 60_000,
            drain_ms: 10_000,
        }
    }
}

/// A configuration that is refused before any socket is open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No address to listen on.
    #[error("listen: name at least one address")]
    NoAddress,
    /// An address that others can reach, without authentication.
    #[error(
        "listen: {0} is not a loopback address, and whoever reaches it may use every upstream without authentication: \
         set allow_remote: true if that is meant, or wait for authentication"
    )]
    Remote(SocketAddr),
    /// A number outside of its range.
    #[error("{name}: {value} is not between {min} and {max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: u64,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
    /// An entry of `hosts` that no `Host` header can equal.
    #[error("hosts: {0:?} is not a host name, optionally with a port")]
    Host(String),
    /// An entry of `origins` that no `Origin` header can equal.
    #[error("origins: {0:?} is not an origin such as https://app.example.com (no path, no wildcard)")]
    Origin(String),
}

impl Config {
    /// Most bytes that large answers may take: as many as messages, and never too few for one.
    #[must_use]
    pub fn answers_bytes_max(&self) -> usize {
        self.messages_bytes_max.max(MESSAGE_BYTES_MAX)
    }

    /// Refuses what could not be served safely.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        let remote = |listen: &&Listen| !listen.address.ip().to_canonical().is_loopback();
        if let Some(listen) = self.listen.iter().find(remote).filter(|_| !self.allow_remote) {
            return Err(ConfigError::Remote(listen.address));
        }
        let (bytes, day_ms) = (MESSAGE_BYTES_MAX as u64, 24 * 3_600_000);
        range("connections_max", self.connections_max as u64, 1, u64::from(u32::MAX))?;
        let per_address = self.connections_per_address_max.unwrap_or(1);
        range("connections_per_address_max", per_address as u64, 1, u64::from(u32::MAX))?;
        range("requests_in_flight_max", self.requests_in_flight_max as u64, 1, u64::from(u32::MAX))?;
        range("own_wait_max_ms", self.own_wait_max_ms, 0, 60_000)?;
        range("message_bytes_max", self.message_bytes_max as u64, 1, bytes)?;
        range("messages_bytes_max", self.messages_bytes_max as u64, self.message_bytes_max as u64, i64::MAX as u64)?;
        range("keep_alive_ms", self.keep_alive_ms, 1, KEEP_ALIVE_MS_MAX)?;
        range("header_timeout_ms", self.header_timeout_ms, 1, day_ms)?;
        range("body_timeout_ms", self.body_timeout_ms, 1, day_ms)?;
        range("drain_ms", self.drain_ms, 0, day_ms)?;
        let bad_host = |host: &&String| host.is_empty() || host.contains(['/', '@', '*', ' ']);
        if let Some(host) = self.hosts.iter().find(bad_host) {
            return Err(ConfigError::Host(host.clone()));
        }
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(ConfigError::Origin(origin.clone())),
            None => Ok(()),
        }
    }
}

fn range(name: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Range { name, value, min, max }) }
}

/// A scheme and an authority, nothing else (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, authority)| {
        !scheme.is_empty()
            && !authority.is_empty()
            && !text.contains(['*', ' '])
            && !authority.contains(['/', '@', '?'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str) -> Config {
        let address = address.parse().expect("an address");
        Config { listen: vec![Listen { address, protocol: Protocol::Http1 }], ..Config::default() }
    }

    #[test]
    fn only_loopback_without_the_flag() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(listening(address).check(), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
            let config = listening(address);
            let error = config.check().expect_err(address);
            assert!(matches!(error, ConfigError::Remote(_)) && error.to_string().contains("allow_remote"), "{error}");
            assert_eq!(Config { allow_remote: true, ..config }.check(), Ok(()), "{address}");
        }
    }

    #[test]
    fn the_default_is_good_and_bad_settings_name_themselves() {
        type Change = fn(&mut Config);
        assert_eq!(Config::default().check(), Ok(()));
        let table: [(&str, Change); 14] = [
            ("listen", |c| c.listen.clear()),
            ("connections_max", |c| c.connections_max = 0),
            ("connections_per_address_max", |c| c.connections_per_address_max = Some(0)),
            ("requests_in_flight_max", |c| c.requests_in_flight_max = 0),
            ("own_wait_max_ms", |c| c.own_wait_max_ms = 60_001),
            ("message_bytes_max", |c| c.message_bytes_max = 16 * 1024 * 1024 + 1),
            ("messages_bytes_max", |c| c.messages_bytes_max = 1),
            ("keep_alive_ms", |c| c.keep_alive_ms = 30_001),
            ("keep_alive_ms", |c| c.keep_alive_ms = 0),
            ("header_timeout_ms", |c| c.header_timeout_ms = 0),
            ("body_timeout_ms", |c| c.body_timeout_ms = 0),
            ("hosts", |c| c.hosts.push("http://a".into())),
            ("origins", |c| c.origins.push("*".into())),
            ("origins", |c| c.origins.push("https://a/".into())),
        ];
        for (name, change) in table {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().expect_err(name).to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn it_is_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Config>(text);
        assert_eq!(read("{}").expect("defaults"), Config::default());
        let config = read(r#"{"listen":[{"address":"127.0.0.1:0","protocol":"http2"},{"address":"[::1]:1"}]}"#);
        let protocols: Vec<_> = config.expect("two addresses").listen.iter().map(|listen| listen.protocol).collect();
        assert_eq!(protocols, [Protocol::Http2, Protocol::Http1]);
        assert!(read(r#"{"lisen":[]}"#).is_err());
        assert!(read(r#"{"listen":[{"address":"127.0.0.1:0","protocol":"auto"}]}"#).is_err());
    }
}
