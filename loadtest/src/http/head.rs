//! The head of an answer: the few fields that matter here.

use super::Body;

const HEADERS_MAX: usize = 64;
/// Longest head that is read.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;

/// What of a head is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) session: Option<Box<str>>,
    pub(crate) is_events: bool,
    /// There is a `Retry-After`.
    pub(crate) says_when: bool,
    /// The connection may be used again afterwards.
    pub(crate) keeps: bool,
    pub(crate) body: Body,
}

/// It is no HTTP/1.1 answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotHttp;

impl Head {
    /// The head at the beginning of `bytes` and its length; nothing when more has to come.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, NotHttp> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            _ => return Err(NotHttp),
        };
        let status = response.code.ok_or(NotHttp)?;
        let mut head =
            Head { status, session: None, is_events: false, says_when: false, keeps: true, body: Body::UntilEnd };
        let mut is_chunked = false;
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).unwrap_or_default();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                head.body = Body::length(value.trim().parse().map_err(|_| NotHttp)?);
            } else if is("transfer-encoding") {
                is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            } else if is("mcp-session-id") {
                head.session = Some(value.into());
            } else if is("content-type") {
                head.is_events = value.starts_with("text/event-stream");
            } else if is("retry-after") {
                head.says_when = true;
            } else if is("connection") {
                head.keeps = !value.eq_ignore_ascii_case("close");
            }
        }
        if is_chunked {
            head.body = Body::chunked();
        } else if matches!(status, 204 | 304) {
            head.body = Body::length(0);
        }
        head.keeps &= head.body != Body::UntilEnd;
        Ok(Some((head, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nmcp-session-id: a.b\r\ntransfer-encoding: chunked\r\n\r\n5\r\n";
        assert_eq!(Head::parse(&text[..40]), Ok(None));
        let (head, length) = Head::parse(text).expect("http").expect("whole");
        assert_eq!(&text[length..], b"5\r\n");
        assert!(head.is_events && head.keeps && head.status == 200 && head.body == Body::chunked());
        assert_eq!(head.session.as_deref(), Some("a.b"));
    }

    #[test]
    fn a_body_without_a_length_ends_with_its_connection() {
        let head = |text: &str| Head::parse(text.as_bytes()).expect("http").expect("whole").0;
        let end = head("HTTP/1.1 200 OK\r\n\r\n");
        assert!(!end.keeps && end.body == Body::UntilEnd);
        let closed = head("HTTP/1.1 503 no\r\nconnection: close\r\nRetry-After: 1\r\ncontent-length: 0\r\n\r\n");
        assert!(
            !closed.keeps
                && closed.says_when
                && !end.says_when
                && closed.body == Body::length(0)
                && closed.status == 503
        );
        assert_eq!(Head::parse(b"SSH-2.0-x\r\n\r\n"), Err(NotHttp));
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), Err(NotHttp));
    }
}
