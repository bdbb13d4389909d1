//! An HTTP/1.1 connection that stays open, written by hand: whole answers, and event streams read one event at a time.

use super::{Answer, LIMIT, split};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// One connection.
pub(crate) struct Wire {
    pub(crate) io: BufReader<TcpStream>,
    host: String,
    path: String,
}

/// The head of an answer, and how its body ends.
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
    framing: Framing,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(u64),
    /// Bytes left of the chunk that is being read.
    Chunked(u64),
    Done,
}

impl Wire {
    pub(crate) fn to(url: &str) -> Self {
        let (host, path) = split(url);
        let stream = TcpStream::connect(host).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        Self { io: BufReader::new(stream), host: host.to_owned(), path: path.to_owned() }
    }

    /// Sends a head whose body follows as `framing` says.
    pub(crate) fn begin(&mut self, method: &str, headers: &[(&str, &str)], framing: &str) {
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json, text/event-stream\r\n{framing}\r\n",
            self.path, self.host
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.io.get_mut().write_all(head.as_bytes()).expect("the head is sent");
    }

    /// Sends a request. A body that the other side refuses while it is sent is no error: its answer says so.
    pub(crate) fn send(&mut self, method: &str, headers: &[(&str, &str)], body: &str) {
        let framing = match body {
            "" => "Content-Length: 0".to_owned(),
            body => format!("Content-Type: application/json\r\nContent-Length: {}", body.len()),
        };
        self.begin(method, headers, &framing);
        let _ = self.io.get_mut().write_all(body.as_bytes());
    }

    pub(crate) fn head(&mut self) -> Head {
        let mut text = String::new();
        loop {
            let before = text.len();
            self.io.read_line(&mut text).expect("a line of the head");
            assert!(text.len() > before, "the connection ended in the head: {text:?}");
            if text[before..].trim().is_empty() {
                break;
            }
        }
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut head = Head { status, text, framing: Framing::Done };
        let chunked = head.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = head.header("Content-Length").and_then(|value| value.parse().ok());
        head.framing = match length.filter(|length| *length > 0) {
            _ if chunked => Framing::Chunked(0),
            Some(length) => Framing::Length(length),
            None => Framing::Done,
        };
        head
    }

    /// The whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut body = String::new();
        Incoming { io: &mut self.io, framing: head.framing }.read_to_string(&mut body).expect("a body of text");
        Answer { status: head.status, head: head.text, body }
    }

    pub(crate) fn ask(&mut self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, headers, body);
        self.answer()
    }

    /// Sends a request whose answer must be a stream of events.
    pub(crate) fn events(mut self, method: &str, headers: &[(&str, &str)], body: &str) -> Events {
        self.send(method, headers, body);
        let head = self.head();
        assert_eq!(head.status, 200, "{}", head.text);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"), "{}", head.text);
        let socket = self.io.get_ref().try_clone().expect("a second handle");
        Events { socket, lines: BufReader::new(Incoming { io: self.io, framing: head.framing }) }
    }
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// A body without its framing.
struct Incoming<R> {
    io: R,
    framing: Framing,
}

impl<R: BufRead> Read for Incoming<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Framing::Chunked(0) = self.framing {
            let mut line = String::new();
            self.io.read_line(&mut line)?;
            let bytes = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            self.framing = if bytes == 0 { Framing::Done } else { Framing::Chunked(bytes) };
            if bytes == 0 {
                self.io.read_line(&mut line)?;
            }
        }
        let (Framing::Length(left) | Framing::Chunked(left)) = self.framing else { return Ok(0) };
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.io.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - read as u64;
        self.framing = match self.framing {
            Framing::Chunked(_) => Framing::Chunked(left),
            Framing::Length(_) if left == 0 => Framing::Done,
            _ => Framing::Length(left),
        };
        if let Framing::Chunked(0) = self.framing {
            self.io.read_line(&mut String::new())?;
        }
        Ok(read)
    }
}

/// A stream of events.
pub(crate) struct Events {
    lines: BufReader<Incoming<BufReader<TcpStream>>>,
    socket: TcpStream,
}

impl Events {
    /// The next message; nothing once the stream has ended, in whatever way.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let data = line.strip_prefix("data:").map(str::trim).filter(|data| !data.is_empty());
            if let Some(data) = data {
                return Some(serde_json::from_str(data).expect("JSON in an event"));
            }
        }
    }

    /// The next message for which this holds.
    pub(crate) fn find(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let message = self.next().expect("the stream goes on");
            if holds(&message) {
                return message;
            }
        }
        panic!("the message did not come")
    }

    /// A way to end the stream from another thread.
    pub(crate) fn handle(&self) -> TcpStream {
        self.socket.try_clone().expect("a second handle")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Polls a condition that another process brings about. Each look is a request, so this does not spin.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "in vain: {what}");
    }
    began.elapsed()
}
