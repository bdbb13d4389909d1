//! Looks for the end of a string in its first bytes, eight at a time: most keys and values are short, where a search by
//! vectors costs more than it saves.

/// So many bytes are looked at, in words of eight.
const WORDS: usize = 2;

/// Where the first quote, backslash or control character is, or how many bytes have none. Behind these nothing is known.
#[inline]
pub(crate) fn special(bytes: &[u8]) -> Result<usize, usize> {
    let mut passed = 0;
    for _ in 0..WORDS {
        let Some(word) = bytes[passed..].first_chunk() else {
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            return bytes[passed..].iter().position(is_special).map_or(Err(bytes.len()), |at| Ok(passed + at));
        };
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return Ok(passed + found.trailing_zeros() as usize / 8);
        }
        passed += 8;
    }
    Err(passed)
}

/// The highest bit of each byte that is special. Only the lowest mark is sure: a borrow may mark what stands above it.
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (equal(b'"') | equal(b'\\') | below(word, b' ')) & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn finds_what_a_look_at_each_byte_finds(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 4 => 0x1fu8..0x22], 0..24)
        ) {
            let seen = bytes.len().min(8 * WORDS);
            let first = bytes[..seen].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            prop_assert_eq!(special(&bytes), first.ok_or(seen));
        }
    }
}
