//! Server-sent events (WHATWG HTML, section 9.2): writes them, and reads them from chunks of any size.
//!
//! The data of an event is copied once, into the buffer it is handed out in; an event over the limit is dropped as it
//! streams. Invalid UTF-8 becomes U+FFFD, as the standard says.

use crate::line::{append, take};
use std::collections::VecDeque;

/// Longest `id`, `event` or `retry` value that is accepted, in bytes; longer ones refuse the event.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;

/// Writes one message. An `id` with a line end or NUL cannot be said in this format and is left out.
pub fn event(out: &mut Vec<u8>, id: Option<&str>, data: &str) {
    out.reserve(data.len() + id.map_or(0, str::len) + 16);
    if let Some(id) = id {
        field(out, "id", id);
    }
    lines(out, data);
}

/// Writes one event of a type, such as `endpoint` (2024-11-05 basic/transports, HTTP with SSE).
pub fn named(out: &mut Vec<u8>, event: &str, data: &str) {
    field(out, "event", event);
    lines(out, data);
}

/// Writes a comment, which keeps a connection alive and is no event.
pub fn comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Writes the event without data that tells a client where to resume, and when (2025-11-25 basic/transports).
pub fn priming(out: &mut Vec<u8>, id: &str, retry_ms: Option<u64>) {
    field(out, "id", id);
    if let Some(retry_ms) = retry_ms {
        field(out, "retry", &retry_ms.to_string());
    }
    lines(out, "");
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    if memchr::memchr3(b'\n', b'\r', 0, value.as_bytes()).is_none() {
        [name, ": ", value, "\n"].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Data and the end of the event; each line end in it becomes LF.
fn lines(out: &mut Vec<u8>, data: &str) {
    let mut rest = data.as_bytes();
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { break };
        rest = &rest[end..];
        rest = rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]);
    }
    out.push(b'\n');
}

/// One event. It keeps only what it said itself: the last id of a stream is for the reader to remember.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The id; an empty one forgets the id before it.
    pub id: Option<String>,
    /// The type, when it is not the default `message`.
    pub event: Option<String>,
    /// The data, its lines joined by LF.
    pub data: String,
    /// How long to wait before reconnecting.
    pub retry_ms: Option<u64>,
}

/// What a stream of events yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An event with data, or without data but with an id or a retry time (a priming event, which browsers drop).
    Event(Event),
    /// An event over the limit, reported once, when it has ended.
    TooLarge {
        /// The length of its values.
        bytes: u64,
    },
}

