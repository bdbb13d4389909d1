//! Walks JSON text without building a tree: members of an object, elements of an array, each a slice of the text.
//!
//! [`check`] must have accepted the text first; the walkers rely on its grammar and only find where things are.

use crate::grammar;
use crate::near;
use std::borrow::Cow;

/// Deepest nesting of arrays and objects that is accepted.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    /// The text does not follow the JSON grammar.
    #[error("not JSON at line {line}, column {column}")]
    Grammar {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Arrays and objects are nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// One object has the same key twice; the key's first 64 characters.
    #[error("the key {0:?} appears twice")]
    Duplicate(String),
    /// Something else than an object stands where an object must.
    #[error("not an object")]
    NotAnObject,
}

/// Accepts `bytes` as one JSON text: UTF-8, the grammar of RFC 8259, and a bounded depth.
///
/// # Errors
/// [`Malformed`] says what is wrong and where.
pub fn check(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|e| Malformed::Utf8(e.valid_up_to()))?;
    if !grammar::accepts(bytes) {
        explain(text)?;
    }
    Ok(text.trim_matches(WHITE))
}

/// Says what is wrong with a text.
#[cold]
fn explain(text: &str) -> Result<(), Malformed> {
    depth(text)?;
    let read = serde_json::from_str::<&serde_json::value::RawValue>(text);
    read.map(drop).map_err(|e| Malformed::Grammar { line: e.line(), column: e.column() })
}

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Refuses deep nesting; reads any bytes, valid or not, and never recurses.
fn depth(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                open += 1;
                if open > DEPTH_MAX {
                    return Err(Malformed::Depth);
                }
                at += 1;
            }
            b'}' | b']' => {
                open = open.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The index after the string that starts at `at` (which holds its opening quote).
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = bytes.get(at..).and_then(quote_or_escape) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// Where the next quote or backslash is.
fn quote_or_escape(rest: &[u8]) -> Option<usize> {
    let passed = match near::special(rest) {
        Ok(at) if matches!(rest[at], b'"' | b'\\') => return Some(at),
        // A control character, in a text that nobody has checked.
        Ok(passed) | Err(passed) => passed,
    };
    Some(passed + memchr::memchr2(b'"', b'\\', &rest[passed..])?)
}

/// The index after the value that starts at `at`.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut open = 0usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if open == 0 {
                    return at;
                }
            }
            b'{' | b'[' => {
                open += 1;
                at += 1;
            }
            b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' if open == 0 => return at,
            b'}' | b']' => {
                open -= 1;
                at += 1;
                if open == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn skip_white(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// One member of an object; all slices are parts of the text it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key as it stands in the text, quotes and escapes included.
    pub key: &'a str,
    /// The value as it stands in the text.
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// The key without quotes, escapes resolved.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        string(self.key).unwrap_or(Cow::Borrowed(""))
    }

    /// Whether this is the member `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let inner = self.key.get(1..self.key.len().saturating_sub(1)).unwrap_or("");
        // An escape is always longer than what it stands for.
        inner == name || inner.len() > name.len() && self.name() == name
    }
}

/// The members of the object `text`; nothing when `text` is not an object.
pub fn members(text: &str) -> impl Iterator<Item = Member<'_>> {
    let bytes = text.as_bytes();
    let mut at = open(bytes, b'{');
    std::iter::from_fn(move || {
        let key_at = skip_white(bytes, at?);
        if bytes.get(key_at) != Some(&b'"') {
            return None;
        }
        let key_end = string_end(bytes, key_at);
        let value_at = skip_white(bytes, skip_white(bytes, key_end) + 1);
        let end = value_end(bytes, value_at);
        at = next(bytes, end);
        Some(Member { key: text.get(key_at..key_end)?, value: text.get(value_at..end)? })
    })
}

/// The elements of the array `text`; nothing when `text` is not an array.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = open(bytes, b'[');
    std::iter::from_fn(move || {
        let from = skip_white(bytes, at?);
        if matches!(bytes.get(from), None | Some(b']')) {
            return None;
        }
        let end = value_end(bytes, from);
        at = next(bytes, end);
        text.get(from..end)
    })
}

fn open(bytes: &[u8], bracket: u8) -> Option<usize> {
    let at = skip_white(bytes, 0);
    (bytes.get(at) == Some(&bracket)).then_some(at + 1)
}

