//! The bytes of a batch: crc (u32) ‖ payload length (u32) ‖ first index (u64) ‖ count (u32) ‖ payload, little
//! endian; the payload is length-prefixed records. Invariant: a batch is believed whole or not at all.

use crate::JournalError;

/// Most bytes in one batch: what a reader allocates for a length it has not checked yet.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

pub(crate) const HEAD_LEN: usize = 20;
const CRC_LEN: usize = 4;

/// Records at consecutive indexes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) first_index: u64,
    pub(crate) records: Vec<&'a [u8]>,
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// Writes a frame into `bytes`, which it empties first.
///
/// The salt is the segment's: bytes that a client sent, or that an earlier file left on the disk,
/// cannot pass for a frame of this one.
pub(crate) fn encode(bytes: &mut Vec<u8>, salt: u64, first_index: u64, records: &[&[u8]]) -> Result<(), JournalError> {
    let payload: usize = records.iter().map(|record| record.len() + 4).sum();
    if payload > BATCH_BYTES_MAX {
        return Err(JournalError::BatchTooLarge { bytes: payload, bytes_max: BATCH_BYTES_MAX });
    }
    bytes.clear();
    bytes.reserve(HEAD_LEN + payload);
    bytes.extend_from_slice(&[0; CRC_LEN]);
    bytes.extend_from_slice(&(payload as u32).to_le_bytes());
    bytes.extend_from_slice(&first_index.to_le_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let crc = checksum(salt, &bytes[CRC_LEN..]);
    bytes[..CRC_LEN].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Bytes of the whole frame whose head `bytes` start with.
pub(crate) fn len(bytes: &[u8]) -> Option<usize> {
    let payload_len = u32_at(bytes, 4)? as usize;
    (payload_len <= BATCH_BYTES_MAX).then_some(HEAD_LEN + payload_len)
}

/// The frame that `bytes` start with, if its checksum holds.
pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Option<Frame<'_>> {
    let whole = bytes.get(..len(bytes)?)?;
    if u32_at(whole, 0)? != checksum(salt, &whole[CRC_LEN..]) {
        return None;
    }
    let mut records = Vec::new();
    let mut rest = &whole[HEAD_LEN..];
    for _ in 0..u32_at(whole, 16)? {
        let len = u32_at(rest, 0)? as usize;
        records.push(rest.get(4..4 + len)?);
        rest = &rest[4 + len..];
    }
    let sound = rest.is_empty() && !records.is_empty();
    sound.then_some(Frame { first_index: u64_at(whole, 8)?, records, len: whole.len() })
}

/// Whether a frame with an index above `last_index` begins anywhere in `bytes`.
///
/// A batch is written only after the one before it was synced. So a whole frame behind broken
/// bytes proves that those were once whole: damage, not the trace of a crash.
pub(crate) fn any_later(salt: u64, last_index: u64, bytes: &[u8]) -> bool {
    // Every record takes bytes, so an index cannot be further ahead than there are bytes.
    let plausible = last_index + 1..=last_index + 1 + bytes.len() as u64;
    (0..bytes.len().saturating_sub(HEAD_LEN)).any(|at| {
        let index = u64_at(bytes, at + 8);
        index.is_some_and(|index| plausible.contains(&index)) && decode(salt, &bytes[at..]).is_some()
    })
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&salt.to_le_bytes());
    hash.update(bytes);
    hash.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_frame_are_frozen() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 0x0102_0304_0506_0708, 9, &[b"ab", b""]).expect("small");
        let literal = b"\xce\x83\x5d\x50\x0a\0\0\0\x09\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0ab\0\0\0\0";
        assert_eq!(bytes, literal, "{bytes:x?}");
        let frame = decode(0x0102_0304_0506_0708, literal).expect("sound");
        assert_eq!((frame.first_index, frame.len), (9, literal.len()));
        assert_eq!(frame.records, [&b"ab"[..], b""]);
        assert_eq!(decode(0, literal), None, "a frame of another segment");
    }

    #[test]
    fn no_changed_bit_passes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, 1, &[b"record"]).expect("small");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(1, &changed), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_holds_a_frame_is_not_taken_for_one() {
        let mut inner = Vec::new();
        encode(&mut inner, 1, 8, &[b"forged"]).expect("small");
        assert!(any_later(1, 7, &inner), "the search works");
        assert!(!any_later(2, 7, &inner), "but not for another segment's salt");
        assert!(!any_later(1, 8, &inner), "nor for an index that was before");
    }

    #[test]
    fn a_batch_has_a_limit() {
        let large = vec![0; BATCH_BYTES_MAX];
        assert!(matches!(encode(&mut Vec::new(), 1, 1, &[&large]), Err(JournalError::BatchTooLarge { .. })));
    }
}