/// Reads a stream of events. What is unfinished at the end of the stream is no event.
///
/// It holds at most `bytes_max` bytes of an unfinished event's data, plus the events that the last chunk completed: call
/// [`Decoder::next`] until it yields nothing before the next [`Decoder::push`].
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    /// How many bytes of a byte order mark the stream has begun with; nothing once that is decided.
    mark: Option<usize>,
    /// The last line ended in CR, so an LF now belongs to that line end.
    after_cr: bool,
    line: Line,
    event: Unfinished,
    ready: VecDeque<Decoded>,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Decoder {
    /// A decoder that accepts events of up to `bytes_max` bytes of data.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (line, event, ready) = (Line::default(), Unfinished::default(), VecDeque::new());
        Self { bytes_max, mark: Some(0), after_cr: false, line, event, ready }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let rest = self.skip_mark(chunk);
        self.feed(rest);
    }

    /// The next event; nothing until more bytes came.
    #[expect(clippy::should_implement_trait, reason = "nothing here means not yet: this is no iterator")]
    pub fn next(&mut self) -> Option<Decoded> {
        take(&mut self.ready)
    }

    /// Bytes that it keeps of the event that is being read. Comments and what is over the limit are not kept.
    #[must_use]
    pub fn held(&self) -> usize {
        self.event.data.len() + self.event.value.len()
    }

    fn skip_mark<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let Some(seen) = self.mark else { return chunk };
        let missing = &MARK[seen..];
        let same = missing.iter().zip(chunk).take_while(|(a, b)| a == b).count();
        if same == missing.len() {
            self.mark = None;
            return &chunk[same..];
        }
        if same == chunk.len() {
            self.mark = Some(seen + same);
            return &[];
        }
        self.mark = None;
        self.feed(&MARK[..seen]);
        chunk
    }

    fn feed(&mut self, mut rest: &[u8]) {
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', rest);
            self.part(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else { return };
            self.after_cr = rest[end] == b'\r';
            self.end_line();
            rest = &rest[end + 1..];
        }
    }

    /// Takes a part of one line.
    fn part(&mut self, mut part: &[u8]) {
        if let Line::Name(name) = &mut self.line {
            let colon = memchr::memchr(b':', part);
            name.add(&part[..colon.unwrap_or(part.len())]);
            let Some(colon) = colon else { return };
            part = &part[colon + 1..];
            let field = name.field();
            self.event.open(field, self.bytes_max);
            self.line = Line::Space(field);
        }
        if let (Line::Space(field), Some(&first)) = (&self.line, part.first()) {
            self.line = Line::Value(*field);
            part = if first == b' ' { &part[1..] } else { part };
        }
        if let Line::Value(field) = self.line {
            self.event.add(field, part, self.bytes_max);
        }
    }

    fn end_line(&mut self) {
        match std::mem::take(&mut self.line) {
            Line::Name(name) if name.length == 0 => {
                let done = std::mem::take(&mut self.event).finish();
                self.ready.extend(done);
            }
            Line::Name(name) => {
                self.event.open(name.field(), self.bytes_max);
                self.event.close(name.field());
            }
            Line::Space(field) | Line::Value(field) => self.event.close(field),
        }
    }
}

/// Where in its line the stream is.
#[derive(Debug)]
enum Line {
    /// Before a colon.
    Name(Name),
    /// Right after the colon, where one space is no part of the value.
    Space(Field),
    /// In the value.
    Value(Field),
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(Name::default())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Id,
    Event,
    Retry,
    /// Comments and unknown fields.
    Other,
}

/// The name of a field, as far as it can be one that counts.
#[derive(Debug, Default)]
struct Name {
    start: [u8; 5],
    /// One more than fits stands for any longer name.
    length: usize,
}

impl Name {
    fn add(&mut self, part: &[u8]) {
        for &byte in part.iter().take(self.start.len() + 1 - self.length) {
            if let Some(place) = self.start.get_mut(self.length) {
                *place = byte;
            }
            self.length += 1;
        }
    }

    fn field(&self) -> Field {
        match self.start.get(..self.length) {
            Some(b"data") => Field::Data,
            Some(b"id") => Field::Id,
            Some(b"event") => Field::Event,
            Some(b"retry") => Field::Retry,
            _ => Field::Other,
        }
    }
}

/// The event that is being read.
#[derive(Debug, Default)]
struct Unfinished {
    data: Vec<u8>,
    has_data: bool,
    /// The value of another field that is being read.
    value: Vec<u8>,
    id: Option<String>,
    event: Option<String>,
    retry_ms: Option<u64>,
    /// The length of all values, kept or not.
    bytes: u64,
    refused: bool,
}

impl Unfinished {
    fn open(&mut self, field: Field, bytes_max: usize) {
        self.value.clear();
        if field == Field::Data && std::mem::replace(&mut self.has_data, true) {
            self.add(field, b"\n", bytes_max);
        }
    }

    fn add(&mut self, field: Field, part: &[u8], bytes_max: usize) {
        let (buffer, limit) = match field {
            Field::Data => (&mut self.data, bytes_max),
            Field::Other => return,
            Field::Id | Field::Event | Field::Retry => (&mut self.value, FIELD_BYTES_MAX),
        };
        self.bytes += part.len() as u64;
        if self.refused {
            return;
        }
        if part.len() <= limit - buffer.len() {
            append(buffer, part, limit);
        } else {
            self.refused = true;
            (self.data, self.value) = (Vec::new(), Vec::new());
        }
    }

