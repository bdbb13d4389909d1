//! Cursors of merged lists: a sealed position that any node can open and nobody else can make (BRIDGE.md, cursors).
//!
//! A cursor is bound to its list and its server; it holds nothing secret, so it is authenticated and not encrypted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;

/// First byte of a cursor: the layout of the rest. A new layout takes a new number.
const LAYOUT: u8 = 1;
/// Bytes of the tag.
const TAG_BYTES: usize = 16;
/// Bytes before the upstream's name: layout, tag, ordinal, length of the name.
const HEAD_BYTES: usize = 1 + TAG_BYTES + 8 + 4;

/// Where a page of a merged list ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The list's method.
    pub list: String,
    /// The virtual server.
    pub server: String,
    /// The upstream whose item came last.
    pub upstream: String,
    /// The key of that item: its original name or URI.
    pub after: String,
    /// Its place in the upstream's list, for when the item itself is gone.
    pub ordinal: u64,
}

/// A cursor that this cluster did not make for this list of this server; the answer is −32602.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid params: the cursor does not belong to this list; start again without a cursor")]
pub struct BadCursor;

/// Seals and opens cursors; all nodes derive the same key from the cluster's secret.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// A key from a secret of any length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(secret).expect("HMAC takes a key of any length");
        mac.update(b"enfilade list cursor");
        Self(mac)
    }

    /// The cursor for a position: URL-safe text.
    #[must_use]
    pub fn seal(&self, position: &Position) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + position.upstream.len() + position.after.len());
        bytes.push(LAYOUT);
        bytes.extend([0; TAG_BYTES]);
        bytes.extend(position.ordinal.to_be_bytes());
        // A name of 4 GiB would exceed every message bound; its cursor would merely not open.
        bytes.extend(u32::try_from(position.upstream.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(position.upstream.as_bytes());
        bytes.extend(position.after.as_bytes());
        let tag = self.mac(&position.list, &position.server, &bytes[1 + TAG_BYTES..]).finalize().into_bytes();
        bytes[1..=TAG_BYTES].copy_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position behind `cursor`, which must have been sealed for this list of this server.
    ///
    /// # Errors
    /// [`BadCursor`], whatever is wrong with it.
    pub fn open(&self, cursor: &str, list: &str, server: &str) -> Result<Position, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| BadCursor)?;
        if bytes.len() < HEAD_BYTES || bytes[0] != LAYOUT {
            return Err(BadCursor);
        }
        let (tag, body) = bytes[1..].split_at(TAG_BYTES);
        self.mac(list, server, body).verify_truncated_left(tag).map_err(|_| BadCursor)?;
        read(body, list, server).ok_or(BadCursor)
    }

    /// Lengths go in front, so that no two triples look alike.
    fn mac(&self, list: &str, server: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [list, server] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(&[LAYOUT]);
        mac.update(body);
        mac
    }
}

/// Reads what [`CursorKey::seal`] wrote after the tag.
fn read(body: &[u8], list: &str, server: &str) -> Option<Position> {
    let (ordinal, rest) = body.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (upstream, after) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some(Position {
        list: list.to_owned(),
        server: server.to_owned(),
        upstream: std::str::from_utf8(upstream).ok()?.to_owned(),
        after: std::str::from_utf8(after).ok()?.to_owned(),
        ordinal: u64::from_be_bytes(*ordinal),
    })
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> Position {
        Position {
            list: "tools/list".into(),
            server: "default".into(),
            upstream: "main".into(),
            after: "écho".into(),
            ordinal: 41,
        }
    }

    #[test]
    fn any_node_with_the_secret_opens_it() {
        let cursor = CursorKey::new(b"secret").seal(&position());
        assert_eq!(CursorKey::new(b"secret").open(&cursor, "tools/list", "default"), Ok(position()));
        assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        // Written by the first version; must open for ever.
        assert_eq!(cursor, "AUA5ChJmjKdYX6SinoeKPukAAAAAAAAAKQAAAARtYWluw6ljaG8");
    }

    #[test]
    fn other_lists_servers_and_secrets_do_not() {
        let key = CursorKey::new(b"secret");
        let cursor = key.seal(&position());
        assert_eq!(key.open(&cursor, "prompts/list", "default"), Err(BadCursor));
        assert_eq!(key.open(&cursor, "tools/list", "other"), Err(BadCursor));
        assert_eq!(key.open(&cursor, "tools/listd", "efault"), Err(BadCursor));
        assert_eq!(CursorKey::new(b"Secret").open(&cursor, "tools/list", "default"), Err(BadCursor));
        for bad in ["", "AA", "not base64!", &format!("{cursor}="), &format!("{cursor}AA"), &cursor[..cursor.len() - 2]]
        {
            assert_eq!(key.open(bad, "tools/list", "default"), Err(BadCursor), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn sealing_is_reversible(
            list in ".{0,12}", server in ".{0,12}", upstream in ".{0,12}", after in ".{0,40}", ordinal: u64,
        ) {
            let key = CursorKey::new(b"k");
            let position = Position { list, server, upstream, after, ordinal };
            prop_assert_eq!(key.open(&key.seal(&position), &position.list, &position.server), Ok(position));
        }

        #[test]
        fn one_changed_character_is_noticed(at in 0usize..51, with in "[A-Za-z0-9_-]") {
            let key = CursorKey::new(b"secret");
            let cursor = key.seal(&position());
            let mut forged = cursor.clone();
            forged.replace_range(at..=at, &with);
            prop_assume!(forged != cursor);
            prop_assert_eq!(key.open(&forged, "tools/list", "default"), Err(BadCursor));
        }

        #[test]
        fn garbage_is_refused(text in ".{0,80}") {
            prop_assert_eq!(CursorKey::new(b"k").open(&text, "tools/list", "default"), Err(BadCursor));
        }
    }
}
