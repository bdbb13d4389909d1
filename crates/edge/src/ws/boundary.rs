//! Follows a client's frames through the bytes that are read, only to know where they end (RFC 6455, section 5.2). A
//! library's buffer keeps the size of the largest frame; at a boundary it can be given up without losing a byte.

/// A frame from this length on is read to its end and not beyond.
pub(crate) const LARGE_BYTES: u64 = 64 * 1024;

/// Where the reading stands.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    head: [u8; 10],
    have: u8,
    /// Of the frame after its head: the mask and the content.
    left: u64,
    /// Within a message of several frames.
    amid: bool,
    exact: bool,
}

impl Boundary {
    /// Takes note of what was read.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.head[usize::from(self.have)] = *byte;
            self.have += 1;
            bytes = rest;
            if self.missing() == 0 {
                self.enter();
            }
        }
    }

    /// How much may be read, when something must not be read past.
    pub(crate) fn limit(&self) -> Option<usize> {
        let next = if self.left > 0 { usize::try_from(self.left).unwrap_or(usize::MAX) } else { self.missing() };
        self.exact.then_some(next)
    }

    /// A large frame has passed, and everything that was read belongs to complete messages.
    pub(crate) fn is_reached(&self) -> bool {
        self.exact && self.have == 0 && self.left == 0 && !self.amid
    }

    /// Bytes of the head that have yet to come.
    fn missing(&self) -> usize {
        let whole = match (self.have, self.head[1] & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        };
        whole - usize::from(self.have)
    }

    /// The head is complete.
    fn enter(&mut self) {
        let [first, second, ..] = self.head;
        let mut length = [0; 8];
        let from = 8 - usize::from(self.have - 2);
        length[from..].copy_from_slice(&self.head[2..usize::from(self.have)]);
        let length = if self.have == 2 { u64::from(second & 0x7f) } else { u64::from_be_bytes(length) };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        self.left = length.saturating_add(mask);
        self.exact |= length >= LARGE_BYTES;
        if first & 0x08 == 0 {
            self.amid = first & 0x80 == 0;
        }
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(0x80 | u8::try_from(length).expect("small")),
            126..=65535 => {
                bytes.push(0xfe);
                bytes.extend(u16::try_from(length).expect("small").to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + 4 + length, 0x81);
        bytes
    }

    #[test]
    fn after_a_large_frame_nothing_is_read_past_the_end_of_one() {
        for chunk in [1, 2, 3, 1000, 1 << 20] {
            let mut boundary = Boundary::default();
            let before = [frame(0x81, 0), frame(0x89, 125), frame(0x81, 300), frame(0x81, 65535)].concat();
            before.chunks(chunk).for_each(|part| boundary.follow(part));
            assert_eq!((boundary.limit(), boundary.is_reached()), (None, false), "nothing large was there");
            // A large fragment, a ping amid the message, its end, and what comes after it.
            let frames = [frame(0x01, 70_000), frame(0x89, 3), frame(0x80, 200)];
            let bytes = [frames.concat(), frame(0x81, 9)].concat();
            let (mut read, end) = (0, bytes.len() - frame(0x81, 9).len());
            while !boundary.is_reached() {
                let part = boundary.limit().unwrap_or(1000).min(chunk);
                boundary.follow(&bytes[read..read + part]);
                read += part;
            }
            assert_eq!(read, end, "{chunk}");
        }
    }
}
