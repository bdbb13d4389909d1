//! Where the body of an answer ends, and what of the bytes that arrive belongs to it. A few bytes of state. Pure.

/// What is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    UntilEnd,
}

/// Where in the chunks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// In the digits of a chunk's size.
    Size(u64),
    /// Behind them, before the end of their line.
    Extension(u64),
    /// In the data of a chunk.
    Data(u64),
    /// In the line end behind the data.
    DataEnd,
    /// In a line behind the last chunk, which is empty so far or not.
    Trailer { is_empty: bool },
    /// Everything came.
    Ended,
}

/// The chunks are not chunks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Body {
    pub(crate) fn length(bytes: u64) -> Body {
        Body::Length(bytes)
    }

    pub(crate) fn chunked() -> Body {
        Body::Chunked(Chunk::Size(0))
    }

    /// Everything came.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::Ended))
    }

    /// Hands on what of `bytes` belongs to the body.
    pub(crate) fn read(&mut self, bytes: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), BadChunk> {
        match self {
            Body::Length(rest) => {
                let length = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len());
                *rest -= length as u64;
                on(&bytes[..length]);
                Ok(())
            }
            Body::UntilEnd => {
                on(bytes);
                Ok(())
            }
            Body::Chunked(chunk) => chunk.read(bytes, on),
        }
    }
}

impl Chunk {
    fn read(&mut self, mut bytes: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), BadChunk> {
        while let Some(&byte) = bytes.first() {
            let mut used = 1;
            *self = match *self {
                Chunk::Data(rest) => {
                    used = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
                    on(&bytes[..used]);
                    let rest = rest - used as u64;
                    if rest == 0 { Chunk::DataEnd } else { Chunk::Data(rest) }
                }
                Chunk::Size(size) | Chunk::Extension(size) if byte == b'\n' => match size {
                    0 => Chunk::Trailer { is_empty: true },
                    _ => Chunk::Data(size),
                },
                Chunk::Extension(size) => Chunk::Extension(size),
                Chunk::Size(size) => match (byte as char).to_digit(16) {
                    Some(digit) if size >> 60 == 0 => Chunk::Size(size << 4 | u64::from(digit)),
                    _ if matches!(byte, b';' | b'\r' | b' ') => Chunk::Extension(size),
                    _ => return Err(BadChunk),
                },
                Chunk::DataEnd if byte == b'\n' => Chunk::Size(0),
                Chunk::DataEnd if byte == b'\r' => Chunk::DataEnd,
                Chunk::DataEnd => return Err(BadChunk),
                Chunk::Trailer { is_empty: true } if byte == b'\n' => Chunk::Ended,
                Chunk::Trailer { is_empty } => {
                    let is_empty = byte == b'\n' || is_empty && byte == b'\r';
                    Chunk::Trailer { is_empty }
                }
                Chunk::Ended => return Ok(()),
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut body: Body, text: &[u8], size: usize) -> Result<(Vec<u8>, bool), BadChunk> {
        let mut got = Vec::new();
        for piece in text.chunks(size) {
            body.read(piece, |bytes| got.extend_from_slice(bytes))?;
        }
        Ok((got, body.has_ended()))
    }

    #[test]
    fn chunks_come_out_however_they_are_cut() {
        let text = b"5\r\nhello\r\n00C;x=1\r\n, \nworld\r\n!\n\r\n0\r\nA: b\r\n\r\n";
        for size in 1..=text.len() {
            let wanted = Ok((b"hello, \nworld\r\n!\n".to_vec(), true));
            assert_eq!(read(Body::chunked(), text, size), wanted, "in pieces of {size}");
        }
        assert_eq!(read(Body::chunked(), b"5\r\nhel", 3), Ok((b"hel".to_vec(), false)));
        assert_eq!(read(Body::chunked(), b"x\r\n", 3), Err(BadChunk));
        assert_eq!(read(Body::chunked(), b"1\r\nab", 5), Err(BadChunk));
        assert_eq!(read(Body::chunked(), b"fffffffffffffffff\r\n", 5), Err(BadChunk));
    }

    #[test]
    fn a_length_ends_by_itself_and_other_bodies_do_not() {
        assert_eq!(read(Body::length(5), b"hello", 2), Ok((b"hello".to_vec(), true)));
        assert_eq!(read(Body::length(5), b"hell", 2), Ok((b"hell".to_vec(), false)));
        assert_eq!(read(Body::UntilEnd, b"hello", 2), Ok((b"hello".to_vec(), false)));
    }
}
