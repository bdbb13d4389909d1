//! JSON-RPC ids: strings or integers, kept as their JSON text so that each goes back with its own type.

use crate::json;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest id that is accepted, in bytes of its JSON text.
pub const ID_BYTES_MAX: usize = 1024;

/// A request id (MCP base protocol: a string or an integer, never null). It is written as it came; two spellings of one
/// string are the same id.
#[derive(Clone)]
pub struct Id {
    text: Box<str>,
    /// The string in its plain spelling, where the text has escapes.
    plain: Option<Box<str>>,
}

impl Id {
    /// Reads an id from its JSON text; nothing when it is neither a string nor an integer, or too long.
    #[must_use]
    pub fn from_json(raw: &str) -> Option<Self> {
        if raw.len() > ID_BYTES_MAX {
            return None;
        }
        if raw.starts_with('"') {
            let value = json::string(raw)?;
            let plain = raw.contains('\\').then(|| json::quote(&value).into());
            return Some(Self { text: raw.into(), plain });
        }
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        let integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        integer.then(|| Self { text: raw.into(), plain: None })
    }

    /// An id of our own.
    #[must_use]
    pub fn number(value: u64) -> Self {
        Self { text: value.to_string().into(), plain: None }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.text
    }

    fn plain(&self) -> &str {
        self.plain.as_deref().unwrap_or(&self.text)
    }

    /// The number, for ids of our own.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        self.text.parse().ok()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.plain() == other.plain()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plain().hash(state);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        assert_eq!(Id::from_json(r#""\u0061""#).unwrap().as_json(), r#""\u0061""#);
        assert_ne!(Id::from_json("1"), Id::from_json("\"1\""));
        assert!(Id::from_json(&format!("\"{}\"", "x".repeat(ID_BYTES_MAX))).is_none());
    }
}
