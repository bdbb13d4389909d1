//! Whatever is posted is classified, or refused in one of five ways with a well-formed error that keeps the id.

use enfilade_mcp::classify::{Class, Headers, Refused, classify, classify_bodiless};
use enfilade_mcp::{Envelope, Kind};
use proptest::prelude::*;
use serde_json::Value;

/// All that is ever answered at the edge.
const REFUSALS: [(u16, i64); 5] = [(400, -32600), (400, -32602), (400, -32020), (400, -32022), (404, -32601)];
/// A modern call to be damaged.
const CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"#,
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#
);

fn class_of(headers: Headers<'_>, envelope: &Envelope<'_>) -> Result<&'static str, Refused> {
    classify(headers, &envelope.kind).map(|class| match class {
        Class::Modern(_) => "modern",
        Class::ModernNotification => "accepted",
        Class::Initialize => "initialize",
        Class::Legacy { .. } => "session",
    })
}

/// Members of a message, each with its comma; a subset in a random order makes shapes that no table has.
fn member() -> impl Strategy<Value = String> {
    let word = prop_oneof!["[ -~]{0,12}", any::<String>()].prop_map(|word| Value::from(word).to_string());
    let pool = prop::sample::select(vec![
        r#""id":1"#,
        r#""id":"\u0041\n""#,
        r#""id":-12345678901234567890"#,
        r#""id":null"#,
        r#""id":1.5"#,
        r#""method":"initialize""#,
        r#""method":"ping""#,
        r#""method":"tools/call""#,
        r#""method":"tasks/get""#,
        r#""result":{}"#,
        r#""error":{"code":1,"message":""}"#,
    ]);
    prop_oneof![
        4 => pool.prop_map(str::to_owned),
        1 => word.clone().prop_map(|word| format!(r#""method":{word}"#)),
        4 => params(word).prop_map(|params| format!(r#""params":{params}"#)),
    ]
}

fn params(word: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = String> {
    let version = prop_oneof![Just(r#""2026-07-28""#.to_owned()), Just("7".to_owned()), word.clone()]
        .prop_map(|version| format!(r#""io.modelcontextprotocol/protocolVersion":{version}"#));
    let capabilities = prop::sample::select(vec!["{}", "[]", "null"])
        .prop_map(|value| format!(r#""io.modelcontextprotocol/clientCapabilities":{value}"#));
    let other = word.clone().prop_map(|word| format!("{word}:{word}"));
    let meta = prop::collection::vec(prop_oneof![3 => version, 3 => capabilities, 1 => other], 0..4)
        .prop_map(|members| format!(r#""_meta":{{{}}}"#, members.join(",")));
    let name = word.prop_map(|word| format!(r#""name":{word}"#));
    let odd = Just(r#""_meta":[{}]"#.to_owned());
    prop::collection::vec(prop_oneof![4 => meta, 2 => name, 1 => odd], 0..3)
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn header() -> impl Strategy<Value = Option<String>> {
    let pool =
        prop::sample::select(vec!["2026-07-28", "2025-11-25", "2024-11-05", "tools/call", "initialize", "ping", ""]);
    prop::option::of(prop_oneof![3 => pool.prop_map(str::to_owned), 1 => any::<String>()])
}

/// Says what must hold for any message whatever; `Err` names what does not.
fn check_any(headers: Headers<'_>, text: &str) -> Result<(), TestCaseError> {
    let Ok(envelope) = Envelope::parse(text.as_bytes()) else { return Ok(()) };
    let whole: Value = serde_json::from_str(text).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let class = class_of(headers, &envelope);
    let params = if matches!(envelope.kind, Kind::Response(_)) { &Value::Null } else { &whole["params"] };
    if params["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some() {
        prop_assert!(!matches!(class, Ok("initialize" | "session")));
        prop_assert_eq!(
            class_of(Headers { session: None, ..headers }, &envelope),
            class.clone(),
            "sessions play no part"
        );
    } else {
        prop_assert!(class != Ok("modern"));
        let readable = params.get("_meta").is_none_or(Value::is_object);
        if whole["method"] == "initialize" && matches!(envelope.kind, Kind::Request(_)) && readable {
            let twice = class.as_ref().is_err_and(|refused| refused.error.code == -32602);
            prop_assert!(class == Ok("initialize") || twice, "headers play no part");
        }
    }
    if let Err(refused) = class {
        prop_assert!(REFUSALS.contains(&(refused.status, refused.error.code)), "{:?}", refused);
        let id = match &envelope.kind {
            Kind::Request(request) => Some(&request.id),
            Kind::Response(response) => response.id.as_ref(),
            Kind::Notification(_) => None,
        };
        let answer = refused.error.message(id);
        let answer: Value = serde_json::from_str(&answer).map_err(|e| TestCaseError::fail(format!("{e}: {answer}")))?;
        prop_assert_eq!(&answer["jsonrpc"], "2.0");
        prop_assert_eq!(answer.get("id"), whole.get("id").filter(|_| id.is_some()));
        prop_assert_eq!(&answer["error"]["code"], refused.error.code);
    }
    let _ = classify_bodiless(headers);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_message_is_classified_or_refused_in_one_of_five_ways(
        members in prop::collection::vec(member(), 1..4),
        version in header(), session in prop::option::of("[ -~]{0,8}"), method in header(), name in header(),
    ) {
        let text = format!(r#"{{"jsonrpc":"2.0",{}}}"#, members.join(","));
        let headers = Headers {
            version: version.as_deref(), session: session.as_deref(), method: method.as_deref(), name: name.as_deref(),
        };
        check_any(headers, &text)?;
    }

    #[test]
    fn so_is_any_damaged_message(at in 0usize..200, with: u8, version in header(), session: bool) {
        let mut bytes = CALL.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        let session = session.then_some("s");
        let headers = Headers { version: version.as_deref(), session, method: Some("tools/call"), name: Some("t") };
        if let Ok(text) = std::str::from_utf8(&bytes) {
            check_any(headers, text)?;
        }
    }
}
