//! Files and command line become one configuration; later sources win.

use super::check::{Fault, check};
use super::mcp_json;
use super::placeholders::Env;
use super::places::{Places, Step};
use super::{Cluster, Config, Problem, Shared};
use crate::cli::{NodeOptions, Sources};
use std::path::{Path, PathBuf};

/// One node's configuration, complete and checked. `node` comes before the section `cluster`; `given` are upstreams that
/// no file names; they come first.
///
/// # Errors
/// Everything that is wrong with it, each with its place. A file that cannot be understood is reported alone.
pub(crate) fn load(
    sources: &Sources,
    node: &NodeOptions,
    given: Vec<enfilade_upstream::Config>,
    env: Env<'_>,
) -> Result<Config, Vec<Problem>> {
    let mut draft = Draft::default();
    let mut config = match &sources.config {
        Some(file) => draft.yaml(file)?,
        None => Config::default(),
    };
    let yaml = (0..config.upstreams.len()).map(Origin::Yaml);
    draft.origins = given.iter().map(|_| Origin::Given).chain(yaml).collect();
    config.upstreams.splice(0..0, given);
    if let Some(file) = &sources.mcp_json {
        draft.mcp_json(file, env, &mut config)?;
    }
    draft.override_with(sources, &mut config);
    draft.override_cluster(node, &mut config);
    let faults = check(&config);
    if !faults.is_empty() {
        return Err(faults.into_iter().map(|fault| draft.place(fault)).collect());
    }
    complete(&mut config);
    Ok(config)
}

/// A cluster's configuration in a file, checked as far as that can be done anywhere.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub(crate) fn load_shared(file: &Path) -> Result<Shared, Vec<Problem>> {
    let text = read(file)?;
    let shared: Shared = parse_yaml(&text).map_err(|(at, text)| one(file, at, text))?;
    let places = Places::of(&text);
    let place = |fault: Fault| {
        let path: Vec<Step<'_>> = fault.path.iter().map(|step| step.borrow()).collect();
        Problem { file: Some(file.to_owned()), at: places.find(&path), text: fault.text }
    };
    let problems: Vec<Problem> = shared.faults().into_iter().map(place).collect();
    if problems.is_empty() { Ok(shared) } else { Err(problems) }
}

/// What the remaining code need not think about: which upstreams a server has when it names none.
pub(super) fn complete(config: &mut Config) {
    let all: Vec<String> = config.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    if config.servers.is_empty() {
        config.servers.push(enfilade_session::config::ServerConfig {
            name: "default".to_owned(),
            path: "/mcp".to_owned(),
            prefix: enfilade_session::config::PrefixChoice::default(),
            upstreams: Vec::new(),
        });
    }
    for server in config.servers.iter_mut().filter(|server| server.upstreams.is_empty()) {
        server.upstreams.clone_from(&all);
    }
}

/// Remembers what came from where while the configuration is put together.
#[derive(Default)]
struct Draft {
    yaml: Option<Document>,
    json: Option<Document>,
    /// For each upstream.
    origins: Vec<Origin>,
    listen_overridden: bool,
    /// Keys of `cluster` that the command line gave.
    cluster_overridden: Vec<&'static str>,
}

struct Document {
    file: PathBuf,
    places: Places,
}

enum Origin {
    Given,
    Yaml(usize),
    Json([String; 2]),
}

impl Draft {
    fn yaml(&mut self, file: &Path) -> Result<Config, Vec<Problem>> {
        let text = read(file)?;
        let config = parse_yaml(&text).map_err(|(at, text)| one(file, at, text))?;
        self.yaml = Some(Document { file: file.to_owned(), places: Places::of(&text) });
        Ok(config)
    }

    fn mcp_json(&mut self, file: &Path, env: Env<'_>, config: &mut Config) -> Result<(), Vec<Problem>> {
        let text = read(file)?;
        let parsed = serde_json::from_str(&text).map_err(|error| one(file, json_place(&error), json_text(&error)))?;
        let places = Places::of(&text);
        let found = mcp_json::upstreams(parsed, env).map_err(|faults| {
            let place = |fault: mcp_json::Fault| Problem {
                file: Some(file.to_owned()),
                at: places.find(&keys(&fault.path)),
                text: fault.text,
            };
            faults.into_iter().map(place).collect::<Vec<_>>()
        })?;
        for found in found {
            self.origins.push(Origin::Json(found.path));
            config.upstreams.push(found.upstream);
        }
        self.json = Some(Document { file: file.to_owned(), places });
        Ok(())
    }

