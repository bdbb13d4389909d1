//! Upstreams in the form in which hosts (Claude Desktop, VS Code, Cursor …) keep them: `mcpServers`, or `servers`.
//! What a host knows beyond starting or reaching a server (approvals, icons …) is left out and named in the log.

use super::placeholders::{Env, expand};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Longest name of an upstream.
const NAME_CHARS_MAX: usize = 32;

/// What is wrong, and the keys that lead there.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: Vec<String>,
    pub(crate) text: String,
}

/// An upstream, and the keys under which the file has it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: [String; 2],
    pub(crate) upstream: enfilade_upstream::Config,
}

/// The document; hosts may keep other things in the same file.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(rename = "mcpServers")]
    mcp_servers: Option<Entries>,
    servers: Option<Entries>,
}

/// In the order of the file: it is the order of the upstreams.
#[derive(Debug)]
struct Entries(Vec<(String, Entry)>);

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    disabled: bool,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Scalar>,
    cwd: Option<String>,
    #[serde(alias = "serverUrl", alias = "httpUrl")]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// Hosts take numbers and booleans as values of the environment too.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
}

enum Transport {
    Stdio,
    Http,
}

/// The upstreams of a document.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn upstreams(document: Document, env: Env<'_>) -> Result<Vec<Found>, Vec<Fault>> {
    let (key, entries) = match (document.mcp_servers, document.servers) {
        (Some(entries), None) => ("mcpServers", entries),
        (None, Some(entries)) => ("servers", entries),
        (Some(_), Some(_)) => return Err(vec![fault(&[], "has both \"mcpServers\" and \"servers\": remove one")]),
        (None, None) => return Err(vec![fault(&[], "has neither \"mcpServers\" nor \"servers\"")]),
    };
    let mut found: Vec<Found> = Vec::new();
    let mut faults = Vec::new();
    for (name, entry) in entries.0.into_iter().filter(|(_, entry)| !entry.disabled) {
        let path = [key.to_owned(), name];
        match upstream(&path, entry, env) {
            Ok(upstream) => match found.iter().find(|other| other.upstream.name == upstream.name) {
                Some(other) => faults.push(fault(&path, collision(&path[1], &other.path[1], &upstream.name))),
                None => found.push(Found { path, upstream }),
            },
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn collision(name: &str, other: &str, normalised: &str) -> String {
    format!("{name:?} and {other:?} both become the upstream {normalised:?}: rename one")
}

fn upstream(path: &[String; 2], entry: Entry, env: Env<'_>) -> Result<enfilade_upstream::Config, Fault> {
    let name = normalise(&path[1]).ok_or_else(|| fault(path, "no upstream name can be made of this: use a letter"))?;
    if name != path[1] {
        tracing::info!(configured = path[1], name, "upstream renamed: names are lower-case letters, digits and '-'");
    }
    for key in entry.others.keys() {
        tracing::warn!(upstream = name, key, "ignored: not known to the gateway");
    }
    let transport = transport(&entry).map_err(|text| fault(&with(path, "type"), text))?;
    let at = |key: &str| with(path, key);
    let full = |key: &str, text: &str| expand(text, env).map_err(|error| fault(&at(key), error));
    let missing = |key: &str| fault(path, format!("needs {key:?}"));
    match transport {
        Transport::Stdio => {
            let command = full("command", &entry.command.ok_or_else(|| missing("command"))?)?;
            let args: Result<Vec<_>, _> = entry.args.iter().map(|arg| full("args", arg)).collect();
            let mut upstream = enfilade_upstream::Config::stdio(name, command, args?);
            for (key, value) in &entry.env {
                let value = expand(&value.text(), env).map_err(|error| fault(&with(&at("env"), key), error))?;
                upstream.env.insert(key.clone(), value);
            }
            upstream.cwd = entry.cwd.map(|cwd| full("cwd", &cwd)).transpose()?.map(PathBuf::from);
            Ok(upstream)
        }
        Transport::Http => {
            let url = full("url", &entry.url.ok_or_else(|| missing("url"))?)?;
            let mut upstream = enfilade_upstream::Config::http(name, url);
            for (key, value) in &entry.headers {
                let value = expand(value, env).map_err(|error| fault(&with(&at("headers"), key), error))?;
                upstream.headers.insert(key.clone(), value);
            }
            Ok(upstream)
        }
    }
}

fn transport(entry: &Entry) -> Result<Transport, String> {
    match entry.kind.as_deref() {
        Some("stdio") => Ok(Transport::Stdio),
        Some("http" | "streamable-http" | "streamableHttp" | "streamable_http") => Ok(Transport::Http),
        Some("sse") => Err("upstreams over HTTP+SSE are not supported yet; many serve Streamable HTTP as well \
             (type \"http\", often at a url that ends in /mcp)"
            .to_owned()),
        Some(other) => Err(format!("unknown type {other:?}: use \"stdio\" or \"http\"")),
        None => match (&entry.command, &entry.url) {
            (Some(_), Some(_)) => Err("has both \"command\" and \"url\": remove one, or add a \"type\"".to_owned()),
            (None, Some(_)) => Ok(Transport::Http),
            (Some(_), None) => Ok(Transport::Stdio),
            (None, None) => Err("has neither \"command\" nor \"url\"".to_owned()),
        },
    }
}

/// A host's name as an upstream's: a lower-case letter, then lower-case letters, digits and single `-`.
pub(crate) fn normalise(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_ascii_alphanumeric() {
            out.push(char.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    if out.starts_with(|first: char| first.is_ascii_digit()) {
        out.insert_str(0, "mcp-");
    }
    out.truncate(NAME_CHARS_MAX);
    out.truncate(out.trim_end_matches('-').len());
    (!out.is_empty()).then_some(out)
}

fn fault(path: &[String], text: impl Into<String>) -> Fault {
    Fault { path: path.to_vec(), text: text.into() }
}

fn with(path: &[String], key: &str) -> Vec<String> {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one member per MCP server")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
#[path = "mcp_json_tests.rs"]
mod tests;
