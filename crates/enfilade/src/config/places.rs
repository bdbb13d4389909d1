//! Where every value of a document stands, so that faults found later can still name line and column.
//! JSON is read as the YAML that it is. A document that cannot be read this way has no places: that costs only those.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// A step towards a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The places of one document.
#[derive(Debug, Default)]
pub(crate) struct Places(Option<Spanned<Node>>);

impl Places {
    pub(crate) fn of(text: &str) -> Self {
        Self(serde_saphyr::from_str(text).ok())
    }

    /// Line and column of the value at `path`, or of the innermost value around it that is there.
    pub(crate) fn find(&self, path: &[Step<'_>]) -> Option<(u64, u64)> {
        let mut here = self.0.as_ref()?;
        for step in path {
            match here.value.child(*step) {
                Some(child) => here = child,
                None => break,
            }
        }
        Some((here.referenced.line(), here.referenced.column()))
    }
}

#[derive(Debug)]
enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

impl Node {
    fn child(&self, step: Step<'_>) -> Option<&Spanned<Node>> {
        match (self, step) {
            (Self::Map(entries), Step::Key(key)) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            (Self::List(items), Step::Index(index)) => items.get(index),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

/// Scalars: only where they are is of interest.
macro_rules! leaves {
    ($($visit:ident: $kind:ty),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Node, E> { Ok(Node::Leaf) })*
    };
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    leaves!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_yaml_and_json() {
        let yaml = "a: 1\nlist:\n  - name: x\n    deep: {k: v}\n  - name: y\n";
        let json = "{\n\t\"mcpServers\": {\n\t\t\"one\": {\"url\": \"u\"}\n\t}\n}\n";
        let table: [(&str, &[Step<'_>], (u64, u64)); 6] = [
            (yaml, &[Step::Key("a")], (1, 4)),
            (yaml, &[Step::Key("list"), Step::Index(1), Step::Key("name")], (5, 11)),
            (yaml, &[Step::Key("list"), Step::Index(0), Step::Key("deep"), Step::Key("k")], (4, 15)),
            // What is not there is reported where it is missing.
            (yaml, &[Step::Key("list"), Step::Index(1), Step::Key("url")], (5, 5)),
            (yaml, &[Step::Key("servers")], (1, 1)),
            (json, &[Step::Key("mcpServers"), Step::Key("one"), Step::Key("url")], (3, 18)),
        ];
        for (text, path, expected) in table {
            assert_eq!(Places::of(text).find(path), Some(expected), "{path:?}");
        }
        assert_eq!(Places::of("{").find(&[]), None);
    }
}
