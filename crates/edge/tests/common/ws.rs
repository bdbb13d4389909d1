//! A WebSocket client that writes frames by hand (RFC 6455, section 5.2), for what no library would send.

use super::raw::{Head, Raw};
use super::{Node, within};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const FIN: u8 = 0x80;
pub const CONTINUE: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// The sample of RFC 6455, section 1.3, and what answers it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One connection.
pub struct Ws {
    pub raw: Raw,
}

/// The head of an opening handshake with further `headers`, each ended by CRLF.
pub fn opening(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n{headers}\r\n"
    )
}

/// The code of a close frame's content; nothing where it has none.
pub fn code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

impl Ws {
    pub async fn open(node: &Node, target: &str, headers: &str) -> Self {
        let (ws, head) = Self::ask(node, target, headers).await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
        ws
    }

    /// Sends an opening handshake, and gives the head of whatever answers it.
    pub async fn ask(node: &Node, target: &str, headers: &str) -> (Self, Head) {
        let mut raw = Raw::connect(node.http1).await;
        raw.send(opening(target, headers)).await;
        let head = raw.head().await;
        (Self { raw }, head)
    }

    /// A masked frame; `first` is its first byte.
    pub async fn frame(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.raw.send(masked(first, payload, MASK)).await;
    }

    /// What stands before the content of a masked frame.
    pub async fn head(&mut self, first: u8, length: u64) {
        self.raw.send(head(first, length, MASK)).await;
    }

    pub async fn text(&mut self, text: impl AsRef<[u8]>) {
        self.frame(FIN | TEXT, text).await;
    }

    /// The next frame: its first byte and its content.
    pub async fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        within(self.raw.io.read_exact(&mut head)).await.expect("a frame");
        assert!(head[1] < 128, "frames of a server are not masked (section 5.1)");
        assert_eq!(head[0] & 0x70, 0, "nothing was agreed that would give reserved bits a meaning (section 5.2)");
        let length = match head[1] {
            126 => u64::from(within(self.raw.io.read_u16()).await.expect("a length")),
            127 => within(self.raw.io.read_u64()).await.expect("a length"),
            short => u64::from(short),
        };
        let shortest = self::head(head[0], length, MASK)[1] & 0x7f;
        assert_eq!(head[1], shortest, "{length} bytes are said in the shortest way (section 5.2)");
        assert!(head[0] & 0x08 == 0 || head[0] & FIN != 0 && length <= 125, "control frames are small (section 5.5)");
        let mut payload = vec![0; usize::try_from(length).expect("small")];
        within(self.raw.io.read_exact(&mut payload)).await.expect("a frame's content");
        (head[0], payload)
    }

    /// The next message, of as many frames as it has.
    pub async fn json(&mut self) -> Value {
        let (mut first, mut all) = self.read().await;
        assert_eq!(first & 0x0f, TEXT, "{:?}", String::from_utf8_lossy(&all));
        while first & FIN == 0 {
            let (next, more) = self.read().await;
            assert_eq!(next & 0x0f, CONTINUE);
            all.extend(more);
            first = next;
        }
        serde_json::from_slice(&all).expect("JSON")
    }

    /// The next frame closes: its code. The node then ends the connection, and waits for no answer.
    pub async fn closed(&mut self) -> Option<u16> {
        let (first, payload) = self.read().await;
        assert_eq!(first, FIN | CLOSE, "{:?}", String::from_utf8_lossy(&payload));
        assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok());
        let _ = self.raw.io.shutdown().await; // It may be closed already.
        assert!(self.raw.is_closed().await, "nothing follows");
        code(&payload)
    }
}

/// The mask of the samples in section 5.7.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The bytes of a masked frame; `first` is its first byte.
pub fn masked(first: u8, payload: impl AsRef<[u8]>, mask: [u8; 4]) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = head(first, payload.len() as u64, mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// What stands before the content of a masked frame.
pub fn head(first: u8, length: u64, mask: [u8; 4]) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..=125 => head.push(0x80 | u8::try_from(length).expect("small")),
        126..=65535 => {
            head.push(0x80 | 126);
            head.extend(u16::try_from(length).expect("small").to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend(mask);
    head
}
