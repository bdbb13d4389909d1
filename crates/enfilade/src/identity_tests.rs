//! What the file of an identity survives, and what is refused.

use super::*;

fn seven() -> io::Result<u64> {
    Ok(7)
}

fn none() -> io::Result<u64> {
    Err(io::Error::other("another id was wanted"))
}

#[test]
fn the_id_stays_and_the_generation_rises() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut zero_first = [0, 9].into_iter();
    let first = Identity::open(folder.path(), || Ok(zero_first.next().unwrap_or(1)))?;
    assert_eq!(first.run(), Run { node: NodeId(9), generation: Generation(1) });
    drop(first);
    for generation in 2..5 {
        let next = Identity::open(folder.path(), none)?;
        assert_eq!(next.run(), Run { node: NodeId(9), generation: Generation(generation) });
    }
    Ok(())
}

#[test]
fn a_directory_has_one_user() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let first = Identity::open(folder.path(), seven)?;
    assert!(matches!(Identity::open(folder.path(), none), Err(IdentityError::Locked(_))));
    drop(first);
    // The one that was refused has not raised it.
    assert_eq!(Identity::open(folder.path(), none)?.run().generation, Generation(2));
    Ok(())
}

#[test]
fn another_cluster_is_refused_for_ever() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut identity = Identity::open(folder.path(), seven)?;
    assert_eq!(identity.cluster(), None);
    identity.belongs_to(ClusterId(5))?;
    identity.belongs_to(ClusterId(5))?;
    drop(identity);
    let mut identity = Identity::open(folder.path(), none)?;
    assert_eq!(identity.cluster(), Some(ClusterId(5)));
    assert!(matches!(identity.belongs_to(ClusterId(6)), Err(IdentityError::OtherCluster { .. })));
    assert_eq!(identity.cluster(), Some(ClusterId(5)));
    Ok(())
}

#[test]
fn any_damage_is_seen() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    drop(Identity::open(folder.path(), seven)?);
    let path = folder.path().join(NAME);
    let good = fs::read(&path)?;
    for length in 0..good.len() - 1 {
        fs::write(&path, &good[..length])?;
        let refused = Identity::open(folder.path(), none);
        assert!(matches!(refused, Err(IdentityError::Damaged(_))), "{length} bytes");
    }
    let text = String::from_utf8(good)?;
    for (from, to) in [("07\"", "08\""), ("\"generation\": 1", "\"generation\": 2"), ("null", "\"5\"")] {
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1))?;
        assert!(matches!(Identity::open(folder.path(), none), Err(IdentityError::Damaged(_))), "{from}");
    }
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2"))?;
    assert!(matches!(Identity::open(folder.path(), none), Err(IdentityError::Format { found: 2, .. })));
    Ok(())
}

#[test]
fn state_without_an_id_gets_no_new_one() -> Result<(), Box<dyn std::error::Error>> {
    for state in STATE {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join(state))?;
        assert!(matches!(Identity::open(folder.path(), seven), Err(IdentityError::Nameless(_))), "{state}");
    }
    Ok(())
}
