//! A session's bindings to upstreams: a sorted list, because nearly every session has one or two
//! and a tree node for each of 100,000 sessions would cost more than the rest of the record.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// What a session has with one upstream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamBinding {
    /// The upstream's own `Mcp-Session-Id`, if it gave one.
    pub session_id: Option<Arc<str>>,
    /// The revision of MCP agreed with the upstream.
    pub version: Arc<str>,
}

/// Upstream name → binding, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings(Vec<(Arc<str>, UpstreamBinding)>);

impl Bindings {
    pub(crate) const EMPTY: Bindings = Bindings(Vec::new());

    /// The binding to `upstream`.
    pub fn get(&self, upstream: &str) -> Option<&UpstreamBinding> {
        self.find(upstream).ok().map(|at| &self.0[at].1)
    }

    /// All bindings, sorted by the upstream's name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &UpstreamBinding)> {
        self.0.iter().map(|(name, binding)| (name, binding))
    }

    /// How many upstreams are bound.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no upstream is bound.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Binds `upstream`; gives back the binding it had.
    pub fn insert(&mut self, upstream: Arc<str>, binding: UpstreamBinding) -> Option<UpstreamBinding> {
        match self.find(&upstream) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, binding)),
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (upstream, binding));
                None
            }
        }
    }

    /// Unbinds `upstream`; gives back the binding it had.
    pub fn remove(&mut self, upstream: &str) -> Option<UpstreamBinding> {
        self.find(upstream).ok().map(|at| self.0.remove(at).1)
    }

    fn find(&self, upstream: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(upstream))
    }
}

impl IntoIterator for Bindings {
    type Item = (Arc<str>, UpstreamBinding);
    type IntoIter = std::vec::IntoIter<(Arc<str>, UpstreamBinding)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Arc<str>, UpstreamBinding)> for Bindings {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, UpstreamBinding)>>(bindings: I) -> Bindings {
        let mut all = Bindings::default();
        for (name, binding) in bindings {
            all.insert(name, binding);
        }
        all
    }
}

impl Serialize for Bindings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Bindings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bindings, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Bindings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from upstream to binding")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bindings, A::Error> {
                let mut all = Bindings::default();
                while let Some((name, binding)) = map.next_entry()? {
                    all.insert(name, binding);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_map(Map)
    }
}
