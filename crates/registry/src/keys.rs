//! The cluster's keys for session ids: mint one, or verify text from outside by arithmetic alone.
//! Rule: no look-up, no allocation and no difference in time tells a forger how close he came.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{SessionId, Slot};

/// Shortest secret that a key is built from.
const SECRET_BYTES_MIN: usize = 32;

/// Keeps these MACs apart from any other use of the same secret. Frozen.
const DOMAIN: &[u8] = b"enfilade session id 1\0";

/// The current key, which mints and verifies, and earlier ones, which only verify.
#[derive(Clone)]
pub struct SessionKeys {
    current: Key,
    previous: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: u8,
    // Holds the domain label already: a clone saves hashing key and label each time.
    primed: Hmac<Sha256>,
}

/// Why text is not a session id of this cluster. Clients are told the same for all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSessionId {
    /// Not of a session id's form: wrong length, alphabet or slot.
    #[error("not of the form of a session id")]
    Malformed,
    /// Authenticated with a key that this cluster does not have (any more).
    #[error("session id of an unknown key")]
    UnknownKey,
    /// The MAC does not match.
    #[error("forged session id")]
    Forged,
}

/// Why keys cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// Fewer than 32 bytes of secret.
    #[error("the secret of a session key needs at least 32 bytes")]
    ShortSecret,
    /// Two keys with one id.
    #[error("there are two session keys with id {0}")]
    DuplicateId(u8),
}

impl Key {
    fn new(id: u8, secret: &[u8]) -> Result<Key, BadKeys> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(BadKeys::ShortSecret);
        }
        let mut primed = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| BadKeys::ShortSecret)?;
        primed.update(DOMAIN);
        Ok(Key { id, primed })
    }

    fn mac_of(&self, slot: Slot, random: &[u8; 16]) -> Hmac<Sha256> {
        let mut mac = self.primed.clone();
        mac.update(&[self.id]);
        mac.update(&slot.get().to_be_bytes());
        mac.update(random);
        mac
    }
}

impl SessionKeys {
    /// Keys with one key, the current one.
    ///
    /// # Errors
    /// The secret has fewer than 32 bytes.
    pub fn new(key_id: u8, secret: &[u8]) -> Result<SessionKeys, BadKeys> {
        Ok(SessionKeys { current: Key::new(key_id, secret)?, previous: Vec::new() })
    }

    /// Adds a key that was current before: its ids still verify, none is minted with it.
    ///
    /// # Errors
    /// The secret has fewer than 32 bytes, or the id is taken.
    pub fn with_previous(mut self, key_id: u8, secret: &[u8]) -> Result<SessionKeys, BadKeys> {
        if self.find(key_id).is_some() {
            return Err(BadKeys::DuplicateId(key_id));
        }
        self.previous.push(Key::new(key_id, secret)?);
        Ok(self)
    }

    /// A new session id in `slot`. `random` must come from the system's generator: it is the id's secrecy.
    pub fn mint(&self, slot: Slot, random: [u8; 16]) -> SessionId {
        let full = self.current.mac_of(slot, &random).finalize().into_bytes();
        let mut mac = [0; 16];
        mac.copy_from_slice(&full[..16]);
        SessionId { slot, random, key_id: self.current.id, mac }
    }

    /// The session id that `text` is, if this cluster minted it. Says nothing about whether the
    /// session still exists, nor whose it is.
    ///
    /// # Errors
    /// See [`BadSessionId`]; no error path allocates or looks anything up.
    pub fn verify(&self, text: &str) -> Result<SessionId, BadSessionId> {
        let id = SessionId::parse(text).ok_or(BadSessionId::Malformed)?;
        let key = self.find(id.key_id).ok_or(BadSessionId::UnknownKey)?;
        key.mac_of(id.slot, &id.random).verify_truncated_left(&id.mac).map_err(|_| BadSessionId::Forged)?;
        Ok(id)
    }

    fn find(&self, key_id: u8) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.previous).find(|key| key.id == key_id)
    }
}

/// Ids only: secrets never reach a log.
impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous: Vec<u8> = self.previous.iter().map(|key| key.id).collect();
        f.debug_struct("SessionKeys").field("current", &self.current.id).field("previous", &previous).finish()
    }
}
