//! The keys that the nodes of a cluster have in common: made once by `enfilade keys`, then the same folder everywhere.
//! Rule: nothing is overwritten and nothing is made up. A node with keys of its own would speak to nobody, and its
//! sessions would be strangers at every other node.

use anyhow::Context;
use enfilade_mesh::Tls;
use enfilade_runtime::{SECRET_BYTES, is_exposed, secret};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const CA: &str = "ca.pem";
const CERTIFICATE: &str = "node.pem";
const KEY: &str = "node.key";
const GOSSIP: &str = "gossip.key";
/// The names of these two are those in a lone node's data directory.
const SESSION: &str = "session.key";
const CURSOR: &str = "cursor.key";

const ALL: [&str; 6] = [CA, CERTIFICATE, KEY, GOSSIP, SESSION, CURSOR];

/// What `enfilade keys` made.
pub(crate) struct Keys {
    pub(crate) tls: Tls,
    pub(crate) gossip: [u8; SECRET_BYTES],
    pub(crate) session: [u8; SECRET_BYTES],
    pub(crate) cursor: Vec<u8>,
}

/// Makes the keys of a cluster. Blocks.
///
/// # Errors
/// The folder holds some already, or cannot be written.
pub(crate) fn make(dir: &Path) -> anyhow::Result<()> {
    if let Some(name) = ALL.iter().find(|name| dir.join(name).exists()) {
        anyhow::bail!("{} is there already: keys are never overwritten", dir.join(name).display());
    }
    let unusable = || format!("the folder {} cannot be used", dir.display());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(unusable)?;
    let made = enfilade_mesh::keys::generate()?;
    for (name, text) in [(CA, &made.ca_cert), (CERTIFICATE, &made.node_cert), (KEY, &made.node_key)] {
        let path = dir.join(name);
        write_new(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let random = |bytes: &mut [u8; SECRET_BYTES]| getrandom::fill(bytes).map_err(io::Error::other);
    for name in [GOSSIP, SESSION, CURSOR] {
        secret(dir, name, random)?;
    }
    Ok(())
}

/// Makes the keys if the folder does not hold any yet. Blocks.
///
/// # Errors
/// As [`make`]; some of them are missing.
pub(crate) fn make_once(dir: &Path) -> anyhow::Result<()> {
    if ALL.iter().all(|name| dir.join(name).exists()) { Ok(()) } else { make(dir) }
}

/// Reads the keys of a cluster. Blocks.
///
/// # Errors
/// One of them is missing, damaged, or can be read by others.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Keys> {
    let tls = Tls { ca: text(dir, CA)?, cert: text(dir, CERTIFICATE)?, key: text(dir, KEY)? };
    let cursor = existing(dir, CURSOR)?.to_vec();
    Ok(Keys { tls, gossip: existing(dir, GOSSIP)?, session: existing(dir, SESSION)?, cursor })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn text(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    let unusable = || format!("cannot read {} (enfilade keys --out DIR makes it)", path.display());
    let file = File::open(&path).with_context(unusable)?;
    if name == KEY && is_exposed(&file.metadata().with_context(unusable)?) {
        anyhow::bail!("{} can be read by others; replace it, or run: chmod 600 {}", path.display(), path.display());
    }
    fs::read_to_string(&path).with_context(unusable)
}

/// A secret that must be there.
fn existing(dir: &Path, name: &str) -> anyhow::Result<[u8; SECRET_BYTES]> {
    let path = dir.join(name);
    let missing = || format!("cannot read {} (enfilade keys --out DIR makes it)", path.display());
    fs::metadata(&path).with_context(missing)?;
    Ok(secret(dir, name, |_| Err(io::Error::other("it has just gone")))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn are_made_once_and_for_the_owner_only() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("keys");
        make(&dir)?;
        let read_back = read(&dir)?;
        assert!(read_back.tls.key.contains("PRIVATE KEY"));
        assert!(read_back.gossip != read_back.session && read_back.session[..] != read_back.cursor[..]);
        for name in ALL {
            assert_eq!(fs::metadata(dir.join(name))?.permissions().mode() & 0o777, 0o600, "{name}");
        }
        make_once(&dir)?;
        assert_eq!(read(&dir)?.gossip, read_back.gossip);
        let refused = make(&dir).expect_err("they are there").to_string();
        assert!(refused.contains("never overwritten"), "{refused}");
        Ok(())
    }

    #[test]
    fn a_missing_or_exposed_one_is_named() -> anyhow::Result<()> {
        for name in ALL {
            let folder = tempfile::tempdir()?;
            make(folder.path())?;
            let path = folder.path().join(name);
            let error = |what: &str| format!("{:#}", read(folder.path()).err().unwrap_or_else(|| panic!("{what}")));
            if ![CA, CERTIFICATE].contains(&name) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
                assert!(error(name).contains("chmod 600"), "{name}");
            }
            fs::remove_file(&path)?;
            assert!(error(name).contains(name), "{name}");
            // What is left is not completed: it would be another cluster's.
            assert!(make_once(folder.path()).is_err(), "{name}");
        }
        Ok(())
    }
}
