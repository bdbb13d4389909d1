//! Newline-delimited JSON, the framing of stdio (basic/transports, stdio): one message per line.
//!
//! A line is copied once, into the buffer it is handed out in; a line over the limit is dropped as it streams.

use std::collections::VecDeque;

/// How much of a refused line is kept, in bytes: enough to find the id of most messages.
pub const HEAD_BYTES_MAX: usize = 4 * 1024;

/// What a stream of lines yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// One line without its line end; it is not yet known to be JSON, or UTF-8.
    Message(Vec<u8>),
    /// A line over the limit, reported once, when it has ended.
    TooLong {
        /// Its length without the line end.
        bytes: u64,
        /// Its first bytes, at most [`HEAD_BYTES_MAX`].
        head: Vec<u8>,
    },
}

/// Cuts a byte stream into lines. LF ends a line, and one CR before it belongs to the line end; empty lines are skipped.
///
/// It holds at most `bytes_max` bytes of an unfinished line, plus the lines that the last chunk completed: call
/// [`Decoder::next`] until it yields nothing before the next [`Decoder::push`].
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    line: Line,
    ready: VecDeque<Decoded>,
}

/// The unfinished line.
#[derive(Debug, Default)]
struct Line {
    /// Its bytes; once it is refused, its head.
    kept: Vec<u8>,
    /// Its length so far, without `held_cr`.
    bytes: u64,
    /// The last byte was a CR, which counts only if something else than LF follows.
    held_cr: bool,
    refused: bool,
}

impl Decoder {
    /// A decoder that accepts lines of up to `bytes_max` bytes, the line end not counted.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, line: Line::default(), ready: VecDeque::new() }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.line.add(&rest[..end], self.bytes_max);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.line.add(rest, self.bytes_max);
    }

    /// The next line; nothing until more bytes came.
    #[expect(clippy::should_implement_trait, reason = "nothing here means not yet: this is no iterator")]
    pub fn next(&mut self) -> Option<Decoded> {
        take(&mut self.ready)
    }

    /// At the end of the stream: what is still there, a last line without line end included. Call it until it yields
    /// nothing.
    pub fn finish(&mut self) -> Option<Decoded> {
        self.end_line();
        self.next()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.refused {
            self.ready.push_back(Decoded::TooLong { bytes: line.bytes, head: line.kept });
        } else if line.bytes > 0 {
            self.ready.push_back(Decoded::Message(line.kept));
        }
    }
}

impl Line {
    fn add(&mut self, part: &[u8], bytes_max: usize) {
        if part.is_empty() {
            return;
        }
        if std::mem::take(&mut self.held_cr) {
            self.keep(b"\r", bytes_max);
        }
        let body = part.strip_suffix(b"\r");
        self.held_cr = body.is_some();
        self.keep(body.unwrap_or(part), bytes_max);
    }

    fn keep(&mut self, part: &[u8], bytes_max: usize) {
        self.bytes += part.len() as u64;
        if !self.refused && self.bytes > bytes_max as u64 {
            self.refused = true;
            self.kept.truncate(HEAD_BYTES_MAX);
            self.kept.shrink_to_fit();
        }
        if self.refused {
            let room = HEAD_BYTES_MAX - self.kept.len();
            append(&mut self.kept, &part[..room.min(part.len())], HEAD_BYTES_MAX);
        } else {
            append(&mut self.kept, part, bytes_max);
        }
    }
}

/// Appends with doubling growth that stops at `bytes_max`, so that a buffer never takes twice its limit.
pub(crate) fn append(buffer: &mut Vec<u8>, part: &[u8], bytes_max: usize) {
    let needed = buffer.len() + part.len();
    if needed > buffer.capacity() {
        let goal = needed.max((2 * buffer.capacity()).min(bytes_max));
        buffer.reserve_exact(goal - buffer.len());
    }
    buffer.extend_from_slice(part);
}

/// Takes the first of what is ready; a queue that a burst has made large is given back when it is empty.
pub(crate) fn take<T>(ready: &mut VecDeque<T>) -> Option<T> {
    let first = ready.pop_front();
    if ready.is_empty() && ready.capacity() > 64 {
        *ready = VecDeque::new();
    }
    first
}

