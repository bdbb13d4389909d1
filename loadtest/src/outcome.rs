//! How an operation ended for its client, from the status and the JSON-RPC answer. Pure.

use serde_json::Value;

/// Exactly one of these is the end of everything that was due. The order is that of the wire between workers and
/// coordinator and of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The right answer.
    Ok,
    /// An error: it was not done, or not well.
    Error,
    /// 503 with `Retry-After`: it was certainly not executed.
    Refused,
    /// The client cannot know whether it was executed: the gateway says so, or the connection broke before the answer.
    Unknown,
    /// A session that must exist is not known (404).
    Lost,
    /// An answer to something else, with another text, or one that is no answer.
    Wrong,
    /// No answer in all the time that the client waits.
    Silent,
    /// The generator had no room to send it: says nothing about the gateway.
    Unsent,
    /// 429 with `Retry-After`: not executed.
    Limited,
    /// No node took the connection: not executed.
    Unreached,
}

/// Number of outcomes.
pub(crate) const OUTCOMES: usize = 10;

/// Not executed, and the client knows it.
pub(crate) const REFUSALS: [Outcome; 3] = [Outcome::Refused, Outcome::Limited, Outcome::Unreached];

impl Outcome {
    /// All, in order.
    pub(crate) const ALL: [Outcome; OUTCOMES] = [
        Outcome::Ok,
        Outcome::Error,
        Outcome::Refused,
        Outcome::Unknown,
        Outcome::Lost,
        Outcome::Wrong,
        Outcome::Silent,
        Outcome::Unsent,
        Outcome::Limited,
        Outcome::Unreached,
    ];

    /// As reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
            Outcome::Lost => "lost",
            Outcome::Wrong => "wrong",
            Outcome::Silent => "silent",
            Outcome::Unsent => "unsent",
            Outcome::Limited => "limited",
            Outcome::Unreached => "unreached",
        }
    }
}

/// What is known of an HTTP answer with this status, unless its body has to be read for that. A refusal that does not say
/// when to come again is an error.
pub(crate) fn of_status(status: u16, says_when: bool, in_session: bool) -> Option<Outcome> {
    match status {
        200..=299 => None,
        503 if says_when => Some(Outcome::Refused),
        429 if says_when => Some(Outcome::Limited),
        404 if in_session => Some(Outcome::Lost),
        _ => Some(Outcome::Error),
    }
}

/// What the answer to the request `id` says. `text` is what the tool must have given back, if that is known.
pub(crate) fn of_answer(id: u64, answer: &Value, text: Option<&str>) -> Outcome {
    if answer["id"].as_u64() != Some(id) {
        return Outcome::Wrong;
    }
    let error = &answer["error"];
    if !error.is_null() {
        let message = error["message"].as_str().unwrap_or_default();
        return if message.contains("outcome is unknown") { Outcome::Unknown } else { Outcome::Error };
    }
    let result = &answer["result"];
    let given = result["content"][0]["text"].as_str();
    match text {
        _ if !result.is_object() => Outcome::Wrong,
        _ if result["isError"] == true => Outcome::Error,
        Some(_) if given != text => Outcome::Wrong,
        _ => Outcome::Ok,
    }
}

/// An answer that says that the request was not executed and may be sent again: how a WebSocket, which has no status, says
/// that there is too much to do.
pub(crate) fn says_again(answer: &Value) -> bool {
    answer["error"]["data"]["retry"] == true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(of_status(200, false, true), None);
        assert_eq!(of_status(202, false, true), None);
        assert_eq!(of_status(503, true, true), Some(Outcome::Refused));
        assert_eq!(of_status(429, true, false), Some(Outcome::Limited));
        for status in [503, 429] {
            assert_eq!(of_status(status, false, true), Some(Outcome::Error), "{status} does not say when");
        }
        assert_eq!(of_status(404, false, true), Some(Outcome::Lost));
        // Nothing can be lost that has no session.
        assert_eq!(of_status(404, false, false), Some(Outcome::Error));
        assert_eq!(of_status(500, true, true), Some(Outcome::Error));
    }

    #[test]
    fn answers_are_told_apart() {
        let said = |text: &str| json!({"id": 7, "result": {"content": [{"type": "text", "text": text}]}});
        assert_eq!(of_answer(7, &said("a"), Some("a")), Outcome::Ok);
        assert_eq!(of_answer(7, &said("b"), None), Outcome::Ok);
        assert_eq!(of_answer(7, &said("b"), Some("a")), Outcome::Wrong);
        assert_eq!(of_answer(8, &said("a"), Some("a")), Outcome::Wrong);
        assert_eq!(of_answer(7, &json!({"id": 7, "result": {}}), None), Outcome::Ok);
        assert_eq!(of_answer(7, &json!({"id": 7}), None), Outcome::Wrong);
        assert_eq!(of_answer(7, &json!({"id": 7, "result": {"isError": true}}), Some("a")), Outcome::Error);
        let error = |message: &str| json!({"id": 7, "error": {"code": -32603, "message": message}});
        assert!(says_again(&json!({"error": {"code": -32603, "data": {"fault": "gateway", "retry": true}}})));
        assert!(!says_again(&error("no")) && !says_again(&said("a")));
        assert_eq!(of_answer(7, &error("the node was lost; the outcome is unknown"), None), Outcome::Unknown);
        assert_eq!(of_answer(7, &error("no such tool"), None), Outcome::Error);
    }

    #[test]
    fn the_order_is_that_of_the_wire() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
