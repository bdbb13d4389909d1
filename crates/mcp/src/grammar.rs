//! Reads JSON text once, grammar and depth together, and says yes or "look closer": what it accepts, `serde_json` accepts
//! (RFC 8259). It never says why not; whoever wants to know asks the library.

use crate::json::DEPTH_MAX;
use crate::near;

/// True for one JSON value, with white space around it, that is nested no deeper than [`DEPTH_MAX`]. `bytes` must be UTF-8.
pub(crate) fn accepts(bytes: &[u8]) -> bool {
    read(bytes) == Some(bytes.len())
}

/// The arrays and objects that are open.
#[derive(Default)]
struct Open {
    count: usize,
    /// One bit for each, the innermost lowest: set for an object.
    objects: u128,
}

impl Open {
    fn push(&mut self, object: bool) -> Option<()> {
        self.count += 1;
        self.objects = self.objects << 1 | u128::from(object);
        (self.count <= DEPTH_MAX).then_some(())
    }

    fn pop(&mut self) {
        self.count -= 1;
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

// One bit for each level.
const _: () = assert!(DEPTH_MAX <= 128);

/// The end of the text; nothing where it breaks the grammar or is too deep.
fn read(bytes: &[u8]) -> Option<usize> {
    let mut open = Open::default();
    let mut at = white(bytes, 0);
    loop {
        at = match bytes.get(at)? {
            b'"' => string(bytes, at)?,
            b'{' => {
                open.push(true)?;
                at = white(bytes, at + 1);
                if bytes.get(at) != Some(&b'}') {
                    at = key(bytes, at)?;
                    continue;
                }
                open.pop();
                at + 1
            }
            b'[' => {
                open.push(false)?;
                at = white(bytes, at + 1);
                if bytes.get(at) != Some(&b']') {
                    continue;
                }
                open.pop();
                at + 1
            }
            b't' => word(bytes, at, b"true")?,
            b'f' => word(bytes, at, b"false")?,
            b'n' => word(bytes, at, b"null")?,
            _ => number(bytes, at)?,
        };
        at = white(bytes, at);
        // Behind a value: whatever ends with it, and then the next one.
        loop {
            if open.count == 0 {
                return Some(at);
            }
            match bytes.get(at)? {
                b',' => break,
                b'}' if open.in_object() => open.pop(),
                b']' if !open.in_object() => open.pop(),
                _ => return None,
            }
            at = white(bytes, at + 1);
        }
        at = white(bytes, at + 1);
        if open.in_object() {
            at = key(bytes, at)?;
        }
    }
}

fn white(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// From a key to its value.
fn key(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let at = white(bytes, string(bytes, at)?);
    (bytes.get(at) == Some(&b':')).then(|| white(bytes, at + 1))
}

/// Behind the string that begins at `at`.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = plain(bytes, at)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at = match bytes.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at + 2,
            b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at + 6,
            _ => return None,
        };
    }
}

/// The next quote or backslash; nothing when a control character or the end comes before it.
fn plain(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = &bytes[from..];
    let at = match near::special(rest) {
        Ok(at) => at,
        Err(passed) => {
            let far = &rest[passed..];
            let length = memchr::memchr2(b'"', b'\\', far)?;
            // The least of them, for then nothing ends the search early and many are compared at a time.
            let least = far[..length].iter().fold(u8::MAX, |least, byte| least.min(*byte));
            (least >= b' ').then_some(passed + length)?
        }
    };
    matches!(rest[at], b'"' | b'\\').then_some(from + at)
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

/// Behind the number that begins at `at`.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let at = at + usize::from(bytes[at] == b'-');
    let mut at = match bytes.get(at)? {
        b'0' => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(bytes, at + 1 + usize::from(signed))?;
    }
    Some(at)
}

/// Behind one digit or more.
fn digits(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > from).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    fn library(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn agrees_with_the_library() {
        let long = "x".repeat(100);
        let table = concat!(
            r#"¦ ¦{}¦[]¦ [ ] ¦{ }¦null¦true¦false¦nul¦nulll¦True¦0¦-0¦-¦00¦01¦1.¦.5¦1.5¦1e¦1e+¦1e5¦1E-5¦-1.5e3¦1.e3¦+1¦1 2"#,
            r#"¦""¦"¦"a¦"a\"¦"\"¦"\""¦"\u12aF"¦"\u12g0"¦"\u12"¦"\ud800"¦"\x"¦"\/"¦"é😀"¦[1,]¦[,1]¦[1 2]¦[1,2¦[1}¦{"a":1]¦{"a"}"#,
            r#"¦{"a":}¦{"a":1,}¦{,}¦{"a":1 "b":2}¦{"a" : 1 , "b" : [ { } , [ ] ] }¦{1:2}¦{"a":{"b":[1,{"c":null}]}}¦}¦]¦,¦:¦[[[]]]"#,
            r#"¦[[[]]¦[]]¦{}{}¦{"a":tru}¦[1,-]¦[1,"a",true,{"b":-0.0e+1}]¦{"a":1}}¦[{]}¦{"a":[}¦-a¦1e5.¦"a" "b"¦{"a":1,"b"}"#,
        );
        let odd = ["\u{feff}{}", "\u{b}1", "1\u{c}", "[\"a\",\"b\"]\n\r\t ", "\"\t\"", "\"\u{7f}\"", "\u{a0}1"];
        let table = table.split('¦').chain(odd);
        for text in table {
            assert_eq!(accepts(text.as_bytes()), library(text), "{text:?}");
        }
        for end in ["\"", "\u{1f}\"", "\\\"", "\\n\"", "", "\\", "\\u00", "\n", "é\""] {
            for length in 0..long.len() {
                let text = format!("\"{}{end}", &long[length..]);
                assert_eq!(accepts(text.as_bytes()), library(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize, inner: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            assert!(accepts(nested(DEPTH_MAX, "1").as_bytes()));
            assert!(accepts(nested(DEPTH_MAX - 1, "{}").as_bytes()));
            assert!(!accepts(nested(DEPTH_MAX + 1, "1").as_bytes()));
            assert!(!accepts(nested(DEPTH_MAX, "[]").as_bytes()));
        }
    }

    /// Texts made of what JSON is made of, right and wrong.
    fn pieces() -> impl Strategy<Value = String> {
        let pieces =
            r#"{ } [ ] , : " \ "a" "a": \u00e9 \n 1 - 0 . e E+ true null é {"k": [1, "abcdefghijklmnopqrstuvwxyz""#;
        let piece = prop::sample::select(pieces.split(' ').chain([" ", "\n", "\u{1}"]).collect::<Vec<_>>());
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn agrees_with_the_library_on_pieces(text in pieces()) {
            prop_assert_eq!(accepts(text.as_bytes()), library(&text));
        }

        #[test]
        fn agrees_with_the_library_on_broken_texts(at in 0usize..90, byte in 0u8..128) {
            let mut text = br#"{"jsonrpc":"2.0","id":-1.5e3,"params":{"a":["x\u00e9\n",true,null,{}],"b":"0123456789abcdef"}}"#.to_vec();
            text[at] = byte;
            let text = String::from_utf8(text).expect("ASCII");
            prop_assert_eq!(accepts(text.as_bytes()), library(&text));
        }
    }
}
