//! Sealed packets: format, key id, nonce, then XChaCha20-Poly1305 over the rest with the cluster's name beside it.
//! Rule: what does not open is not looked at any further. Who can open a packet may also send one again; gossip is a
//! hint, and a packet names its reader.

use std::fmt;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

/// Largest packet on the network: fits every path's MTU with IPv6 and tunnel headers.
pub(crate) const PACKET_BYTES_MAX: usize = 1200;

/// What sealing adds to a packet.
pub(crate) const SEAL_BYTES: usize = HEAD + TAG;

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const HEAD: usize = 2 + NONCE;
const TAG: usize = 16;

/// Keeps these keys apart from others derived from the same secret. Frozen.
const DOMAIN: &[u8] = b"enfilade gossip 1";

/// The key that seals, and others that only open: while a cluster changes its key, both are in use.
#[derive(Clone)]
pub struct GossipKeys {
    keys: Vec<(u8, XChaCha20Poly1305)>,
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGossipKeys {
    /// Fewer than 32 bytes of secret.
    #[error("the secret of a gossip key needs at least 32 bytes")]
    ShortSecret,
    /// Two keys with one id.
    #[error("there are two gossip keys with id {0}")]
    DuplicateId(u8),
}

fn cipher(secret: &[u8]) -> Result<XChaCha20Poly1305, BadGossipKeys> {
    if secret.len() < 32 {
        return Err(BadGossipKeys::ShortSecret);
    }
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret).expand(DOMAIN, &mut key).map_err(|_| BadGossipKeys::ShortSecret)?;
    Ok(XChaCha20Poly1305::new(&key.into()))
}

impl GossipKeys {
    /// The key that seals and opens, derived from `secret`.
    ///
    /// # Errors
    /// The secret has fewer than 32 bytes.
    pub fn new(id: u8, secret: &[u8]) -> Result<GossipKeys, BadGossipKeys> {
        Ok(GossipKeys { keys: vec![(id, cipher(secret)?)] })
    }

    /// Adds a key that only opens: the one before, or the one to come.
    ///
    /// # Errors
    /// The secret has fewer than 32 bytes, or the id is taken.
    pub fn with_other(mut self, id: u8, secret: &[u8]) -> Result<GossipKeys, BadGossipKeys> {
        if self.find(id).is_some() {
            return Err(BadGossipKeys::DuplicateId(id));
        }
        self.keys.push((id, cipher(secret)?));
        Ok(self)
    }

    fn find(&self, id: u8) -> Option<&XChaCha20Poly1305> {
        self.keys.iter().find(|(known, _)| *known == id).map(|(_, cipher)| cipher)
    }
}

/// Ids only: secrets never reach a log.
impl fmt::Debug for GossipKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

/// Seals and opens the packets of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    keys: GossipKeys,
    cluster: String,
}

impl Seal {
    pub(crate) fn new(keys: GossipKeys, cluster: &str) -> Seal {
        Seal { keys, cluster: cluster.to_owned() }
    }

    fn associated(&self, key_id: u8) -> Vec<u8> {
        [DOMAIN, &[0, FORMAT, key_id], self.cluster.as_bytes()].concat()
    }

    /// Writes `plain`, sealed, to `packet`. False when there is no randomness or `plain` is too long to seal.
    pub(crate) fn seal(&self, plain: &[u8], packet: &mut Vec<u8>) -> bool {
        let Some((id, cipher)) = self.keys.keys.first() else { return false };
        let mut nonce = [0; NONCE];
        if getrandom::fill(&mut nonce).is_err() || plain.len() + SEAL_BYTES > PACKET_BYTES_MAX {
            return false;
        }
        packet.clear();
        packet.extend_from_slice(&[FORMAT, *id]);
        packet.extend_from_slice(&nonce);
        packet.extend_from_slice(plain);
        let associated = self.associated(*id);
        match cipher.encrypt_in_place_detached(XNonce::from_slice(&nonce), &associated, &mut packet[HEAD..]) {
            Ok(tag) => packet.extend_from_slice(&tag),
            Err(_) => return false,
        }
        true
    }

    /// Opens `packet` in place.
    pub(crate) fn open<'a>(&self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        if packet.len() < SEAL_BYTES || packet.len() > PACKET_BYTES_MAX || packet[0] != FORMAT {
            return None;
        }
        let id = packet[1];
        let cipher = self.keys.find(id)?;
        let (head, rest) = packet.split_at_mut(HEAD);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG);
        let nonce = XNonce::from_slice(&head[2..]);
        cipher.decrypt_in_place_detached(nonce, &self.associated(id), body, Tag::from_slice(tag)).ok()?;
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn sealed(seal: &Seal, plain: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        assert!(seal.seal(plain, &mut packet));
        packet
    }

    #[test]
    fn opens_what_its_own_cluster_sealed_and_nothing_else() -> Result<(), BadGossipKeys> {
        let ours = Seal::new(GossipKeys::new(1, &OLD)?, "enfilade");
        let mut packet = sealed(&ours, b"hello");
        assert_eq!(packet.len(), 5 + SEAL_BYTES);
        assert_eq!(ours.open(&mut packet.clone()), Some(&b"hello"[..]));
        let strangers = [
            Seal::new(GossipKeys::new(1, &NEW)?, "enfilade"),
            Seal::new(GossipKeys::new(2, &OLD)?, "enfilade"),
            Seal::new(GossipKeys::new(1, &OLD)?, "enfilade-2"),
        ];
        for stranger in strangers {
            assert_eq!(stranger.open(&mut packet.clone()), None);
        }
        for position in 0..packet.len() {
            packet[position] ^= 1;
            assert_eq!(ours.open(&mut packet.clone()), None, "byte {position} was changed");
            packet[position] ^= 1;
            assert_eq!(ours.open(&mut packet.clone()[..position]), None, "cut at {position}");
        }
        Ok(())
    }

    #[test]
    fn rotates_without_a_gap() -> Result<(), BadGossipKeys> {
        let before = Seal::new(GossipKeys::new(1, &OLD)?.with_other(2, &NEW)?, "c");
        let after = Seal::new(GossipKeys::new(2, &NEW)?.with_other(1, &OLD)?, "c");
        assert!(after.open(&mut sealed(&before, b"x")).is_some());
        assert!(before.open(&mut sealed(&after, b"x")).is_some());
        assert!(Seal::new(GossipKeys::new(2, &NEW)?, "c").open(&mut sealed(&before, b"x")).is_none());
        Ok(())
    }

    #[test]
    fn never_seals_the_same_way_twice_nor_too_much() -> Result<(), BadGossipKeys> {
        let seal = Seal::new(GossipKeys::new(1, &OLD)?, "c");
        assert_ne!(sealed(&seal, b"x"), sealed(&seal, b"x"));
        let full = vec![0; PACKET_BYTES_MAX - SEAL_BYTES];
        assert_eq!(sealed(&seal, &full).len(), PACKET_BYTES_MAX);
        assert!(!seal.seal(&[&full[..], &[0]].concat(), &mut Vec::new()));
        Ok(())
    }

    #[test]
    fn refuses_bad_keys() {
        assert_eq!(GossipKeys::new(1, &[1; 31]).err(), Some(BadGossipKeys::ShortSecret));
        let twice = GossipKeys::new(1, &OLD).and_then(|keys| keys.with_other(1, &NEW));
        assert_eq!(twice.err(), Some(BadGossipKeys::DuplicateId(1)));
    }
}
