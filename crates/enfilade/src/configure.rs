//! `enfilade config` and `enfilade finalise`: what is decided once for the whole cluster.

use crate::cli::{ConfigCommand, Reach};
use crate::config::load_shared;
use crate::remote::{Remote, SOON, strange};
use crate::{Failure, print};
use enfilade_proto::admin::{Config, ConfigApply, ConfigShow, Finalise, reply, request};
use enfilade_registry::COMMAND_FORMAT;
use std::fmt::Write;

/// Does what the command says, at one node.
///
/// # Errors
/// The document is wrong, or the node cannot be reached or refuses.
pub(crate) async fn config(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Apply { file, reach } => {
            // Before anything is asked of anybody.
            let document = load_shared(&file).map_err(Failure::Configuration)?.to_text()?;
            let remote = Remote::new(&reach)?;
            let present = show(&remote, 0).await?.version;
            apply(&remote, ConfigApply { version: present + 1, document, reverts: None }).await
        }
        ConfigCommand::Revert { version, reach } => {
            let remote = Remote::new(&reach)?;
            let present = show(&remote, 0).await?.version;
            let document = show(&remote, version).await?.document;
            apply(&remote, ConfigApply { version: present + 1, document, reverts: Some(version) }).await
        }
        ConfigCommand::Show { version, reach } => {
            let shown = show(&Remote::new(&reach)?, version.unwrap_or(0)).await?;
            if shown.version == 0 {
                return print("nobody applied a configuration: each node runs its own file\n");
            }
            let value: serde_json::Value = serde_json::from_str(&shown.document).map_err(anyhow::Error::from)?;
            let text = serde_saphyr::to_string(&value).map_err(anyhow::Error::from)?;
            print(&format!("# version {}; this node runs version {}\n{text}", shown.version, shown.runs))
        }
        ConfigCommand::History { reach } => {
            let shown = show(&Remote::new(&reach)?, 0).await?;
            let lines = shown.kept.iter().fold(String::new(), |mut text, kept| {
                let reverts = kept.reverts.map_or_else(String::new, |version| format!(", puts back {version}"));
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "version {}  {} s ago, {} bytes{reverts}",
                    kept.version,
                    kept.age_ms / 1000,
                    kept.bytes
                );
                text
            });
            print(&format!("{lines}this node runs version {}\n", shown.runs))
        }
    }
}

/// Permits the commands that this release knows, for ever.
///
/// # Errors
/// A member does not know them, or the node cannot be reached.
pub(crate) async fn finalise(reach: Reach) -> Result<(), Failure> {
    let version = u32::from(COMMAND_FORMAT);
    let reply::Kind::Finalised(version) =
        Remote::new(&reach)?.ask(request::Kind::Finalise(Finalise { version }), SOON).await?
    else {
        return Err(strange().into());
    };
    print(&format!("the cluster uses format {version} from now on: releases that do not know it cannot come back\n"))
}

async fn show(remote: &Remote, version: u64) -> anyhow::Result<Config> {
    match remote.ask(request::Kind::ConfigShow(ConfigShow { version }), SOON).await? {
        reply::Kind::Config(config) => Ok(config),
        _ => Err(strange()),
    }
}

async fn apply(remote: &Remote, new: ConfigApply) -> Result<(), Failure> {
    match remote.ask(request::Kind::ConfigApply(new), SOON).await? {
        reply::Kind::Config(config) => print(&format!(
            "version {} is applied; every node takes it at its next start: restart one after the other\n",
            config.version
        )),
        _ => Err(strange().into()),
    }
}
