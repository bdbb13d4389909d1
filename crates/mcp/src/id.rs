//! JSON-RPC ids: strings or integers, kept as their JSON text so that each goes back with its own type.

use crate::json;
use std::fmt;

/// Longest id that is accepted, in bytes of its JSON text.
pub const ID_BYTES_MAX: usize = 1024;

/// A request id (MCP base protocol: a string or an integer, never null).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Box<str>);

impl Id {
    /// Reads an id from its JSON text; nothing when it is neither a string nor an integer, or too long.
    #[must_use]
    pub fn from_json(raw: &str) -> Option<Self> {
        if raw.len() > ID_BYTES_MAX {
            return None;
        }
        if raw.starts_with('"') {
            let value = json::string(raw)?;
            // One spelling per string, or "\u0061" and "a" would be two ids.
            return Some(Self(if raw.contains('\\') { json::quote(&value).into() } else { raw.into() }));
        }
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| Self(raw.into()))
    }

    /// An id of our own.
    #[must_use]
    pub fn number(value: u64) -> Self {
        Self(value.to_string().into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The number, for ids of our own.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_integers_only() {
        for good in ["1", "-7", "0", "\"\"", "\"a b\"", "123456789012345678901234567890"] {
            assert_eq!(Id::from_json(good).unwrap().as_json(), good);
        }
        for bad in ["null", "1.5", "1e3", "true", "{}", "[1]", "-", ""] {
            assert!(Id::from_json(bad).is_none(), "{bad}");
        }
        assert_eq!(Id::from_json(r#""\u0061""#), Id::from_json(r#""a""#));
        assert_ne!(Id::from_json("1"), Id::from_json("\"1\""));
        assert!(Id::from_json(&format!("\"{}\"", "x".repeat(ID_BYTES_MAX))).is_none());
    }
}
