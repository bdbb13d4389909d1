//! Names of tools and prompts under which several upstreams look like one server (BRIDGE.md rule 9).
//!
//! Every name that was issued leads back to one upstream and one original name, for as long as the table lives: a name
//! that disappears stays reserved, so a late call can never reach another upstream.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest name that is issued while several upstreams share a server, in characters: what the strictest hosts accept.
pub const NAME_CHARS_MAX: usize = 64;

/// Stands between upstream and original name.
pub const SEPARATOR: &str = "__";

/// Most names of one upstream; names are never given back, so an upstream that makes up new ones without end is stopped.
pub const NAMES_MAX: usize = 65_536;

/// Characters of the hash in a short alias (40 bits).
const HASH_CHARS: usize = 8;

/// When a name carries its upstream's name in front. With one upstream it never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Prefix {
    /// Every name.
    #[default]
    Always,
    /// Only a name that is already taken when it comes; names in use are never changed.
    OnConflict,
    /// No name: a second claim is an error, and its item is left out.
    Never,
}

/// Two upstreams offer one name and the mode forbids to tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upstreams {holder:?} and {claimant:?} both offer the name {name:?}; {holder:?} keeps it")]
pub struct Collision {
    /// The name.
    pub name: String,
    /// The upstream that has it.
    pub holder: String,
    /// The upstream that does not get it.
    pub claimant: String,
}

/// Why a name cannot be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Another upstream has it.
    #[error(transparent)]
    Collision(#[from] Collision),
    /// The upstream has had [`NAMES_MAX`] names already.
    #[error("the upstream {0:?} has offered more than 65,536 names")]
    TooMany(String),
}

/// The names of one kind (tools, or prompts) of one virtual server.
///
/// Short aliases depend on upstream and original name alone. With [`Prefix::OnConflict`] and [`Prefix::Never`] who keeps
/// a plain name depends on who came first: nodes agree when each assigns whole lists in upstream order.
#[derive(Debug, Clone)]
pub struct NameTable {
    prefix: Prefix,
    upstreams: Vec<String>,
    /// Issued name → upstream and original name.
    items: HashMap<Arc<str>, (usize, Arc<str>)>,
    /// Per upstream: original name → issued name.
    issued: Vec<HashMap<Arc<str>, Arc<str>>>,
}

impl NameTable {
    /// An empty table for upstreams in their configured order.
    #[must_use]
    pub fn new(prefix: Prefix, upstreams: &[String]) -> Self {
        Self {
            prefix,
            upstreams: upstreams.to_vec(),
            items: HashMap::new(),
            issued: vec![HashMap::new(); upstreams.len()],
        }
    }

    /// The name under which clients see `original` of `upstream`; the same one every time.
    ///
    /// # Errors
    /// [`NameError::Collision`] with [`Prefix::Never`], when another upstream has the name; [`NameError::TooMany`] when
    /// this upstream had [`NAMES_MAX`] others before.
    ///
    /// # Panics
    /// When there is no upstream of that index: that is a defect of the caller.
    pub fn assign(&mut self, upstream: usize, original: &str) -> Result<Arc<str>, NameError> {
        if let Some(known) = self.issued(upstream, original) {
            return Ok(Arc::clone(known));
        }
        if self.issued[upstream].len() >= NAMES_MAX {
            return Err(NameError::TooMany(self.upstreams[upstream].clone()));
        }
        let name: Arc<str> = self.choose(upstream, original)?.into();
        let original: Arc<str> = if *name == *original { Arc::clone(&name) } else { original.into() };
        self.items.insert(Arc::clone(&name), (upstream, Arc::clone(&original)));
        self.issued[upstream].insert(original, Arc::clone(&name));
        Ok(name)
    }

