//! Reads an event stream as it arrives, in pieces of any size. Pure.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) retry_ms: Option<u64>,
    pub(crate) data: Option<String>,
}

/// What of the stream is not a whole event yet.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    rest: Vec<u8>,
    event: Event,
}

impl Reader {
    /// The events that `bytes` complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[begin..begin + length]);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event != Event::default() {
                    events.push(event);
                }
            } else {
                field(&mut self.event, line);
            }
            begin += length + 1;
        }
        self.rest.drain(..begin);
        events
    }
}

fn field(event: &mut Event, line: &str) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match name {
        "id" => event.id = Some(value.to_owned()),
        "retry" => event.retry_ms = value.parse().ok(),
        "data" => match &mut event.data {
            Some(data) => *data = format!("{data}\n{value}"),
            None => event.data = Some(value.to_owned()),
        },
        // A comment, or a field that is not needed here.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        let text = "retry: 700\nid: 1.1.0\ndata:\n\n: quiet\n\nevent: message\r\nid: 1.1.1\r\ndata: {\"a\":1}\r\n\r\ndata: x\ndata: y\n\n";
        let event = |id: Option<&str>, retry_ms, data: &str| Event {
            id: id.map(str::to_owned),
            retry_ms,
            data: Some(data.to_owned()),
        };
        let wanted =
            [event(Some("1.1.0"), Some(700), ""), event(Some("1.1.1"), None, "{\"a\":1}"), event(None, None, "x\ny")];
        for size in [1, 2, 7, text.len()] {
            let mut reader = Reader::default();
            let got: Vec<Event> = text.as_bytes().chunks(size).flat_map(|piece| reader.read(piece)).collect();
            assert_eq!(got, wanted, "in pieces of {size}");
        }
    }
}