    fn override_with(&mut self, sources: &Sources, config: &mut Config) {
        if let Some(address) = sources.listen {
            config.listen = vec![enfilade_edge::Listen { address, protocol: enfilade_edge::Protocol::default() }];
            self.listen_overridden = true;
        }
        config.allow_remote |= sources.allow_remote;
        if let Some(dir) = &sources.data_dir {
            config.data_dir.clone_from(dir);
        }
    }

    /// Any of these options makes it a node of a cluster.
    fn override_cluster(&mut self, node: &NodeOptions, config: &mut Config) {
        let given = [
            ("node", node.node.is_some()),
            ("link", node.link.is_some()),
            ("gossip", node.gossip.is_some()),
            ("seeds", !node.seed.is_empty()),
            ("keys", node.keys.is_some()),
        ];
        self.cluster_overridden = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if self.cluster_overridden.is_empty() {
            return;
        }
        let cluster = config.cluster.get_or_insert_with(Cluster::default);
        cluster.node = node.node.clone().unwrap_or_else(|| std::mem::take(&mut cluster.node));
        cluster.link = node.link.unwrap_or(cluster.link);
        cluster.gossip = node.gossip.unwrap_or(cluster.gossip);
        cluster.keys = node.keys.clone().or_else(|| cluster.keys.take());
        if !node.seed.is_empty() {
            cluster.seeds.clone_from(&node.seed);
        }
    }

    /// Whether what is wrong was said on the command line.
    fn overridden(&self, path: &[Step<'_>]) -> bool {
        match path {
            [Step::Key("listen"), ..] => self.listen_overridden,
            [Step::Key("cluster"), Step::Key(key), ..] => self.cluster_overridden.contains(key),
            _ => false,
        }
    }

    /// Finds the place of a fault in the file that it came from.
    fn place(&self, fault: Fault) -> Problem {
        let path: Vec<Step<'_>> = fault.path.iter().map(|step| step.borrow()).collect();
        let origin = match path[..] {
            [Step::Key("upstreams"), Step::Index(index), ..] => self.origins.get(index),
            _ => None,
        };
        let (document, path) = match origin {
            Some(Origin::Json(entry)) => {
                (&self.json, keys(entry).into_iter().chain(path[2..].iter().copied()).collect())
            }
            Some(Origin::Yaml(index)) => {
                let inner = path[2..].iter().copied();
                (&self.yaml, [path[0], Step::Index(*index)].into_iter().chain(inner).collect())
            }
            Some(Origin::Given) => (&None, path),
            None if self.overridden(&path) => (&None, path),
            None => (if self.yaml.is_some() { &self.yaml } else { &self.json }, path),
        };
        match document {
            Some(document) => {
                Problem { file: Some(document.file.clone()), at: document.places.find(&path), text: fault.text }
            }
            None => Problem::on_command_line(fault.text),
        }
    }
}

fn keys(path: &[String]) -> Vec<Step<'_>> {
    path.iter().map(|key| Step::Key(key)).collect()
}

fn read(file: &Path) -> Result<String, Vec<Problem>> {
    std::fs::read_to_string(file).map_err(|error| one(file, None, format!("cannot be read: {error}")))
}

fn one(file: &Path, at: Option<(u64, u64)>, text: String) -> Vec<Problem> {
    vec![Problem { file: Some(file.to_owned()), at, text }]
}

fn parse_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, (Option<(u64, u64)>, String)> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(|location| (location.line(), location.column()));
        (place, yaml_text(error))
    })
}

/// The error's text without the place, which stands in front of it.
fn yaml_text(error: &serde_saphyr::Error) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let end = error.location().and_then(|place| {
        let suffix = format!(" at line {}, column {}", place.line(), place.column());
        text.rfind(&suffix)
    });
    end.map_or(text.as_str(), |end| &text[..end]).trim().to_owned()
}

fn json_place(error: &serde_json::Error) -> Option<(u64, u64)> {
    (error.line() > 0).then(|| (error.line() as u64, error.column() as u64))
}

fn json_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}