    fn close(&mut self, field: Field) {
        if self.refused {
            return;
        }
        let value = String::from_utf8_lossy(&self.value);
        match field {
            Field::Id if !value.contains('\0') => self.id = Some(value.into_owned()),
            Field::Event => self.event = Some(value.into_owned()).filter(|event| !event.is_empty()),
            // A sign is no digit, whatever `parse` thinks.
            Field::Retry if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
    }

    fn finish(self) -> Option<Decoded> {
        if self.refused {
            return Some(Decoded::TooLarge { bytes: self.bytes });
        }
        if !self.has_data && self.id.is_none() && self.retry_ms.is_none() {
            return None;
        }
        let data = String::from_utf8(self.data).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Some(Decoded::Event(Event { id: self.id, event: self.event, data, retry_ms: self.retry_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes_max: usize, chunks: &[&[u8]]) -> Vec<Decoded> {
        let mut decoder = Decoder::new(bytes_max);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            found.extend(std::iter::from_fn(|| decoder.next()));
        }
        found
    }

    fn seen(id: Option<&str>, event: Option<&str>, data: &str, retry_ms: Option<u64>) -> Decoded {
        let (id, event) = (id.map(str::to_owned), event.map(str::to_owned));
        Decoded::Event(Event { id, event, data: data.to_owned(), retry_ms })
    }

    fn data(text: &str) -> Decoded {
        seen(None, None, text, None)
    }

    #[test]
    fn written_as_the_transports_say() {
        let mut out = Vec::new();
        event(&mut out, Some("7"), "{}");
        event(&mut out, None, "a\r\nb\rc\n");
        named(&mut out, "endpoint", "/messages?x=1");
        comment(&mut out);
        priming(&mut out, "p", Some(500));
        priming(&mut out, "q", None);
        event(&mut out, Some("x\ndata: forged"), "y");
        let expected = "id: 7\ndata: {}\n\ndata: a\ndata: b\ndata: c\ndata: \n\nevent: endpoint\ndata: /messages?x=1\n\n\
                        :\n\nid: p\nretry: 500\ndata: \n\nid: q\ndata: \n\ndata: y\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn fields_and_line_ends() {
        let table: [(&str, Vec<Decoded>); 22] = [
            ("data: a\n\n", vec![data("a")]),
            ("data:a\r\rdata: b\r\n\r\ndata:  c\n\n", vec![data("a"), data("b"), data(" c")]),
            ("id: 1\r\ndata: a\r\ndata: b\r\n\r\n", vec![seen(Some("1"), None, "a\nb", None)]),
            ("data: a\ndata\ndata:\ndata: b\n\n", vec![data("a\n\n\nb")]),
            ("data\n\n", vec![data("")]),
            ("\u{feff}data: a\n\n", vec![data("a")]),
            ("\u{feff}\u{feff}data: a\n\ndata: b\n\n", vec![data("b")]),
            (": hello\n:\n\ndata: a\n: data: x\n\n", vec![data("a")]),
            ("event: x\ndata: a\n\ndata: b\n\n", vec![seen(None, Some("x"), "a", None), data("b")]),
            ("event: x\n\n\n\n", vec![]),
            ("event: x\nevent:\ndata: a\n\n", vec![data("a")]),
            ("id: 1\nretry: 20\ndata:\n\n", vec![seen(Some("1"), None, "", Some(20))]),
            ("id\n\n", vec![seen(Some(""), None, "", None)]),
            ("id: 1\nid: 2\n\n", vec![seen(Some("2"), None, "", None)]),
            ("id: 1\nid: a\0b\ndata: x\n\n", vec![seen(Some("1"), None, "x", None)]),
            ("retry: 5\n\n", vec![seen(None, None, "", Some(5))]),
            ("retry: 5\nretry: +6\nretry: 7s\nretry:\n\n", vec![seen(None, None, "", Some(5))]),
            ("retry: 99999999999999999999999\n\n", vec![]),
            ("Data: a\n data: b\ndatas: c\ndat: d\ndata : e\neventdata: f\n\n", vec![]),
            ("data: a:b: c\n\n", vec![data("a:b: c")]),
            ("data: unfinished\n", vec![]),
            ("", vec![]),
        ];
        for (stream, expected) in table {
            assert_eq!(decode(100, &[stream.as_bytes()]), expected, "{stream:?}");
            let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(decode(100, &single), expected, "byte by byte: {stream:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(decode(100, &[b"data: a\xffb\n\n"]), [data("a\u{fffd}b")]);
        assert_eq!(decode(100, &[b"\xef\xbb", b"data: a\n\ndata: b\n\n"]), [data("b")]);
        assert_eq!(decode(100, &["data: \u{4e16}".as_bytes().split_at(7).0, b"\xb8\x96\n\n"]), [data("\u{4e16}")]);
    }

    #[test]
    fn the_limit_is_exact_and_the_next_event_is_served() {
        let large = |bytes| Decoded::TooLarge { bytes };
        assert_eq!(decode(3, &[b"id: 12345\ndata: abc\n\n"]), [seen(Some("12345"), None, "abc", None)]);
        assert_eq!(decode(3, &[b"data: a\ndata: b\n\n"]), [data("a\nb")]);
        assert_eq!(decode(3, &[b"data: a\ndata: bc\n\ndata: x\n\n"]), [large(4), data("x")]);
        assert_eq!(decode(3, &[b"data: abcd", b"efgh\nid: 1\ndata: x\n\ndata: x\n\n"]), [large(11), data("x")]);
        assert_eq!(decode(0, &[b"id: 1\ndata:\n\ndata: x\n\n"]), [seen(Some("1"), None, "", None), large(1)]);
        let long = format!("id: {}\n\n", "x".repeat(FIELD_BYTES_MAX));
        assert!(matches!(&decode(3, &[long.as_bytes()])[..], [Decoded::Event(e)] if e.id.is_some()));
        let long = format!("id: {}\ndata: a\n\n", "x".repeat(FIELD_BYTES_MAX + 1));
        assert_eq!(decode(3, &[long.as_bytes()]), [large(FIELD_BYTES_MAX as u64 + 2)]);
    }

    #[test]
    fn memory_stays_within_the_limit() {
        let max = 64 * 1024;
        let mut decoder = Decoder::new(max);
        decoder.push(b"data: ");
        for _ in 0..1000 {
            decoder.push(&[b'x'; 10_000]);
            assert!(decoder.event.data.capacity() <= max);
        }
        assert_eq!(decoder.event.data.capacity(), 0);
        decoder.push(b"\n\n");
        assert_eq!(decoder.next(), Some(Decoded::TooLarge { bytes: 10_000_000 }));
        // Lines that are no data cost nothing, however long.
        decoder.push(b":");
        (0..100).for_each(|_| decoder.push(&[b'x'; 10_000]));
        assert_eq!((decoder.event.data.capacity(), decoder.event.value.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            events in prop::collection::vec((prop::option::of("[ -~é]{0,9}"), "[^\r]{0,30}"), 0..6),
            cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            let mut out = Vec::new();
            for (id, text) in &events {
                event(&mut out, id.as_deref(), text);
                comment(&mut out);
            }
            let expected: Vec<_> = events.iter().map(|(id, text)| seen(id.as_deref(), None, text, None)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(out.len())).chain([0, out.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &out[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(200, &chunks), expected);
        }

        #[test]
        fn chunks_make_no_difference(
            words in prop::collection::vec(prop::sample::select(vec![
                "data", "id", "event", "retry", ":", ": ", "\n", "\r", "\r\n", "\n\n", "12", "xyz", "\0", "\u{feff}",
            ]), 0..60),
            size in 1usize..9,
            bytes_max in 0usize..9,
        ) {
            let stream = words.concat();
            let chunks: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
            prop_assert_eq!(decode(bytes_max, &chunks), decode(bytes_max, &[stream.as_bytes()]));
        }
    }
}