    /// The upstream and original name behind a name that a client uses.
    ///
    /// With [`Prefix::OnConflict`] the prefixed form of an item that is issued plainly is understood too, because a node
    /// that learned the upstreams in another order may have issued it.
    #[must_use]
    pub fn resolve<'a>(&'a self, issued: &'a str) -> Option<(usize, &'a str)> {
        if self.upstreams.len() == 1 {
            return Some((0, issued));
        }
        if let Some((upstream, original)) = self.items.get(issued) {
            return Some((*upstream, original));
        }
        if self.prefix != Prefix::OnConflict {
            return None;
        }
        let (upstream, original) = self.split(issued)?;
        let (original, _) = self.issued[upstream].get_key_value(original)?;
        Some((upstream, original))
    }

    /// The name that was issued for `original` of `upstream`, if one was.
    #[must_use]
    pub fn issued(&self, upstream: usize, original: &str) -> Option<&Arc<str>> {
        self.issued.get(upstream)?.get(original)
    }

    /// A free name for a new item.
    fn choose(&self, upstream: usize, original: &str) -> Result<String, Collision> {
        if self.upstreams.len() == 1 {
            return Ok(original.to_owned());
        }
        let prefixed = format!("{}{SEPARATOR}{original}", self.upstreams[upstream]);
        let holder = self.items.get(original).map(|(holder, _)| *holder);
        let name = match (self.prefix, holder) {
            (Prefix::Never, Some(holder)) if holder != upstream => {
                return Err(Collision {
                    name: original.to_owned(),
                    holder: self.upstreams[holder].clone(),
                    claimant: self.upstreams[upstream].clone(),
                });
            }
            (Prefix::Never, _) => original.to_owned(),
            (Prefix::OnConflict, None) if !self.names_another(upstream, original) => original.to_owned(),
            (Prefix::OnConflict | Prefix::Always, _) => prefixed,
        };
        if self.is_free(&name) {
            return Ok(name);
        }
        let free = (0u64..).map(|round| alias(&name, &self.upstreams[upstream], original, round));
        Ok(free.into_iter().find(|alias| self.is_free(alias)).unwrap_or(name))
    }

    fn is_free(&self, name: &str) -> bool {
        name.chars().nth(NAME_CHARS_MAX).is_none() && !self.items.contains_key(name)
    }

    /// True when a plain name looks like an item of another upstream with its prefix: it would stand in that one's way.
    fn names_another(&self, upstream: usize, original: &str) -> bool {
        self.split(original).is_some_and(|(other, _)| other != upstream)
    }

    fn split<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        self.upstreams.iter().enumerate().find_map(|(index, upstream)| {
            name.strip_prefix(upstream.as_str())?.strip_prefix(SEPARATOR).map(|rest| (index, rest))
        })
    }
}

/// A name of at most [`NAME_CHARS_MAX`] characters: the beginning of `name` and a hash of what it stands for.
fn alias(name: &str, upstream: &str, original: &str, round: u64) -> String {
    let mut hash = Sha256::new();
    hash.update((upstream.len() as u64).to_be_bytes());
    hash.update(upstream);
    hash.update(original);
    hash.update(round.to_be_bytes());
    let kept: String = name.chars().take(NAME_CHARS_MAX - HASH_CHARS - 1).collect();
    format!("{kept}_{}", base32(hash.finalize().into_iter().take(HASH_CHARS * 5 / 8)))
}

