//! Secrets that a node makes for itself at its first start and keeps in its data directory.
//! Rule: a secret is either complete and readable by nobody else, or it is refused by name.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Length of a secret.
pub const SECRET_BYTES: usize = 32;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file or its folder cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Something else has been at the file; it is not guessed what the secret was.
    #[error("{} does not hold {SECRET_BYTES} bytes; restore it, or remove it to invalidate all that it protects", .0.display())]
    Damaged(PathBuf),
    /// Others may read it.
    #[error("{} can be read by others; replace it, or run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
}

/// The secret `name` in `dir`, filled by `random` and written at the first call. Blocks.
///
/// The directory must belong to this process alone: two that start at once might each believe in their own secret.
///
/// # Errors
/// See [`SecretError`].
pub fn secret(
    dir: &Path,
    name: &str,
    random: impl FnOnce(&mut [u8; SECRET_BYTES]) -> io::Result<()>,
) -> Result<[u8; SECRET_BYTES], SecretError> {
    let path = dir.join(name);
    match read(&path) {
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut bytes = [0; SECRET_BYTES];
    random(&mut bytes).map_err(|source| SecretError::Io {
        what: "find random bytes for",
        path: path.clone(),
        source,
    })?;
    write(dir, &path, &bytes)?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<[u8; SECRET_BYTES], SecretError> {
    let failed = |source| SecretError::Io { what: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if is_exposed(&file.metadata().map_err(failed)?) {
        return Err(SecretError::Exposed(path.to_owned()));
    }
    let mut bytes = Vec::with_capacity(SECRET_BYTES + 1);
    Read::by_ref(&mut file).take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    bytes.try_into().map_err(|_| SecretError::Damaged(path.to_owned()))
}

/// Whether others than this process's user may read or write a file that holds a secret.
///
/// What root gave to the process's group to be read is as secret as what the user owns: so supervisors mount secrets
/// for a process without privileges (Kubernetes: a `Secret` in a pod with `fsGroup`).
pub fn is_exposed(file: &Metadata) -> bool {
    exposed(file.mode(), file.uid(), rustix::process::geteuid().as_raw())
}

fn exposed(mode: u32, owner: u32, me: u32) -> bool {
    let forbidden = if owner == 0 && me != 0 { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

/// Under another name first, so that a crash never leaves half a secret.
fn write(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let fresh = path.with_extension("new");
    let failed = |source| SecretError::Io { what: "write", path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    // A file that a crash had left keeps its old mode.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sevens(bytes: &mut [u8; SECRET_BYTES]) -> io::Result<()> {
        bytes.fill(7);
        Ok(())
    }

    fn no_more(_: &mut [u8; SECRET_BYTES]) -> io::Result<()> {
        Err(io::Error::other("a second secret was wanted"))
    }

    #[test]
    fn is_made_once_and_for_the_owner_only() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        assert_eq!(secret(dir.path(), "key", sevens)?, [7; SECRET_BYTES]);
        assert_eq!(secret(dir.path(), "key", no_more)?, [7; SECRET_BYTES]);
        let mode = fs::metadata(dir.path().join("key"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn only_root_may_give_a_secret_to_a_group() {
        let (root, me) = (0, 1000);
        let table = [
            (0o600, me, me, false),
            (0o640, me, me, true),
            (0o604, me, me, true),
            (0o400, root, me, false),
            (0o440, root, me, false),
            (0o460, root, me, true),
            (0o444, root, me, true),
            (0o440, 1001, me, true),
            (0o440, root, root, true),
        ];
        for (mode, owner, me, expected) in table {
            assert_eq!(exposed(mode, owner, me), expected, "{mode:o} of {owner} for {me}");
        }
    }

    #[test]
    fn is_refused_when_damaged_or_exposed() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        secret(dir.path(), "key", sevens)?;
        let path = dir.path().join("key");
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        assert!(matches!(secret(dir.path(), "key", no_more), Err(SecretError::Exposed(_))));
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        for length in [0, SECRET_BYTES - 1, SECRET_BYTES + 1] {
            fs::write(&path, vec![7; length])?;
            assert!(matches!(secret(dir.path(), "key", no_more), Err(SecretError::Damaged(_))), "{length} bytes");
        }
        Ok(())
    }
}
