//! What an HTTP answer to a request means: the response, a stream that holds it, or why there is none.

use super::reply::Reply;
use crate::peer::{CallError, Exchange, Messages};
use crate::wire;
use bytes::Bytes;

/// What came back.
pub(crate) enum Answer {
    /// It is all there.
    Whole(Exchange),
    /// It comes as events.
    Events(Reply),
}

/// Reads the answer to request `id`; `in_session` when the request named a session.
pub(crate) async fn read(reply: Reply, id: u64, in_session: bool) -> Result<Answer, CallError> {
    let status = reply.status();
    if status.is_success() && reply.is_events() {
        return Ok(Answer::Events(reply));
    }
    let status = status.as_u16();
    let body = reply.collect().await;
    if (200..300).contains(&status) {
        return whole(body?, id).map(Answer::Whole);
    }
    // What the status says counts also where there is no room for the text beside it.
    let body = if body == Err(CallError::NoMemory) { Bytes::new() } else { body? };
    let body = String::from_utf8_lossy(&body);
    refused(status, &body, id, in_session).map(|error| Answer::Whole(Exchange::Answer(error.into())))
}

/// A successful answer that is no stream.
fn whole(body: Bytes, id: u64) -> Result<Exchange, CallError> {
    if wire::plainly_answers(&body, id) {
        return Ok(Exchange::Answer(body));
    }
    let text = std::str::from_utf8(&body).map_err(|_| CallError::Protocol("not UTF-8"))?;
    if wire::answers(text, id) {
        return Ok(Exchange::Answer(body));
    }
    if wire::is_batch(text) {
        let (mut messages, mut response) = (Vec::new(), Err(CallError::Lost));
        for part in wire::split(text) {
            match wire::answers(part, id) {
                true => response = Ok(body.slice_ref(part.as_bytes())),
                false => messages.push(Ok(body.slice_ref(part.as_bytes()))),
            }
        }
        messages.push(response);
        return Ok(Exchange::Stream(Messages::scripted(messages)));
    }
    match wire::error_for(text, id) {
        Some(error) => Ok(Exchange::Answer(error.into())),
        None if text.trim().is_empty() => Err(CallError::Protocol("empty")),
        None => Err(CallError::Protocol("no answer to the request")),
    }
}

/// An answer with an error status: the JSON-RPC error in it, or what the status says.
fn refused(status: u16, body: &str, id: u64, in_session: bool) -> Result<String, CallError> {
    if in_session && forgot_session(status, body, id) {
        return Err(CallError::Gone);
    }
    wire::error_for(body, id).ok_or(CallError::Status(status))
}

/// 404 means that the session is gone (basic/transports, Session Management), unless it is the error of a request that
/// was read. Widespread servers say it with 400 or 401 and a text; they too had not read the request.
fn forgot_session(status: u16, body: &str, id: u64) -> bool {
    let mentions_session = || body.to_ascii_lowercase().contains("session");
    let is_about_request = || wire::sort(body) == wire::Sort::Response(Some(id));
    match status {
        404 => !is_about_request() || mentions_session(),
        400 | 401 | 410 => !is_about_request() && mentions_session(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_statuses() {
        let own = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no such method"}}"#;
        let anonymous = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request"}}"#;
        let numbered = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Bad Request"}}"#;
        let session = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#;
        let own_session = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32001,"message":"Session not found"}}"#;
        let foreign = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#;
        let ok = |text: &str| Ok(text.to_owned());
        for (status, body, in_session, expected) in [
            (404, "", true, Err(CallError::Gone)),
            (404, "", false, Err(CallError::Status(404))),
            (404, own, true, ok(own)),
            (404, own, false, ok(own)),
            (404, session, true, Err(CallError::Gone)),
            (404, own_session, true, Err(CallError::Gone)),
            (404, foreign, true, Err(CallError::Gone)),
            (404, anonymous, true, Err(CallError::Gone)),
            (400, anonymous, true, ok(numbered)),
            (400, session, true, Err(CallError::Gone)),
            (401, "Unauthorized: Session not found", true, Err(CallError::Gone)),
            (401, r#"{"error":"invalid_token"}"#, true, Err(CallError::Status(401))),
            (503, "busy", true, Err(CallError::Status(503))),
            (500, own, true, ok(own)),
        ] {
            assert_eq!(refused(status, body, 7, in_session), expected, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn successful_answers() {
        let answer = |text: &'static str| whole(Bytes::from_static(text.as_bytes()), 7);
        let plain = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        assert!(matches!(answer(plain), Ok(Exchange::Answer(body)) if body == plain));
        assert_eq!(answer("").unwrap_err(), CallError::Protocol("empty"));
        assert!(matches!(answer("<html>").unwrap_err(), CallError::Protocol(_)));
        assert!(matches!(answer(r#"{"jsonrpc":"2.0","id":8,"result":{}}"#).unwrap_err(), CallError::Protocol(_)));
        let Ok(Exchange::Stream(mut batch)) = answer(r#"[{"id":7,"result":1},{"method":"a"}]"#) else { panic!() };
        assert_eq!(batch.next().await.unwrap().unwrap(), r#"{"method":"a"}"#);
        assert_eq!(batch.next().await.unwrap().unwrap(), r#"{"id":7,"result":1}"#);
        assert!(batch.next().await.is_none());
        let Ok(Exchange::Stream(mut batch)) = answer(r#"[{"method":"a"}]"#) else { panic!() };
        assert!(batch.next().await.unwrap().is_ok());
        assert_eq!(batch.next().await.unwrap().unwrap_err(), CallError::Lost);
    }
}
