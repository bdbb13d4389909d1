//! What a client needs to go on elsewhere, in the messages themselves: the session's id in the result of `initialize`, and
//! the event id of each numbered message, as members of `_meta`. Everything else of a message keeps its bytes.

use bytes::Bytes;
use enfilade_mcp::{Id, Splice, json};
use enfilade_registry::SessionId;
use enfilade_session::stream::EventId;

/// The session's id, in `result._meta` of the answer to `initialize`.
pub(crate) const SESSION: &str = "io.enfilade/session";
/// The event id, in `_meta` of `params` or `result`. Errors have no place for it.
pub(crate) const EVENT: &str = "io.enfilade/event";
/// Tells that a stream is open and has said nothing yet, or has ended without the answer.
pub(crate) const STREAM: &str = "notifications/enfilade/stream";

/// The answer to `initialize` with the id of the session that it opened.
pub(crate) fn with_session(answer: Bytes, session: SessionId) -> Bytes {
    tagged(&answer, SESSION, &session.to_string()).unwrap_or(answer)
}

/// A message with its event id.
pub(crate) fn with_event(message: Bytes, event: EventId) -> Bytes {
    tagged(&message, EVENT, &event.to_string()).unwrap_or(message)
}

/// What stands for a priming event: the stream of `request`, or the general one, is open.
pub(crate) fn opened(event: EventId, request: Option<&Id>) -> Bytes {
    let request = request.map(|id| format!(r#""requestId":{id},"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":"{STREAM}","params":{{{request}"_meta":{{"{EVENT}":"{event}"}}}}}}"#).into()
}

/// What stands for the end of a body: the stream of `request` has ended without its answer. It may be gone on with after
/// `event`, the last one, where there was any.
pub(crate) fn ended(event: Option<EventId>, request: &Id) -> Bytes {
    let meta = event.map(|event| format!(r#","_meta":{{"{EVENT}":"{event}"}}"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":"{STREAM}","params":{{"requestId":{request},"ended":true{meta}}}}}"#).into()
}

/// A message that the gateway says nothing of: what a server wrote in its place is taken out.
pub(crate) fn untagged(message: Bytes) -> Bytes {
    let text = std::str::from_utf8(&message).unwrap_or_default();
    let meta = place(text).and_then(|(place, _)| json::get(place?, "_meta")).filter(|meta| json::is_object(meta));
    let Some(meta) = meta.filter(|meta| [EVENT, SESSION].iter().any(|name| json::get(meta, name).is_some())) else {
        return message;
    };
    Splice::new(text).remove(meta, &[EVENT, SESSION]).finish().into()
}

/// Nothing where the message has no place for it.
fn tagged(message: &[u8], name: &str, value: &str) -> Option<Bytes> {
    let text = std::str::from_utf8(message).ok()?.trim_ascii();
    let (place, names_method) = place(text)?;
    let value = json::quote(value);
    let mut splice = Splice::new(text);
    match place.map(|place| (place, json::get(place, "_meta"))) {
        Some((_, Some(meta))) if json::is_object(meta) => splice.set(meta, name, &value),
        Some((place, None)) if json::is_object(place) => {
            splice.set(place, "_meta", &format!(r#"{{"{name}":{value}}}"#))
        }
        None if names_method => splice.set(text, "params", &format!(r#"{{"_meta":{{"{name}":{value}}}}}"#)),
        _ => return None,
    };
    Some(splice.finish().into())
}

/// `params` or `result` of a message, and whether it names a method; nothing of an error.
fn place(text: &str) -> Option<(Option<&str>, bool)> {
    let (mut place, mut names_method) = (None, false);
    for member in json::members(text.trim_ascii()) {
        match member.name().as_ref() {
            "params" | "result" => place = Some(member.value),
            "method" => names_method = true,
            "error" => return None,
            _ => {}
        }
    }
    Some((place, names_method))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EventId = EventId { stream: 3, term: 5, seq: 7 };

    #[test]
    fn every_kind_of_message_keeps_its_bytes_and_gets_its_event() {
        let table = [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"content":[ 1 ]}}"#,
                r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.enfilade/event":"3.5.7"},"content":[ 1 ]}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"_meta":{"b":2}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"_meta":{"io.enfilade/event":"3.5.7","b":2}}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"x"}"#,
                r#"{"params":{"_meta":{"io.enfilade/event":"3.5.7"}},"jsonrpc":"2.0","method":"x"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"x","params":{}}"#,
                r#"{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.enfilade/event":"3.5.7"}}}"#,
            ),
        ];
        for (message, expected) in table {
            assert_eq!(with_event(Bytes::from_static(message.as_bytes()), ID), expected, "{message}");
            assert!(json::check(expected.as_bytes()).is_ok(), "{expected}");
        }
    }

    #[test]
    fn what_has_no_place_for_it_stays_as_it_is() {
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":7}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#,
        ] {
            assert_eq!(with_event(Bytes::from_static(message.as_bytes()), ID), message);
        }
    }

    #[test]
    fn a_server_cannot_tell_a_client_where_to_go_on() {
        let table = [
            (
                r#"{"id":1,"result":{"_meta":{"io.enfilade/event":"0.1.9","a":1},"b":[ 2 ]}}"#,
                r#"{"id":1,"result":{"_meta":{"a":1},"b":[ 2 ]}}"#,
            ),
            (
                r#"{"method":"m","params":{"_meta":{"a":1,"\u0069o.enfilade/session":"s"}}}"#,
                r#"{"method":"m","params":{"_meta":{"a":1}}}"#,
            ),
        ];
        for (message, expected) in table {
            assert_eq!(untagged(Bytes::from_static(message.as_bytes())), expected);
            assert_eq!(untagged(Bytes::from_static(expected.as_bytes())), expected);
        }
    }

    #[test]
    fn an_open_stream_names_its_request() {
        let request = Id::from_json("\"a\"").expect("an id");
        let text = opened(ID, Some(&request));
        let text = std::str::from_utf8(&text).expect("text");
        assert_eq!(json::at(text, &["params", "requestId"]), Some("\"a\""));
        assert_eq!(json::at(text, &["params", "_meta", EVENT]), Some("\"3.5.7\""));
        assert!(json::check(text.as_bytes()).is_ok() && json::check(&opened(ID, None)).is_ok());
        assert!(json::check(&ended(Some(ID), &request)).is_ok() && json::check(&ended(None, &request)).is_ok());
    }
}