/// Base32 in small letters (RFC 4648), of a multiple of five bytes.
fn base32(bytes: impl Iterator<Item = u8>) -> String {
    let bits = bytes.fold(0u64, |bits, byte| bits << 8 | u64::from(byte));
    let letter = |at: usize| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (5 * at)) as usize & 31]);
    (0..HASH_CHARS).rev().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn table(prefix: Prefix, upstreams: &[&str]) -> NameTable {
        NameTable::new(prefix, &upstreams.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_upstream_is_transparent() {
        for prefix in [Prefix::Always, Prefix::OnConflict, Prefix::Never] {
            let mut names = table(prefix, &["main"]);
            let long = "x".repeat(200);
            assert_eq!(&*names.assign(0, &long).unwrap(), long);
            assert_eq!(names.resolve(&long), Some((0, long.as_str())));
            assert_eq!(names.resolve("never seen"), Some((0, "never seen")));
            assert!(names.issued(0, "never seen").is_none());
        }
    }

    #[test]
    fn always() {
        let mut names = table(Prefix::Always, &["main", "second"]);
        assert_eq!(&*names.assign(0, "echo").unwrap(), "main__echo");
        assert_eq!(&*names.assign(1, "echo").unwrap(), "second__echo");
        assert_eq!(names.resolve("second__echo"), Some((1, "echo")));
        assert_eq!(names.resolve("echo"), None);
        assert_eq!(names.issued(1, "echo").map(|n| &**n), Some("second__echo"));
    }

    #[test]
    fn on_conflict_never_renames() {
        let mut names = table(Prefix::OnConflict, &["main", "second"]);
        assert_eq!(&*names.assign(1, "echo").unwrap(), "echo");
        assert_eq!(&*names.assign(0, "echo").unwrap(), "main__echo");
        assert_eq!(&*names.assign(1, "echo").unwrap(), "echo");
        assert_eq!(names.resolve("echo"), Some((1, "echo")));
        assert_eq!(names.resolve("second__echo"), Some((1, "echo")), "as another node may have issued it");
        assert_eq!(names.resolve("second__other"), None);
    }

    #[test]
    fn plain_names_do_not_stand_in_for_prefixed_ones() {
        let mut names = table(Prefix::OnConflict, &["main", "second"]);
        assert_eq!(&*names.assign(0, "second__echo").unwrap(), "main__second__echo");
        assert_eq!(&*names.assign(0, "main__echo").unwrap(), "main__echo", "its own prefix harms nobody");
        assert_eq!(&*names.assign(1, "echo").unwrap(), "echo");
        let shortened = names.assign(0, "echo").unwrap();
        assert!(shortened.starts_with("main__echo_"), "{shortened}");
        assert_eq!(names.resolve(&shortened), Some((0, "echo")));
        assert_eq!(names.resolve("main__echo"), Some((0, "main__echo")));
    }

    #[test]
    fn never_reports_both_upstreams() {
        let mut names = table(Prefix::Never, &["main", "second"]);
        assert_eq!(&*names.assign(0, "echo").unwrap(), "echo");
        let Err(NameError::Collision(collision)) = names.assign(1, "echo") else { panic!("it must collide") };
        assert_eq!((collision.holder.as_str(), collision.claimant.as_str()), ("main", "second"));
        assert!(collision.to_string().contains("\"main\"") && collision.to_string().contains("\"second\""));
        assert_eq!(names.resolve("echo"), Some((0, "echo")));
    }

    #[test]
    fn long_names_get_the_same_alias_on_every_node() {
        let long = "a".repeat(65);
        let mut names = table(Prefix::Always, &["main", "second"]);
        let alias = names.assign(0, &long).unwrap();
        assert_eq!(&*alias, format!("main__{}_mlpyr2jo", "a".repeat(49)), "changing this breaks running clusters");
        assert_eq!(names.resolve(&alias), Some((0, long.as_str())));
        let mut other = table(Prefix::Always, &["second", "main"]);
        other.assign(0, &long).unwrap();
        assert_eq!(other.assign(1, &long).unwrap(), alias);
    }

    #[test]
    fn an_alias_that_is_taken_is_not_given_twice() {
        let long = "b".repeat(65);
        let mut names = table(Prefix::Never, &["main", "second"]);
        let taken = alias(&long, "second", &long, 0);
        names.assign(0, &taken).unwrap();
        let second = names.assign(1, &long).unwrap();
        assert_ne!(*second, *taken);
        assert_eq!(names.resolve(&second), Some((1, long.as_str())));
    }

    #[test]
    fn an_upstream_that_makes_up_names_without_end_is_stopped_alone() {
        let mut names = table(Prefix::Always, &["main", "second"]);
        for at in 0..NAMES_MAX {
            names.assign(0, &format!("n{at}")).unwrap();
        }
        assert_eq!(names.assign(0, "one more"), Err(NameError::TooMany("main".to_owned())));
        assert_eq!(&*names.assign(0, "n7").unwrap(), "main__n7");
        assert_eq!(&*names.assign(1, "echo").unwrap(), "second__echo");
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ab_]{0,4}",
            2 => "[ab]__[ab]",
            1 => "[ab]{60,70}",
            1 => "é{62,66}",
        ]
    }

    proptest! {
        #[test]
        fn naming_is_injective_and_reversible(
            prefix in prop_oneof![Just(Prefix::Always), Just(Prefix::OnConflict), Just(Prefix::Never)],
            upstreams in prop::collection::hash_set(prop_oneof!["[a-c]", "[ab]__[ab]", "[a-c][a-c-]{0,2}"], 1..4),
            wanted in prop::collection::vec((0usize..4, word()), 0..40),
        ) {
            let upstreams: Vec<String> = upstreams.into_iter().collect();
            let mut names = NameTable::new(prefix, &upstreams);
            let mut given: Vec<(usize, String, Arc<str>)> = Vec::new();
            for (upstream, original) in wanted {
                let upstream = upstream % upstreams.len();
                match names.assign(upstream, &original) {
                    Ok(name) => given.push((upstream, original, name)),
                    Err(NameError::TooMany(upstream)) => prop_assert!(false, "{}", upstream),
                    Err(NameError::Collision(collision)) => {
                        prop_assert_eq!(prefix, Prefix::Never);
                        prop_assert_eq!(&collision.claimant, &upstreams[upstream]);
                        let holder = names.resolve(&original).map(|(holder, _)| upstreams[holder].clone());
                        prop_assert_eq!(Some(collision.holder), holder);
                    }
                }
                // Nothing that was given before has changed.
                for (upstream, original, name) in &given {
                    prop_assert_eq!(names.resolve(name), Some((*upstream, original.as_str())));
                    prop_assert_eq!(names.issued(*upstream, original), Some(name));
                }
            }
            let items: HashSet<_> = given.iter().map(|(upstream, original, _)| (upstream, original)).collect();
            let issued: HashSet<_> = given.iter().map(|(_, _, name)| name).collect();
            prop_assert_eq!(items.len(), issued.len());
            for (upstream, original, name) in &given {
                prop_assert!(upstreams.len() == 1 || name.chars().count() <= NAME_CHARS_MAX);
                prop_assert_eq!(&names.assign(*upstream, original).unwrap(), name);
            }
        }
    }
}
