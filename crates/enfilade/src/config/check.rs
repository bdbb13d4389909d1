//! What a schema cannot say: references, duplicates, addresses that need permission. Pure.

use super::Config;
use super::places::Step;
use enfilade_upstream::{ConfigError, Connector};
use std::collections::HashSet;
use std::hash::Hash;

/// Every process takes more than this.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Something wrong, and the path of the value that is wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: Vec<OwnedStep>,
    pub(crate) text: String,
}

/// [`Step`] with a name of its own.
#[derive(Debug, Clone)]
pub(crate) enum OwnedStep {
    Key(&'static str),
    Index(usize),
}

impl OwnedStep {
    pub(crate) fn borrow(&self) -> Step<'_> {
        match self {
            Self::Key(key) => Step::Key(key),
            Self::Index(index) => Step::Index(*index),
        }
    }
}

/// Everything that is wrong with a configuration.
pub(crate) fn check(config: &Config) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    edge(config, &mut faults);
    limits(config, &mut faults);
    upstreams(config, &mut faults);
    servers(config, &mut faults);
    if let Some(cluster) = &config.cluster {
        super::check_cluster::check(cluster, &mut faults);
    }
    faults.0
}

pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, path: impl IntoIterator<Item = OwnedStep>, text: impl Into<String>) {
        self.0.push(Fault { path: path.into_iter().collect(), text: text.into() });
    }
}

fn member(list: &'static str, index: usize, key: &'static str) -> [OwnedStep; 3] {
    [OwnedStep::Key(list), OwnedStep::Index(index), OwnedStep::Key(key)]
}

fn edge(config: &Config, faults: &mut Faults) {
    if let Err(error) = config.edge().check() {
        faults.add(edge_culprit(config, &error), error.to_string());
    }
    let mut seen = HashSet::new();
    for (index, listen) in config.listen.iter().enumerate() {
        if listen.address.port() != 0 && !seen.insert(listen.address) {
            faults.add(member("listen", index, "address"), format!("{} is there already", listen.address));
        }
    }
    if config.memory_bytes_max.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
        let text = format!("\"memory_bytes_max\" must be {MEMORY_BYTES_MIN} (1 MiB) or more");
        faults.add([OwnedStep::Key("memory_bytes_max")], text);
    }
    if let Some(health) = config.health.filter(|health| seen.contains(health)) {
        faults.add([OwnedStep::Key("health")], format!("{health} is there already, under \"listen\""));
    }
}

/// The value that an error of the edge is about.
fn edge_culprit(config: &Config, error: &enfilade_edge::ConfigError) -> Vec<OwnedStep> {
    use enfilade_edge::ConfigError;
    let item = |list: &'static str, position: Option<usize>| {
        [OwnedStep::Key(list)].into_iter().chain(position.map(OwnedStep::Index)).collect()
    };
    match error {
        ConfigError::NoAddress => item("listen", None),
        ConfigError::Remote(address) => {
            let position = config.listen.iter().position(|listen| listen.address == *address);
            let mut path: Vec<OwnedStep> = item("listen", position);
            path.push(OwnedStep::Key("address"));
            path
        }
        ConfigError::Range { name, .. } => item(name, None),
        ConfigError::Host(host) => item("hosts", config.hosts.iter().position(|one| one == host)),
        ConfigError::Origin(origin) => item("origins", config.origins.iter().position(|one| one == origin)),
    }
}

fn limits(config: &Config, faults: &mut Faults) {
    let limits = &config.limits;
    let numbers = [
        ("session_idle_ms", limits.session_idle_ms),
        ("session_absolute_ms", limits.session_absolute_ms),
        ("sessions_per_principal_max", limits.sessions_per_principal_max),
        ("sessions_max", limits.sessions_max),
        ("calls_per_session_max", limits.calls_per_session_max as u64),
        ("page_items_max", limits.page_items_max as u64),
        ("health_interval_ms", limits.health_interval_ms),
    ];
    for (key, _) in numbers.into_iter().filter(|(_, value)| *value == 0) {
        faults.add([OwnedStep::Key("limits"), OwnedStep::Key(key)], format!("{key:?} must be greater than 0"));
    }
}

/// Only a node that owns sessions connects upstreams.
fn owns(config: &Config) -> bool {
    config.cluster.as_ref().is_none_or(|cluster| cluster.plays(super::cluster::Role::Owner))
}

fn upstreams(config: &Config, faults: &mut Faults) {
    if config.upstreams.is_empty() && owns(config) {
        faults.add([OwnedStep::Key("upstreams")], "there is no upstream: give at least one under \"upstreams\"");
    }
    let mut seen = HashSet::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if let Err(error) = Connector::new(upstream.clone()) {
            faults.add(member("upstreams", index, culprit(&error)), error.to_string());
        }
        let misplaced: &[(&'static str, bool)] = if upstream.url.is_some() {
            &[("args", !upstream.args.is_empty()), ("env", !upstream.env.is_empty()), ("cwd", upstream.cwd.is_some())]
        } else {
            &[("headers", !upstream.headers.is_empty())]
        };
        let needed = if upstream.url.is_some() { "command" } else { "url" };
        for (key, _) in misplaced.iter().filter(|(_, given)| *given) {
            faults.add(member("upstreams", index, key), format!("{key:?} means nothing without {needed:?}"));
        }
        unique(&mut seen, &upstream.name, "upstreams", index, "name", faults);
    }
}

/// The member that an upstream's error is about.
fn culprit(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Name(_) => "name",
        // Where the upstream begins.
        ConfigError::Nothing(_) => "",
        ConfigError::Both(_) | ConfigError::Url { .. } => "url",
        ConfigError::Header(_) => "headers",
        ConfigError::OneProcess(_) => "processes_max",
        ConfigError::Zero(number, _) => number,
    }
}

fn servers(config: &Config, faults: &mut Faults) {
    let known: HashSet<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (index, server) in config.servers.iter().enumerate() {
        if server.name.is_empty() {
            faults.add(member("servers", index, "name"), "a server needs a name");
        }
        if !is_path(&server.path) {
            let text = format!("path {:?}: begin with '/', and use visible ASCII without '?' and '#'", server.path);
            faults.add(member("servers", index, "path"), text);
        }
        if server.path == enfilade_edge::HEALTH {
            let text = format!("path {:?} is taken: it tells that the node runs", server.path);
            faults.add(member("servers", index, "path"), text);
        }
        unique(&mut names, &server.name, "servers", index, "name", faults);
        unique(&mut paths, &server.path, "servers", index, "path", faults);
        let mut used = HashSet::new();
        for (position, name) in server.upstreams.iter().enumerate() {
            let path = member("servers", index, "upstreams").into_iter().chain([OwnedStep::Index(position)]);
            if known.is_empty() {
                // Said already, or a node that connects none.
            } else if !known.contains(name.as_str()) {
                faults.add(path, format!("there is no upstream {name:?}{}", suggestion(&known)));
            } else if !used.insert(name) {
                faults.add(path, format!("the upstream {name:?} is there twice"));
            }
        }
    }
}

fn unique<'a, T: Hash + Eq + ?Sized + std::fmt::Debug>(
    seen: &mut HashSet<&'a T>,
    value: &'a T,
    list: &'static str,
    index: usize,
    key: &'static str,
    faults: &mut Faults,
) {
    if !seen.insert(value) {
        faults.add(member(list, index, key), format!("the {key} {value:?} is taken already"));
    }
}

fn suggestion(known: &HashSet<&str>) -> String {
    let mut names: Vec<&str> = known.iter().copied().collect();
    names.sort_unstable();
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
}
