//! Asking the client something in the middle of a request, in either era: legacy clients get a
//! request on the call's stream, modern ones an `input_required` result whose retry brings the answers.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use rmcp::ErrorData;
use rmcp::model::{ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, SealOptions, ServerRequest};
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use super::call::Call;

/// The client's answers by key.
pub(super) type Answers = BTreeMap<String, Value>;

/// What came of asking.
pub(super) enum Asked {
    /// Every question is answered.
    Answers(Answers),
    /// The modern client has to come back with answers.
    Pending(InputRequiredResult),
}

/// One round of questions.
pub(super) type Round = Vec<(&'static str, Value)>;

/// Asks the rounds one after the other, the questions of a round together.
pub(super) async fn ask(call: &Call, rounds: Vec<Round>) -> Result<Asked, ErrorData> {
    let rounds = rounds.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    for requests in &rounds {
        require(call, requests)?;
    }
    if call.modern() { ask_modern(call, rounds) } else { ask_legacy(call, rounds).await.map(Asked::Answers) }
}

fn parse(round: Round) -> Result<InputRequests, ErrorData> {
    round.into_iter().map(|(key, value)| Ok((key.to_owned(), request(value)?))).collect()
}

/// Reads a question from its wire form.
pub(super) fn request(value: Value) -> Result<InputRequest, ErrorData> {
    serde_json::from_value(value).map_err(|e| ErrorData::internal_error(format!("malformed question: {e}"), None))
}

/// Refuses questions that the client did not declare itself able to answer.
fn require(call: &Call, requests: &InputRequests) -> Result<(), ErrorData> {
    let has = call.capabilities();
    for request in requests.values() {
        let (declared, name) = match request {
            InputRequest::CreateMessage(_) => (has.sampling.is_some(), "sampling"),
            InputRequest::ListRoots(_) => (has.roots.is_some(), "roots"),
            _ => (has.elicitation.is_some(), "elicitation"),
        };
        if !declared {
            return Err(undeclared(call, name));
        }
    }
    Ok(())
}

/// The error for a capability the client lacks.
pub(super) fn undeclared(call: &Call, name: &str) -> ErrorData {
    if call.modern() {
        let required: ClientCapabilities = serde_json::from_value(json!({ name: {} })).unwrap_or_default();
        ErrorData::missing_required_client_capability(required)
    } else {
        ErrorData::invalid_request(format!("the client did not declare {name}"), None)
    }
}

async fn ask_legacy(call: &Call, rounds: Vec<InputRequests>) -> Result<Answers, ErrorData> {
    let mut answers = Answers::new();
    for requests in rounds {
        let asked = requests.into_iter().map(|(key, request)| async move {
            let request = match request {
                InputRequest::CreateMessage(r) => ServerRequest::CreateMessageRequest(r),
                InputRequest::Elicitation(r) => ServerRequest::ElicitRequest(r),
                InputRequest::ListRoots(r) => ServerRequest::ListRootsRequest(r),
                _ => return Err(ErrorData::internal_error("unknown kind of question", None)),
            };
            let answer = call.ctx.peer.send_request(request).await.map_err(refused)?;
            let answer = serde_json::to_value(answer).map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
            Ok((key, answer))
        });
        answers.extend(try_join_all(asked).await?);
    }
    Ok(answers)
}

fn refused(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        other => ErrorData::internal_error(format!("the client did not answer: {other}"), None),
    }
}

fn ask_modern(call: &Call, rounds: Vec<InputRequests>) -> Result<Asked, ErrorData> {
    let mut answers = open(call)?.unwrap_or_default();
    for requests in rounds {
        if requests.keys().all(|key| answers.contains_key(key)) {
            continue;
        }
        let mut open_requests = InputRequests::new();
        for (key, request) in requests {
            if answers.contains_key(&key) {
                continue;
            }
            // Anything but an object cannot be an answer: the question is asked again.
            match call.responses.get(&key).filter(|value| value.is_object()) {
                Some(value) => drop(answers.insert(key, value.clone())),
                None => drop(open_requests.insert(key, request)),
            }
        }
        if !open_requests.is_empty() {
            let state = seal(call, &answers)?;
            let result = InputRequiredResult::new(Some(open_requests), Some(state));
            return Ok(Asked::Pending(result));
        }
    }
    Ok(Asked::Answers(answers))
}

fn seal(call: &Call, answers: &Answers) -> Result<String, ErrorData> {
    let options = SealOptions::new().associated_data(call.name.as_bytes());
    call.shared.codec.seal_json_with(answers, &options).map_err(|e| ErrorData::internal_error(e.to_string(), None))
}

/// The answers inside the echoed `requestState`; a forged one is an error.
pub(super) fn open(call: &Call) -> Result<Option<Answers>, ErrorData> {
    let Some(state) = &call.state else {
        return Ok(None);
    };
    call.shared
        .codec
        .open_json_with(state, call.name.as_bytes())
        .map(Some)
        .map_err(|e| ErrorData::invalid_params(format!("requestState refused: {e}"), None))
}

/// A form elicitation for one field.
pub(super) fn form(message: &str, field: &str, kind: &str) -> Value {
    form_of(message, json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] }))
}

/// A form elicitation with a whole schema.
pub(super) fn form_of(message: &str, schema: Value) -> Value {
    json!({
        "method": "elicitation/create",
        "params": { "mode": "form", "message": message, "requestedSchema": schema }
    })
}

/// A URL elicitation.
pub(super) fn visit(message: &str, url: &str, id: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": { "mode": "url", "message": message, "url": url, "elicitationId": id }
    })
}

/// A sampling request of one user message.
pub(super) fn sample(prompt: &str, max_tokens: u32) -> Value {
    json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": max_tokens
        }
    })
}

/// A request for the client's roots.
pub(super) fn roots() -> Value {
    json!({ "method": "roots/list" })
}

/// A field of an accepted form.
pub(super) fn field<'a>(answers: &'a Answers, key: &str, field: &str) -> &'a str {
    answers
        .get(key)
        .and_then(|answer| answer.pointer(&format!("/content/{field}")))
        .and_then(Value::as_str)
        .unwrap_or("unknown")
}
