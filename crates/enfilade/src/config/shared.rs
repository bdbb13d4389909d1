//! The cluster's configuration: what all nodes have in common, as one document. It comes before what a node's own file
//! says of the same.
//!
//! Rule: it is checked where it is applied and again by every node that takes it; and it holds no secret, because it is on
//! every disk and in every backup: values that may be one name a variable of the nodes' environment.

use super::Config;
use super::check::{Fault, OwnedStep, check};
use super::load::complete;
use super::placeholders::{Env, expand};
use enfilade_session::config::{Limits, ServerConfig};
use serde::{Deserialize, Serialize};

/// The keys of a node's configuration file that a cluster may have in common. A key that is left out has its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) servers: Vec<ServerConfig>,
    pub(crate) upstreams: Vec<enfilade_upstream::Config>,
}

impl Shared {
    /// As it is kept.
    ///
    /// # Errors
    /// A text for an operator: not such a document, or one of a newer version.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// As it is kept: JSON, with every default written out, so that another version's defaults do not change it.
    pub(crate) fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// What is wrong with it anywhere.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = check(&self.clone().over(Config::default()));
        for (index, upstream) in self.upstreams.iter().enumerate() {
            for (key, values) in [("headers", &upstream.headers), ("env", &upstream.env)] {
                for (name, _) in values.iter().filter(|(_, value)| !value.contains("${")) {
                    let path = vec![OwnedStep::Key("upstreams"), OwnedStep::Index(index), OwnedStep::Key(key)];
                    let text =
                        format!("{name:?}: say ${{VARIABLE}} or ${{VARIABLE:-value}}: all nodes write this down");
                    faults.push(Fault { path, text });
                }
            }
        }
        faults
    }

    /// A node's configuration with this in it.
    ///
    /// # Errors
    /// Why this node cannot run it, for an operator.
    pub(crate) fn taken(mut self, own: Config, env: Env<'_>) -> Result<Config, String> {
        if let Some(fault) = self.faults().into_iter().next() {
            return Err(fault.text);
        }
        for upstream in &mut self.upstreams {
            for value in upstream.headers.values_mut().chain(upstream.env.values_mut()) {
                *value = expand(value, env).map_err(|why| format!("upstream {:?}: {why}", upstream.name))?;
            }
        }
        let config = self.over(own);
        match check(&config).into_iter().next() {
            Some(fault) => Err(fault.text),
            None => Ok(config),
        }
    }

    fn over(self, own: Config) -> Config {
        let Self { limits, servers, upstreams } = self;
        let mut config = Config { limits, servers, upstreams, ..own };
        complete(&mut config);
        config
    }
}

/// What a node runs: its own configuration, with the newest version of the cluster's in it that it can run.
pub(crate) struct Chosen {
    pub(crate) config: Config,
    /// 0: its own only.
    pub(crate) version: u64,
    /// Why newer ones are not taken.
    pub(crate) refused: Vec<(u64, String)>,
}

/// Chooses among `versions`, the newest first.
pub(crate) fn choose<'a>(own: Config, versions: impl Iterator<Item = (u64, &'a str)>, env: Env<'_>) -> Chosen {
    let mut refused = Vec::new();
    for (version, text) in versions {
        match Shared::parse(text).and_then(|shared| shared.taken(own.clone(), env)) {
            Ok(config) => return Chosen { config, version, refused },
            Err(why) => refused.push((version, why)),
        }
    }
    Chosen { config: own, version: 0, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "s3cret".to_owned())
    }

    fn document(upstream: &str) -> String {
        format!(
            r#"{{"upstreams": [{{"name": "{upstream}", "url": "http://h/mcp", "headers": {{"X-Key": "${{TOKEN}}"}}}}]}}"#
        )
    }

    fn own() -> Config {
        let mut config = Config { drain_ms: 7, ..Config::default() };
        config.upstreams.push(enfilade_upstream::Config::http("own", "http://own/mcp"));
        config
    }

    fn chosen(versions: &[(u64, String)]) -> Chosen {
        choose(own(), versions.iter().map(|(version, text)| (*version, text.as_str())), &env)
    }

    #[test]
    fn the_newest_that_can_be_run_is_taken_over_the_nodes_own() {
        let bad = [
            ("of a newer version", r#"{"melt": true}"#.to_owned()),
            ("not a document", "{".to_owned()),
            ("no upstream", "{}".to_owned()),
            (
                "a server without its upstream",
                document("b").replacen('{', r#"{"servers": [{"name": "s", "upstreams": ["a"]}], "#, 1),
            ),
            ("a variable that this node has not", document("b").replace("TOKEN", "OTHER")),
            ("a secret in the open", document("b").replace("${TOKEN}", "s3cret")),
        ];
        for (what, text) in bad {
            let chosen = chosen(&[(3, text), (2, document("a")), (1, document("c"))]);
            assert_eq!((chosen.version, chosen.refused.len()), (2, 1), "{what}");
            assert_eq!((chosen.refused[0].0, chosen.config.drain_ms), (3, 7), "{what}");
            assert_eq!(chosen.config.upstreams[0].name, "a", "{what}");
            assert_eq!(chosen.config.upstreams[0].headers["X-Key"], "s3cret", "{what}");
            assert_eq!(chosen.config.servers[0].upstreams, ["a"], "{what}");
        }
        let own = chosen(&[(1, "{}".to_owned())]);
        assert_eq!((own.version, own.config.upstreams[0].name.as_str()), (0, "own"));
    }

    #[test]
    fn a_document_survives_its_text() -> anyhow::Result<()> {
        let shared = Shared::parse(&document("a")).map_err(anyhow::Error::msg)?;
        assert!(shared.faults().is_empty());
        let text = shared.to_text()?;
        assert!(text.contains("${TOKEN}") && text.contains("session_idle_ms"), "{text}");
        assert_eq!(Shared::parse(&text).map_err(anyhow::Error::msg)?.to_text()?, text);
        Ok(())
    }
}
