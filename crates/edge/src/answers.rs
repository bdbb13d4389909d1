//! Large answers are counted until they are written. One for which there is no room is an error instead:
//! the call has run, and its client is told that what came of it is lost.

use enfilade_mcp::{Id, RpcError};
use enfilade_runtime::Limit;
use enfilade_session::owner::Reply;

const NO_ROOM: &str = "The call was executed, but this node has no memory left for its answer";

/// The same reply, counted.
pub(crate) fn counted(reply: Reply, answers: &Limit, id: Option<&Id>) -> Reply {
    // A session that was made is not taken back: its client hears of it.
    let Reply::Message { status, body, session: None, retry_after_s } = reply else { return reply };
    match answers.hold(body) {
        Some(body) => Reply::Message { status, body, session: None, retry_after_s },
        None => Reply::error(200, id, &RpcError::gateway(false, NO_ROOM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn an_answer_without_room_becomes_an_error_that_says_so() {
        let (limit, id) = (Limit::new(8000), Id::number(7));
        let answer = |bytes: usize| {
            let body = Bytes::from(vec![b'x'; bytes]);
            counted(Reply::Message { status: 200, body, session: None, retry_after_s: None }, &limit, Some(&id))
        };
        let Reply::Message { body: first, .. } = answer(8000) else { panic!("no answer") };
        assert_eq!((first.len(), limit.now()), (8000, 8000));
        let Reply::Message { status: 200, body, .. } = answer(5000) else { panic!("no answer") };
        let error = std::str::from_utf8(&body).expect("text");
        assert!(error.contains("\"id\":7") && error.contains(NO_ROOM) && error.contains("\"retry\":false"), "{error}");
        let Reply::Message { body: small, .. } = answer(1000) else { panic!("no answer") };
        assert_eq!((small.len(), limit.now()), (1000, 8000));
        drop(first);
        assert_eq!(limit.now(), 0);
        assert!(matches!(counted(Reply::Accepted, &limit, None), Reply::Accepted));
    }
}
