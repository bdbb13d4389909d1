//! One message on its way out, in frames small enough that none of them leaves a large buffer behind (RFC 6455,
//! section 5.4).

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Most content of one frame: the buffer of a connection grows to the largest frame that it wrote, and stays.
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024;

/// What is left of a message.
pub(crate) struct Outgoing {
    rest: Bytes,
    kind: Data,
}

impl Outgoing {
    /// A text message. What is not UTF-8 in it is replaced: a client would have to end the connection.
    pub(crate) fn text(text: Bytes) -> Self {
        let rest = match std::str::from_utf8(&text) {
            Ok(_) => text,
            Err(_) => String::from_utf8_lossy(&text).into_owned().into(),
        };
        Self { rest, kind: Data::Text }
    }

    /// The next frame, and whether it is the last.
    pub(crate) fn frame(&mut self) -> (Message, bool) {
        let part = self.rest.split_to(self.rest.len().min(FRAME_BYTES_MAX));
        let kind = std::mem::replace(&mut self.kind, Data::Continue);
        let last = self.rest.is_empty();
        (Message::Frame(Frame::message(part, OpCode::Data(kind), last)), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leaves_in_frames_that_make_it_up() {
        for bytes in [0, 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 3 * FRAME_BYTES_MAX] {
            let mut outgoing = Outgoing::text(vec![b'x'; bytes].into());
            let (mut total, mut frames) = (0, 0);
            loop {
                let (Message::Frame(frame), last) = outgoing.frame() else { panic!("no frame") };
                let expected = if frames == 0 { Data::Text } else { Data::Continue };
                assert_eq!((frame.header().opcode, frame.header().is_final), (OpCode::Data(expected), last));
                (total, frames) = (total + frame.payload().len(), frames + 1);
                if last {
                    break;
                }
            }
            assert_eq!((total, frames), (bytes, bytes.div_ceil(FRAME_BYTES_MAX).max(1)), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_text_is_made_one() {
        let (Message::Frame(frame), true) = Outgoing::text(Bytes::from_static(b"a\xffb")).frame() else {
            panic!("two")
        };
        assert_eq!(frame.payload(), "a\u{fffd}b".as_bytes());
    }
}