/// Appends `message` as one line. Line ends within JSON text can only be white space: they become spaces.
pub fn encode(message: &str, out: &mut Vec<u8>) {
    out.reserve(message.len() + 1);
    let start = out.len();
    out.extend_from_slice(message.as_bytes());
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &out[at..]) {
        out[at + found] = b' ';
        at += found + 1;
    }
    out.push(b'\n');
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
        found.extend(std::iter::from_fn(|| decoder.finish()));
        found
    }

    fn message(text: &str) -> Decoded {
        Decoded::Message(text.into())
    }

    fn too_long(bytes: u64, head: &str) -> Decoded {
        Decoded::TooLong { bytes, head: head.into() }
    }

    #[test]
    fn lines_and_their_ends() {
        let table: [(&[&[u8]], Vec<Decoded>); 8] = [
            (&[b""], vec![]),
            (&[b"a\nb\r\nc"], vec![message("a"), message("b"), message("c")]),
            (&[b"\n\r\n\n a\n"], vec![message(" a")]),
            (&[b"a\r", b"\nb\n"], vec![message("a"), message("b")]),
            (&[b"a\r", b"b\n"], vec![message("a\rb")]),
            (&[b"a\r\r\n"], vec![message("a\r")]),
            (&[b"a\r"], vec![message("a")]),
            (&[b"a", b"b", b"", b"c\n"], vec![message("abc")]),
        ];
        for (chunks, expected) in table {
            assert_eq!(decode(100, chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn the_limit_is_exact_and_the_next_line_is_served() {
        assert_eq!(decode(3, &[b"abc\nabc\r\nabc"]), [message("abc"), message("abc"), message("abc")]);
        assert_eq!(decode(3, &[b"abcd\nx\n"]), [too_long(4, "abcd"), message("x")]);
        assert_eq!(decode(3, &[b"abc\r", b"\nx\n"]), [message("abc"), message("x")]);
        assert_eq!(decode(3, &[b"abc\r", b"d\r\nx\n"]), [too_long(5, "abc\rd"), message("x")]);
        assert_eq!(decode(3, &[b"ab", b"cdef", b"gh"]), [too_long(8, "abcdefgh")]);
        assert_eq!(decode(0, &[b"\n\r\na\n"]), [too_long(1, "a")]);
    }

    #[test]
    fn a_refused_line_costs_its_head_only() {
        let (max, chunk) = (64 * 1024, vec![b'x'; 10_000]);
        let mut decoder = Decoder::new(max);
        for _ in 0..1000 {
            decoder.push(&chunk);
            assert!(decoder.line.kept.capacity() <= max);
            assert!(decoder.next().is_none());
        }
        assert_eq!(decoder.line.kept.capacity(), HEAD_BYTES_MAX);
        decoder.push(b"\nok\n");
        let expected = Decoded::TooLong { bytes: 10_000_000, head: vec![b'x'; HEAD_BYTES_MAX] };
        assert_eq!(decoder.next(), Some(expected));
        assert_eq!(decoder.next(), Some(message("ok")));
        assert_eq!(decoder.line.kept.capacity(), 0);
    }

    #[test]
    fn a_large_line_gives_its_memory_away() {
        let mut decoder = Decoder::new(1 << 20);
        (0..16).for_each(|_| decoder.push(&[b'x'; 1 << 16]));
        assert_eq!(decoder.line.kept.capacity(), 1 << 20);
        decoder.push(b"\r\n");
        assert_eq!(decoder.next(), Some(Decoded::Message(vec![b'x'; 1 << 20])));
        assert_eq!(decoder.line.kept.capacity(), 0);
    }

    #[test]
    fn a_burst_of_lines_gives_its_memory_away() {
        let mut decoder = Decoder::new(10);
        decoder.push(&b"a\n".repeat(10_000));
        assert_eq!(std::iter::from_fn(|| decoder.next()).count(), 10_000);
        assert_eq!(decoder.ready.capacity(), 0);
    }

    #[test]
    fn one_message_is_one_line() {
        let mut out = b"before\n".to_vec();
        encode("{\r\n  \"a\": \"\\n\"\n}", &mut out);
        assert_eq!(out, b"before\n{    \"a\": \"\\n\" }\n");
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            stream in prop::collection::vec(prop::sample::select(b"ab\r\n\xff".to_vec()), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..8),
            bytes_max in 0usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let expected: Vec<Decoded> = stream
                .split(|byte| *byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
                .filter(|line| !line.is_empty())
                .map(|line| match line.len() > bytes_max {
                    true => Decoded::TooLong { bytes: line.len() as u64, head: line },
                    false => Decoded::Message(line),
                })
                .collect();
            prop_assert_eq!(decode(bytes_max, &chunks), expected);
        }

        #[test]
        fn what_is_encoded_is_decoded(texts in prop::collection::vec(".{1,40}", 0..8)) {
            let mut out = Vec::new();
            // A JSON string has no raw control characters, and is never empty.
            let texts: Vec<String> = texts.iter().map(|text| crate::json::quote(text)).collect();
            texts.iter().for_each(|text| encode(text, &mut out));
            let expected: Vec<Decoded> = texts.iter().map(|text| message(text)).collect();
            prop_assert_eq!(decode(1000, &[&out]), expected);
        }
    }
}
