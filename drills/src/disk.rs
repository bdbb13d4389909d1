//! A disk of our own, a file that is mounted, which can be made to stand still: writes to it wait.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const BYTES: u64 = 512 << 20;

/// The mounted disk; unmounted when dropped.
pub(crate) struct Disk(PathBuf);

/// While it exists writes wait.
pub(crate) struct Still<'a>(&'a Disk);

impl Disk {
    /// A disk whose file is in `dir`. Needs root, `mkfs.ext4`, `mount` and `fsfreeze`.
    pub(crate) fn new(dir: &Path) -> Result<Disk> {
        ensure!(nix::unistd::geteuid().is_root(), "mounting a disk needs root");
        let (file, at) = (dir.join("disk.img"), dir.join("disk"));
        std::fs::File::create(&file)?.set_len(BYTES)?;
        std::fs::create_dir_all(&at)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&file))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&at))?;
        Ok(Disk(at))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// From now on it stands still.
    pub(crate) async fn freeze(&self) -> Result<Still<'_>> {
        // What is not written yet is written first.
        let output = tokio::process::Command::new("fsfreeze").arg("--freeze").arg(&self.0).output().await?;
        ensure!(output.status.success(), "fsfreeze: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Still(self))
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.0)) {
            eprintln!("enfilade-drills: {error:#}");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a node that was killed may still be on its way out.
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.0)) {
            eprintln!("enfilade-drills: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
