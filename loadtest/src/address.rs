//! Where clients connect: `http://HOST:PORT/PATH`, and the addresses that a name stands for.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};

/// One address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What is connected to.
    pub(crate) address: SocketAddr,
    /// What `Host` says.
    pub(crate) host: String,
    pub(crate) path: String,
}

impl Target {
    /// All addresses of a URL, looked up once.
    pub(crate) async fn all(url: &str) -> Result<Vec<Target>> {
        let (host, path) = split(url)?;
        let with_port = if has_port(&host) { host.clone() } else { format!("{host}:80") };
        let found = tokio::net::lookup_host(&with_port).await.with_context(|| format!("cannot look up {host}"))?;
        let targets: Vec<Target> =
            found.map(|address| Target { address, host: host.clone(), path: path.clone() }).collect();
        ensure!(!targets.is_empty(), "{host} has no address");
        Ok(targets)
    }
}

fn split(url: &str) -> Result<(String, String)> {
    let Some(rest) = url.strip_prefix("http://") else { bail!("{url}: only http:// is spoken") };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    ensure!(!host.is_empty(), "{url}: no host");
    Ok((host.to_owned(), format!("/{path}")))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urls_become_addresses() {
        let targets = Target::all("http://127.0.1.4:8808/mcp").await.expect("an address");
        let [target] = &targets[..] else { panic!("{targets:?}") };
        assert_eq!(target.address, "127.0.1.4:8808".parse().expect("address"));
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.1.4:8808", "/mcp"));
        assert_eq!(Target::all("http://127.0.0.1").await.expect("an address")[0].address.port(), 80);
        assert!(Target::all("https://127.0.0.1/mcp").await.is_err());
        assert!(Target::all("http:///mcp").await.is_err());
    }
}
