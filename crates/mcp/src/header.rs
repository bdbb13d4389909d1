//! Values of `Mcp-Name` and `Mcp-Param-*` headers (2026-07-28 basic/transports/streamable-http, Value Encoding): plain
//! where that is safe, else `=?base64?…?=`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// Why a header value cannot be read. The value itself is never part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// A byte that is neither visible ASCII, nor space or tab.
    #[error("has an invalid character at byte {0}")]
    Character(usize),
    /// Between the markers stands something else than canonical, padded Base64 (RFC 4648, section 4).
    #[error("is not valid Base64")]
    Base64,
    /// The Base64 denotes something else than UTF-8.
    #[error("is Base64 of something else than UTF-8")]
    Utf8,
}

/// `value` as a header value.
///
/// Tabs are legal within a header value, but are encoded: some implementations refuse them.
#[must_use]
pub fn encode(value: &str) -> Cow<'_, str> {
    let visible = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let padded = value.starts_with(' ') || value.ends_with(' ');
    let marked = value.starts_with(PREFIX) && value.ends_with(SUFFIX);
    if visible && !padded && !marked {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(PREFIX.len() + value.len().div_ceil(3) * 4 + SUFFIX.len());
    out.push_str(PREFIX);
    STANDARD.encode_string(value, &mut out);
    out.push_str(SUFFIX);
    Cow::Owned(out)
}

/// The value that the header value `value` stands for. White space around it is no part of it (RFC 9110, section 5.5);
/// without both markers it stands for itself.
///
/// # Errors
/// [`BadHeader`] says what is wrong.
pub fn decode(value: &str) -> Result<Cow<'_, str>, BadHeader> {
    if let Some(at) = value.bytes().position(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(BadHeader::Character(at));
    }
    let value = value.trim_matches([' ', '\t']);
    let Some(inner) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(Cow::Borrowed(value));
    };
    // This engine wants the padding, and zeros in the bits that are left over.
    let bytes = STANDARD.decode(inner).map_err(|_| BadHeader::Base64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadHeader::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification() {
        let table = [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("us west 1", "us west 1"),
            (" us-west1", "=?base64?IHVzLXdlc3Qx?="),
            ("us-west1 ", "=?base64?dXMtd2VzdDEg?="),
            ("", ""),
            ("a\tb", "=?base64?YQli?="),
            ("x\r\nSet-Cookie: a", "=?base64?eA0KU2V0LUNvb2tpZTogYQ==?="),
            ("\u{7f}", "=?base64?fw==?="),
        ];
        for (value, encoded) in table {
            assert_eq!(encode(value), encoded);
            assert_eq!(decode(encoded).as_deref(), Ok(value));
        }
    }

    #[test]
    fn literals_and_refusals() {
        let table = [
            ("SGVsbG8=", Ok("SGVsbG8=")),
            ("=?base64?SGVsbG8=", Ok("=?base64?SGVsbG8=")),
            ("SGVsbG8=?=", Ok("SGVsbG8=?=")),
            ("=?BASE64?SGVsbG8=?=", Ok("=?BASE64?SGVsbG8=?=")),
            ("=?base64?=", Ok("=?base64?=")),
            ("=?base64??=", Ok("")),
            (" \tname\t ", Ok("name")),
            ("=?base64?SGVsbG8=?=", Ok("Hello")),
            ("=?base64?SGVsbG8?=", Err(BadHeader::Base64)),
            ("=?base64?SGVsbG9=?=", Err(BadHeader::Base64)),
            ("=?base64?SGVs!!!bG8=?=", Err(BadHeader::Base64)),
            ("=?base64?SGVs bG8=?=", Err(BadHeader::Base64)),
            ("=?base64?SGVsbG8==?=", Err(BadHeader::Base64)),
            ("=?base64?_-==?=", Err(BadHeader::Base64)),
            ("=?base64?/w==?=", Err(BadHeader::Utf8)),
            ("a\nb", Err(BadHeader::Character(1))),
            ("\0", Err(BadHeader::Character(0))),
            ("é", Err(BadHeader::Character(0))),
            ("\u{7f}", Err(BadHeader::Character(0))),
        ];
        for (value, expected) in table {
            assert_eq!(decode(value).as_deref().map_err(|e| *e), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(value in prop_oneof![any::<String>(), "[ -~\t]{0,12}", r"=\?base64\?[a-z=?]{0,6}\?="]) {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(encoded.trim(), encoded.as_ref());
            prop_assert_eq!(decode(&encoded).unwrap(), value.as_str());
        }

        #[test]
        fn encoded_forms_are_unique(inner in "[A-Za-z0-9+/=]{0,12}") {
            let header = format!("{PREFIX}{inner}{SUFFIX}");
            if let Ok(value) = decode(&header) {
                prop_assert_eq!(format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value.as_bytes())), header);
            }
        }
    }
}
