//! The session id: key id (1) ‖ slot (2, big endian) ‖ random (16) ‖ MAC (16), written as base64url.
//! Rule: text from outside becomes an id only through `SessionKeys::verify`; there is no `FromStr`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

use crate::Slot;

pub(crate) const RAW_LEN: usize = 35;

/// The name of a session, unguessable and authenticated. Ordered by slot first, so that the
/// sessions of one slot are one range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    // The order of the fields is the order of ids.
    pub(crate) slot: Slot,
    pub(crate) random: [u8; 16],
    pub(crate) key_id: u8,
    pub(crate) mac: [u8; 16],
}

impl SessionId {
    /// Length of the text form in bytes.
    pub const TEXT_LEN: usize = 47;

    /// The slot that holds the session.
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// The id of the key that authenticates this session id.
    pub const fn key_id(&self) -> u8 {
        self.key_id
    }

    fn to_raw(self) -> [u8; RAW_LEN] {
        let mut raw = [0; RAW_LEN];
        raw[0] = self.key_id;
        raw[1..3].copy_from_slice(&self.slot.get().to_be_bytes());
        raw[3..19].copy_from_slice(&self.random);
        raw[19..].copy_from_slice(&self.mac);
        raw
    }

    /// Reads the text form without looking at the MAC. `None`: not of an id's form.
    pub(crate) fn parse(text: &str) -> Option<SessionId> {
        if text.len() != SessionId::TEXT_LEN {
            return None;
        }
        let mut raw = [0; RAW_LEN];
        // The engine refuses trailing bits that are not zero, so an id has one text form only.
        if URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()? != RAW_LEN {
            return None;
        }
        Some(SessionId {
            key_id: raw[0],
            slot: Slot::new(u16::from_be_bytes([raw[1], raw[2]]))?,
            random: raw[3..19].try_into().ok()?,
            mac: raw[19..].try_into().ok()?,
        })
    }

    fn with_text<T>(&self, then: impl FnOnce(&str) -> T) -> T {
        let mut text = [0; SessionId::TEXT_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(self.to_raw(), &mut text).unwrap_or(0);
        then(std::str::from_utf8(&text[..written]).unwrap_or_default())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

/// Names the session without giving the id away: logs may hold it.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.random;
        write!(f, "SessionId({}/{a:02x}{b:02x}{c:02x}{d:02x}…)", self.slot)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

/// Reading ids back from bytes that this gateway wrote (commands, snapshots): no MAC is checked there.
pub(crate) mod stored {
    use std::fmt;

    use serde::de::{self, Deserialize, Deserializer, Visitor};
    use serde::{Serialize, Serializer};

    use super::SessionId;

    struct Text;

    impl Visitor<'_> for Text {
        type Value = SessionId;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a session id")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<SessionId, E> {
            SessionId::parse(text).ok_or_else(|| E::custom("not a session id"))
        }
    }

    pub(crate) fn serialize<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
        id.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
        deserializer.deserialize_str(Text)
    }

    struct Stored(SessionId);

    impl<'de> Deserialize<'de> for Stored {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stored, D::Error> {
            deserialize(deserializer).map(Stored)
        }
    }

    /// The same for a list.
    pub(crate) mod list {
        use super::{Deserialize, Deserializer, Serialize, Serializer, SessionId, Stored};

        pub(crate) fn serialize<S: Serializer>(ids: &[SessionId], serializer: S) -> Result<S::Ok, S::Error> {
            ids.serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SessionId>, D::Error> {
            Ok(Vec::<Stored>::deserialize(deserializer)?.into_iter().map(|id| id.0).collect())
        }
    }

    /// The same for the pairs of a `Touch`.
    pub(crate) mod pairs {
        use super::{Deserialize, Deserializer, Serialize, Serializer, SessionId, Stored};

        pub(crate) fn serialize<S: Serializer>(pairs: &[(SessionId, u64)], serializer: S) -> Result<S::Ok, S::Error> {
            pairs.serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<(SessionId, u64)>, D::Error> {
            let pairs = Vec::<(Stored, u64)>::deserialize(deserializer)?;
            Ok(pairs.into_iter().map(|(id, idle_for_ms)| (id.0, idle_for_ms)).collect())
        }
    }
}
