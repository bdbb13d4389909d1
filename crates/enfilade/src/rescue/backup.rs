//! `enfilade backup`: the registry of a running cluster, as one node has it at one index, to one file.
//! The file is a snapshot of the registry, as the nodes write them, with its digest.

use super::described;
use crate::Failure;
use crate::cli::Backup;
use crate::remote::{Remote, SOON, strange};
use anyhow::Context;
use enfilade_proto::admin::{BackupBegin, BackupRead, reply, request};
use enfilade_registry::StateMachine;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// A registry of millions of sessions takes this long to be written down, and no longer.
const FREEZE: Duration = Duration::from_secs(60);

/// Takes the backup; returns what is to be said.
///
/// # Errors
/// The node cannot be reached or refuses, what came is damaged, or the file cannot be written.
pub(crate) async fn backup(options: Backup) -> Result<(), Failure> {
    let to_stdout = options.out.as_os_str() == "-";
    if !to_stdout && options.out.exists() {
        return Err(anyhow::anyhow!("{} is there already: a backup never replaces one", options.out.display()).into());
    }
    let remote = Remote::new(&options.reach)?;
    let bytes = fetch(&remote, options.stale).await?;
    let state = StateMachine::restore(&bytes).context("the backup was damaged on its way")?;
    if to_stdout {
        std::io::stdout().lock().write_all(&bytes).context("cannot write to standard output")?;
        eprint!("{}", described(&state));
    } else {
        write(&options.out, &bytes).with_context(|| format!("cannot write {}", options.out.display()))?;
        crate::print(&format!("{} written, {} bytes\n{}", options.out.display(), bytes.len(), described(&state)))?;
    }
    Ok(())
}

async fn fetch(remote: &Remote, stale: bool) -> anyhow::Result<Vec<u8>> {
    let begin = request::Kind::BackupBegin(BackupBegin { stale });
    let reply::Kind::Backup(backup) = remote.ask(begin, FREEZE).await? else { return Err(strange()) };
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < backup.bytes {
        let read = BackupRead { id: backup.id, offset: bytes.len() as u64 };
        let reply::Kind::Piece(piece) = remote.ask(request::Kind::BackupRead(read), SOON).await? else {
            return Err(strange());
        };
        anyhow::ensure!(!piece.is_empty(), "the backup ended before its end");
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Under another name first: what has the name is whole.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    // For its owner only: it names principals, and the sessions that upstreams know.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}
