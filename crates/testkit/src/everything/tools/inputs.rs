//! Tools that ask the client in the middle of the call: sampling, elicitation, roots, several at
//! once, in rounds, and with sealed state.

use rmcp::ErrorData;
use rmcp::model::Tool;
use serde_json::{Value, json};

use super::super::ask::{Answers, Asked, Round, ask, field, form, form_of, roots, sample, visit};
use super::super::call::{Call, ToolResult, text};
use super::{bare, schema};

pub(super) fn list() -> Vec<Tool> {
    let string = json!({ "type": "string" });
    let kinds = json!({ "type": "string", "enum": ["sampling", "elicitation", "url", "roots"] });
    let rounds = json!({ "type": "integer", "minimum": 1, "maximum": 3 });
    vec![
        // Asks the client (in as many rounds as told) and answers with the last answer as JSON text.
        Tool::new(
            "ask",
            "asks the client and answers with its answer",
            schema(json!({ "kind": kinds, "rounds": rounds }), &["kind"]),
        ),
        // Asks for sampling, elicitation and roots at the same time; all answers as JSON text.
        bare("ask_many", "asks the client three things at once"),
        Tool::new("test_sampling", "asks for sampling", schema(json!({ "prompt": string }), &["prompt"])),
        Tool::new("test_elicitation", "asks the user", schema(json!({ "message": string }), &["message"])),
        bare("test_elicitation_sep1034_defaults", "asks the user with default values"),
        bare("test_elicitation_sep1330_enums", "asks the user with every form of enumeration"),
        bare("test_streaming_elicitation", "reports progress, then asks the user"),
        bare("test_input_required_result_elicitation", "asks for a name"),
        bare("test_input_required_result_sampling", "asks for sampling"),
        bare("test_input_required_result_list_roots", "asks for the roots"),
        bare("test_input_required_result_request_state", "asks and checks its state"),
        bare("test_input_required_result_multiple_inputs", "asks three things at once"),
        bare("test_input_required_result_multi_round", "asks in two rounds"),
        bare("test_input_required_result_tampered_state", "refuses state that was changed"),
        bare("test_input_required_result_capabilities", "asks only what the client declared"),
    ]
}

pub(super) async fn call(call: &Call) -> Option<ToolResult> {
    let asked = match rounds(call)? {
        Ok(rounds) if rounds.is_empty() => return Some(text("No supported capabilities declared")),
        Ok(rounds) => {
            if call.name == "test_streaming_elicitation" {
                call.progress(1.0, 2.0).await;
            }
            ask(call, rounds).await
        }
        Err(error) => Err(error),
    };
    Some(match asked {
        Ok(Asked::Answers(answers)) => text(summary(call, &answers)),
        Ok(Asked::Pending(result)) => Ok(result.into()),
        Err(error) => Err(error),
    })
}

/// What a tool asks; `None` if it is not a tool of this file.
fn rounds(call: &Call) -> Option<Result<Vec<Round>, ErrorData>> {
    let name = || form("What is your name?", "name", "string");
    let confirm = || form("Please confirm", "ok", "boolean");
    let one = |key, question| Ok(vec![vec![(key, question)]]);
    Some(match call.name.as_str() {
        "ask" => ask_rounds(call),
        "ask_many" => {
            Ok(vec![vec![("sampling", sample("Say something", 50)), ("elicitation", name()), ("roots", roots())]])
        }
        "test_sampling" => call.text("prompt").and_then(|p| one("sampling", sample(p, 100))),
        "test_elicitation" => {
            call.text("message").and_then(|message| one("elicitation", form(message, "response", "string")))
        }
        "test_elicitation_sep1034_defaults" => one("elicitation", defaults()),
        "test_elicitation_sep1330_enums" => one("elicitation", enums()),
        "test_streaming_elicitation" | "test_input_required_result_elicitation" => one("user_name", name()),
        "test_input_required_result_sampling" => one("capital_question", sample("What is the capital of France?", 100)),
        "test_input_required_result_list_roots" => one("client_roots", roots()),
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            one("confirm", confirm())
        }
        "test_input_required_result_multiple_inputs" => Ok(vec![vec![
            ("user_name", name()),
            ("greeting", sample("Generate a greeting", 50)),
            ("client_roots", roots()),
        ]]),
        "test_input_required_result_multi_round" => Ok(vec![
            vec![("step1", form("Step 1: What is your name?", "name", "string"))],
            vec![("step2", form("Step 2: What is your favorite color?", "color", "string"))],
        ]),
        "test_input_required_result_capabilities" => Ok(declared(call)),
        _ => return None,
    })
}

