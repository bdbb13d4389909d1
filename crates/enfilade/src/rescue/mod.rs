//! The registry outside of a cluster: taken to a file, checked, put into a new cluster, and carried on by one node when
//! most voters are lost for good.
//!
//! Rule: what is written is whole or not there, and each command says what it has and what it cannot have.

mod backup;
mod plant;
mod recover;
mod restore;

pub(crate) use backup::backup;
pub(crate) use plant::UNFINISHED;
pub(crate) use recover::recover;
pub(crate) use restore::restore;

use anyhow::Context;
use enfilade_registry::{ClusterId, StateMachine};
use std::fmt::Write;
use std::path::Path;

/// Says what is in a backup.
///
/// # Errors
/// It cannot be read, or is not what was written.
pub(crate) fn verify(file: &Path) -> anyhow::Result<String> {
    Ok(format!("{} is a whole backup\n{}", file.display(), described(&read(file)?)))
}

/// The state in a file, which is checked.
fn read(file: &Path) -> anyhow::Result<StateMachine> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let state = StateMachine::restore(&bytes).with_context(|| format!("{} is no backup", file.display()))?;
    anyhow::ensure!(state.cluster().is_some(), "{} is not of a cluster", file.display());
    Ok(state)
}

/// One line per fact.
fn described(state: &StateMachine) -> String {
    let counts = state.counts();
    let nodes: Vec<String> = state.members().iter().map(|(node, member)| format!("{} ({node})", member.name)).collect();
    let digest = state.digest().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let cluster = state.cluster().unwrap_or(ClusterId(0));
    format!(
        "cluster   {cluster}\nindex     {}\ndigest    {digest}\nsessions  {}, of {} principals, {} subscriptions\nnodes     {}\n",
        state.applied(),
        counts.sessions,
        counts.principals,
        counts.subscriptions,
        nodes.join(", "),
    )
}

/// A number that no other cluster has.
fn new_cluster() -> anyhow::Result<ClusterId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(ClusterId(u128::from_ne_bytes(bytes)))
}
