//! WebSocket frames (RFC 6455, section 5) as a client of many idle sockets needs them: between messages no memory. Pure.

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// Longest message that is read.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// What came and is not a whole message yet.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of a frame that is not whole.
    rest: Vec<u8>,
    /// Payload of the fragments so far.
    message: Vec<u8>,
}

/// Something whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    /// With its code; 1005 when it has none.
    Close(u16),
}

/// It is no frame that a server may send here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFrame;

impl Frames {
    /// Hands on what `bytes` complete.
    pub(crate) fn read(&mut self, bytes: &[u8], mut on: impl FnMut(Frame<'_>)) -> Result<(), BadFrame> {
        if self.rest.is_empty() {
            let used = self.whole(bytes, &mut on)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.whole(&rest, &mut on)?;
        if used < rest.len() {
            rest.drain(..used);
            self.rest = rest;
        }
        Ok(())
    }

    /// Takes whole frames from the front; how many bytes they were.
    fn whole(&mut self, bytes: &[u8], on: &mut impl FnMut(Frame<'_>)) -> Result<usize, BadFrame> {
        let mut used = 0;
        while let Some((first, head, length)) = head(&bytes[used..])? {
            let end = used + head + length;
            let Some(payload) = bytes.get(used + head..end) else { break };
            self.frame(first, payload, on)?;
            used = end;
        }
        Ok(used)
    }

    fn frame(&mut self, first: u8, payload: &[u8], on: &mut impl FnMut(Frame<'_>)) -> Result<(), BadFrame> {
        let is_last = first & FIN != 0;
        match first & !FIN {
            TEXT if is_last && self.message.is_empty() => on(Frame::Text(payload)),
            TEXT | CONTINUATION => {
                self.message.extend_from_slice(payload);
                if self.message.len() as u64 > MESSAGE_BYTES_MAX {
                    return Err(BadFrame);
                }
                if is_last {
                    on(Frame::Text(&std::mem::take(&mut self.message)));
                }
            }
            PING => on(Frame::Ping(payload)),
            PONG => {}
            CLOSE => on(Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)))),
            _ => return Err(BadFrame),
        }
        Ok(())
    }
}

/// First byte, length of the head, and of the payload, once the head is whole.
fn head(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, BadFrame> {
    let [first, second, more @ ..] = bytes else { return Ok(None) };
    if second & MASKED != 0 || first & 0x70 != 0 {
        return Err(BadFrame);
    }
    let (head, length) = match second {
        126 => match more.first_chunk() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match more.first_chunk() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (2, u64::from(*short)),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(BadFrame);
    }
    Ok(Some((*first, head, usize::try_from(length).map_err(|_| BadFrame)?)))
}

/// A text message of a client.
pub(crate) fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    masked(TEXT, payload, mask)
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    masked(PONG, payload, mask)
}

fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(FIN | opcode);
    match payload.len() {
        short @ 0..=125 => frame.push(MASKED | short as u8),
        medium @ 126..=0xffff => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Result<Vec<String>, BadFrame> {
        let (mut frames, mut got) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(size) {
            frames.read(piece, |frame| {
                got.push(match frame {
                    Frame::Text(text) => format!("text of {}", text.len()),
                    Frame::Ping(text) => format!("ping of {}", text.len()),
                    Frame::Close(code) => format!("close {code}"),
                });
            })?;
        }
        assert_eq!(frames.rest.capacity() + frames.message.capacity(), 0, "nothing is held between messages");
        Ok(got)
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let mut bytes = vec![0x81, 5, b'h', b'e', b'l', b'l', b'o'];
        // A message in two fragments, with a ping between them.
        bytes.extend([0x01, 2, b'a', b'b', 0x89, 1, b'!', 0x80, 1, b'c']);
        bytes.extend([0x81, 126, 1, 44]);
        bytes.extend([b'x'; 300]);
        bytes.extend([0x81, 127, 0, 0, 0, 0, 0, 1, 17, 112]);
        bytes.extend([b'y'; 70_000]);
        bytes.extend([0x8a, 0, 0x88, 2, 0x03, 0xf4, 0x88, 0]);
        let wanted =
            ["text of 5", "ping of 1", "text of 3", "text of 300", "text of 70000", "close 1012", "close 1005"];
        for size in [1, 2, 3, 7, 1_000, bytes.len()] {
            assert_eq!(read(&bytes, size).expect("frames"), wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        for bytes in [[0x81, 0x85, 0, 0], [0xc1, 0, 0, 0], [0x83, 0, 0, 0]] {
            assert_eq!(read(&bytes, 4), Err(BadFrame), "{bytes:?}");
        }
        assert_eq!(read(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0], 10), Err(BadFrame));
    }

    #[test]
    fn what_is_sent_is_masked() {
        assert_eq!(text(b"abc", [1, 2, 3, 4]), [0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3]);
        assert_eq!(text(&[0; 200], [0; 4])[..4], [0x81, 0x80 | 126, 0, 200]);
        assert_eq!(text(&[0; 70_000], [0; 4])[..10], [0x81, 0xff, 0, 0, 0, 0, 0, 1, 17, 112]);
        assert_eq!(pong(b"", [9; 4]), [0x8a, 0x80, 9, 9, 9, 9]);
    }
}