/// After a value: the index behind a comma, or nothing at the end.
fn next(bytes: &[u8], end: usize) -> Option<usize> {
    let at = skip_white(bytes, end);
    (bytes.get(at) == Some(&b',')).then_some(at + 1)
}

/// The value of one member of the object `text`.
#[must_use]
pub fn get<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    members(text).find(|m| m.is(name)).map(|m| m.value)
}

/// The value at a path of member names.
#[must_use]
pub fn at<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(text, |text, name| get(text, name))
}

/// The string that the JSON text `raw` denotes; nothing when it is not a string.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    let is_short_and_plain = near::special(inner.as_bytes()) == Err(inner.len());
    if is_short_and_plain || memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// `value` as a JSON string, quoted and escaped.
#[must_use]
pub fn quote(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// True for an object.
#[must_use]
pub fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

/// A key as an error repeats it: enough to find it, however long the sender made it.
fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}

/// The members of one object, read in one walk; duplicates are refused, so that no two readers of the same message
/// can see different values.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Fields<'a> {
    /// Reads the object `text`.
    ///
    /// # Errors
    /// [`Malformed::NotAnObject`] and [`Malformed::Duplicate`].
    pub fn read(text: &'a str) -> Result<Self, Malformed> {
        if !is_object(text) {
            return Err(Malformed::NotAnObject);
        }
        let mut fields = Self { members: Vec::with_capacity(8) };
        for member in members(text) {
            let name = member.name();
            if fields.members.len() < 64 && fields.get(&name).is_some() {
                return Err(Malformed::Duplicate(shown(&name)));
            }
            fields.members.push((name, member.value));
        }
        fields.check_many()?;
        Ok(fields)
    }

    /// Objects of many members are checked by sorting, not pair by pair.
    fn check_many(&self) -> Result<(), Malformed> {
        if self.members.len() <= 64 {
            return Ok(());
        }
        let mut names: Vec<&str> = self.members.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Malformed::Duplicate(shown(pair[0]))),
            None => Ok(()),
        }
    }

    /// The raw value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The string value of a member; nothing when it is absent or no string.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(string)
    }

    /// All members in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_slices_of_the_text() {
        let text = r#" { "a" : [1, {"b":"}"}] ,"c\"d":"x\\" , "e":{} , "f":-1.5e3}"#;
        let found: Vec<_> = members(text).map(|m| (m.name().into_owned(), m.value)).collect();
        let expected = [("a", r#"[1, {"b":"}"}]"#), ("c\"d", r#""x\\""#), ("e", "{}"), ("f", "-1.5e3")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v)));
    }

    #[test]
    fn elements_of_an_array() {
        assert_eq!(elements("[ 1 ,[2],\"]\" ]").collect::<Vec<_>>(), ["1", "[2]", "\"]\""]);
        assert_eq!(elements("[]").count(), 0);
        assert_eq!(elements("{}").count(), 0);
    }

    #[test]
    fn refusals_say_where() {
        assert_eq!(check(b"\xff"), Err(Malformed::Utf8(0)));
        assert!(matches!(check(b"{\"a\":}"), Err(Malformed::Grammar { line: 1, column: 6 })));
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert_eq!(check(deep.as_bytes()), Err(Malformed::Depth));
        assert!(check(&deep.as_bytes()[1..deep.len() - 1]).is_ok());
        assert_eq!(Fields::read(r#"{"a":1,"\u0061":2}"#).unwrap_err(), Malformed::Duplicate("a".into()));
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_serde(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let text = check(text.as_bytes()).unwrap();
            if let Some(object) = value.as_object() {
                let fields = Fields::read(text).unwrap();
                prop_assert_eq!(fields.iter().count(), object.len());
                for (key, value) in object {
                    let raw = fields.get(key).unwrap();
                    prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(raw).unwrap(), value);
                }
            }
            if let Some(array) = value.as_array() {
                let found: Vec<serde_json::Value> = elements(text).map(|e| serde_json::from_str(e).unwrap()).collect();
                prop_assert_eq!(&found, array);
            }
        }

        #[test]
        fn any_bytes_are_answered_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = check(&bytes) {
                members(text).for_each(drop);
                elements(text).for_each(drop);
            }
        }
    }
}