fn ask_rounds(call: &Call) -> Result<Vec<Round>, ErrorData> {
    const KEYS: [&str; 3] = ["answer", "answer2", "answer3"];
    let kind = call.text("kind")?;
    let count = call.count_or("rounds", 1)?.clamp(1, 3);
    KEYS.into_iter()
        .zip(0..count)
        .map(|(key, _)| {
            let question = match kind {
                "sampling" => sample("Say something", 50),
                "elicitation" => form("Please answer", "answer", "string"),
                "url" => visit("Please visit", "https://example.com/consent", key),
                "roots" => roots(),
                _ => {
                    return Err(ErrorData::invalid_params(format!("unknown kind: {kind}"), None));
                }
            };
            Ok(vec![(key, question)])
        })
        .collect()
}

fn declared(call: &Call) -> Vec<Round> {
    let has = call.capabilities();
    let mut round = Round::new();
    if has.elicitation.is_some() {
        round.push(("elicit_input", form("Elicitation input", "value", "string")));
    }
    if has.sampling.is_some() {
        round.push(("sample_input", sample("Sample request", 50)));
    }
    if round.is_empty() { vec![] } else { vec![round] }
}

/// The text of the finished call.
fn summary(call: &Call, answers: &Answers) -> String {
    let said = |key: &str| {
        let text = answers.get(key).and_then(|a| a.pointer("/content/text"));
        text.and_then(Value::as_str).unwrap_or("nothing").to_owned()
    };
    let roots = || {
        let roots = answers.get("client_roots").and_then(|a| a.get("roots"));
        roots.and_then(Value::as_array).map_or(0, Vec::len)
    };
    match call.name.as_str() {
        "ask" => answers.values().next_back().unwrap_or(&Value::Null).to_string(),
        "test_sampling" => format!("LLM response: {}", said("sampling")),
        "test_elicitation" => outcome("User response", answers),
        "test_elicitation_sep1034_defaults" | "test_elicitation_sep1330_enums" => {
            outcome("Elicitation completed", answers)
        }
        "test_streaming_elicitation" | "test_input_required_result_elicitation" => {
            format!("Hello, {}!", field(answers, "user_name", "name"))
        }
        "test_input_required_result_sampling" => said("capital_question"),
        "test_input_required_result_list_roots" => format!("Found {} root(s)", roots()),
        "test_input_required_result_request_state" => "state-ok".to_owned(),
        "test_input_required_result_tampered_state" => "integrity-ok".to_owned(),
        "test_input_required_result_multiple_inputs" => {
            format!("Name: {}; Greeting: {}; Roots: {}", field(answers, "user_name", "name"), said("greeting"), roots())
        }
        "test_input_required_result_multi_round" => {
            format!("{} likes {}", field(answers, "step1", "name"), field(answers, "step2", "color"))
        }
        _ => json!(answers).to_string(),
    }
}

fn outcome(what: &str, answers: &Answers) -> String {
    let answer = answers.get("elicitation").unwrap_or(&Value::Null);
    let action = answer.get("action").and_then(Value::as_str).unwrap_or("none");
    let content = answer.get("content").cloned().unwrap_or_else(|| json!({}));
    format!("{what}: action={action}, content={content}")
}

fn defaults() -> Value {
    form_of(
        "Please review and update the form fields with defaults",
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "User name", "default": "John Doe" },
                "age": { "type": "integer", "description": "User age", "default": 30 },
                "score": { "type": "number", "description": "User score", "default": 95.5 },
                "status": {
                    "type": "string",
                    "description": "User status",
                    "enum": ["active", "inactive", "pending"],
                    "default": "active"
                },
                "verified": { "type": "boolean", "description": "Verification status", "default": true }
            },
            "required": []
        }),
    )
}

fn enums() -> Value {
    let titled = json!([
        { "const": "value1", "title": "First" },
        { "const": "value2", "title": "Second" },
        { "const": "value3", "title": "Third" }
    ]);
    let plain = json!(["option1", "option2", "option3"]);
    form_of(
        "Please select options from the enum fields",
        json!({
            "type": "object",
            "properties": {
                "untitledSingle": { "type": "string", "description": "one of", "enum": plain },
                "titledSingle": { "type": "string", "description": "one of", "oneOf": titled },
                "legacyEnum": {
                    "type": "string",
                    "description": "one of, in the old form",
                    "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"]
                },
                "untitledMulti": {
                    "type": "array",
                    "description": "some of",
                    "minItems": 1,
                    "maxItems": 3,
                    "items": { "type": "string", "enum": plain }
                },
                "titledMulti": {
                    "type": "array",
                    "description": "some of",
                    "minItems": 1,
                    "maxItems": 3,
                    "items": { "anyOf": titled }
                }
            },
            "required": []
        }),
    )
}
