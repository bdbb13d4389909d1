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
    /// 503 or 429, or no node took the connection: it was certainly not executed.
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
}

/// Number of outcomes.
pub(crate) const OUTCOMES: usize = 8;

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
        }
    }
}

/// What is known of an HTTP answer with this status, unless its body has to be read for that.
pub(crate) fn of_status(status: u16, in_session: bool) -> Option<Outcome> {
    match status {
        200..=299 => None,
        503 | 429 => Some(Outcome::Refused),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(of_status(200, true), None);
        assert_eq!(of_status(202, true), None);
        assert_eq!(of_status(503, true), Some(Outcome::Refused));
        assert_eq!(of_status(429, false), Some(Outcome::Refused));
        assert_eq!(of_status(404, true), Some(Outcome::Lost));
        // Nothing can be lost that has no session.
        assert_eq!(of_status(404, false), Some(Outcome::Error));
        assert_eq!(of_status(500, true), Some(Outcome::Error));
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
