//! Events of a stream, read in pieces. Between events it holds no memory. Pure.

/// What of the stream is not a whole line yet. `data` of one event is handed on line by line: messages have one line.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
}

/// A line of an event that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Id(&'a str),
    /// How long to wait before the stream is opened again, in milliseconds.
    Retry(u64),
    Data(&'a [u8]),
}

/// Longest line that is kept; what is longer is no message of this test.
const LINE_BYTES_MAX: usize = 4 << 20;

impl Events {
    /// Hands on the lines that `bytes` complete.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut on: impl FnMut(Line<'_>)) {
        while let Some(length) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..length], &bytes[length + 1..]);
            if self.line.is_empty() {
                whole(line, &mut on);
            } else {
                self.line.extend_from_slice(line);
                whole(&std::mem::take(&mut self.line), &mut on);
            }
            bytes = rest;
        }
        if !bytes.is_empty() && self.line.len() < LINE_BYTES_MAX {
            self.line.extend_from_slice(bytes);
        }
    }
}

fn whole(line: &[u8], on: &mut impl FnMut(Line<'_>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let text = || std::str::from_utf8(value).ok();
    match name {
        b"data" if !value.is_empty() => on(Line::Data(value)),
        b"id" => text().into_iter().for_each(|id| on(Line::Id(id))),
        b"retry" => text().and_then(|text| text.parse().ok()).into_iter().for_each(|ms| on(Line::Retry(ms))),
        // A comment, or a field that is not needed here.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_they_are_cut() {
        let text = b"retry: 700\nid: 1.1.0\ndata:\n\n: quiet\n\nevent: message\r\nid: 1.1.1\r\ndata: {\"a\":1}\r\n\r\n";
        let wanted = ["Retry(700)", "Id(\"1.1.0\")", "Id(\"1.1.1\")", "{\"a\":1}"];
        for size in 1..=text.len() {
            let (mut events, mut got) = (Events::default(), Vec::new());
            for piece in text.chunks(size) {
                events.read(piece, |line| {
                    got.push(match line {
                        Line::Data(data) => String::from_utf8_lossy(data).into_owned(),
                        other => format!("{other:?}"),
                    });
                });
            }
            assert_eq!(got, wanted, "in pieces of {size}");
            assert_eq!(events.line.capacity(), 0, "nothing is held between events");
        }
    }
}
