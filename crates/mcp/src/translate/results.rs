//! Results: what 2026-07-28 says of every result and older revisions do not know, and tool schemas.

use super::edit::{self, Set};
use crate::json;
use crate::meta::{SERVER_INFO, SUBSCRIPTION_ID};
use crate::method::Method;
use crate::splice::Splice;

/// Takes off a modern result what legacy revisions do not know: `resultType`, cache hints, the server's metadata.
pub fn result_to_legacy(splice: &mut Splice<'_>, result: &str) {
    if json::is_object(result) {
        let drop = ["resultType", "ttlMs", "cacheScope"];
        edit::with_meta(splice, result, &drop, &[SERVER_INFO, SUBSCRIPTION_ID], &[], Vec::new());
    }
}

/// Adds to a legacy result what 2026-07-28 requires: `resultType`, `server_info` (a JSON object), and where the schema
/// says `CacheableResult` the most careful hints.
pub fn result_to_modern(splice: &mut Splice<'_>, method: &str, result: &str, server_info: &str) {
    if !json::is_object(result) {
        return;
    }
    let mut set: Vec<Set<'_>> = Vec::new();
    let mut absent = |name, value: &'static str| {
        if json::get(result, name).is_none() {
            set.push((name, value.into()));
        }
    };
    absent("resultType", "\"complete\"");
    let kind = json::get(result, "resultType").and_then(json::string);
    if is_cacheable(method) && kind.is_none_or(|kind| kind == "complete") {
        absent("ttlMs", "0");
        absent("cacheScope", "\"private\"");
    }
    edit::with_meta(splice, result, &[], &[], &[(SERVER_INFO, server_info.into())], set);
}

/// The six methods whose complete results carry cache hints (2026-07-28 server/utilities/caching).
fn is_cacheable(method: &str) -> bool {
    matches!(
        Method::parse(method),
        Some(
            Method::Discover
                | Method::ToolsList
                | Method::PromptsList
                | Method::ResourcesList
                | Method::TemplatesList
                | Method::ResourcesRead
        )
    )
}

/// A tool without its `outputSchema`, when that is one which revisions before 2026-07-28 cannot read: they require
/// `"type": "object"` at its root. Nothing when the tool can stay as it is.
#[must_use]
pub fn schema_to_legacy(tool: &str) -> Option<String> {
    let schema = json::get(tool, "outputSchema")?;
    if json::get(schema, "type").and_then(json::string).as_deref() == Some("object") {
        return None;
    }
    Some(Splice::new(tool).remove(tool, &["outputSchema"]).finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    const SERVER: &str = r#"{"name":"enfilade","version":"1"}"#;

    fn modern(method: &str, result: &Value) -> Value {
        let text = result.to_string();
        let mut splice = Splice::new(&text);
        result_to_modern(&mut splice, method, &text, SERVER);
        serde_json::from_str(&splice.finish()).unwrap()
    }

    fn legacy(result: &Value) -> Value {
        let text = result.to_string();
        let mut splice = Splice::new(&text);
        result_to_legacy(&mut splice, &text);
        serde_json::from_str(&splice.finish()).unwrap()
    }

    #[test]
    fn hints_on_the_six_cacheable_methods_only() {
        let six = [
            "server/discover",
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
            "resources/read",
        ];
        for method in six {
            let after = modern(method, &json!({}));
            assert_eq!((&after["ttlMs"], &after["cacheScope"]), (&json!(0), &json!("private")), "{method}");
        }
        for method in ["tools/call", "prompts/get", "completion/complete", "x/y"] {
            let after = modern(method, &json!({"a": 1}));
            let server: Value = serde_json::from_str(SERVER).unwrap();
            assert_eq!(after, json!({"a": 1, "resultType": "complete", "_meta": {SERVER_INFO: server}}), "{method}");
        }
    }

    #[test]
    fn what_is_there_stays() {
        let given =
            json!({"ttlMs": 9, "cacheScope": "public", "resultType": "complete", "_meta": {"k": 1, SERVER_INFO: {}}});
        let after = modern("tools/list", &given);
        assert_eq!(
            (&after["ttlMs"], &after["cacheScope"], &after["_meta"]["k"]),
            (&json!(9), &json!("public"), &json!(1))
        );
        assert_eq!(
            after["_meta"][SERVER_INFO]["name"], "enfilade",
            "but for the server's name, which is the gateway's"
        );
        let waiting = modern("resources/read", &json!({"resultType": "input_required", "requestState": "s"}));
        assert_eq!((waiting.get("ttlMs"), &waiting["resultType"]), (None, &json!("input_required")));
    }

    #[test]
    fn to_legacy() {
        let given = json!({"resultType": "complete", "tools": [], "ttlMs": 1, "_meta": {SERVER_INFO: {}}, "cacheScope": "public"});
        assert_eq!(legacy(&given), json!({"tools": []}));
        assert_eq!(
            legacy(&json!({"resultType": "complete", "_meta": {"k": 1, SERVER_INFO: {}}})),
            json!({"_meta": {"k": 1}})
        );
        assert_eq!(legacy(&json!({"resultType": "complete"})), json!({}));
    }

    #[test]
    fn results_that_are_no_objects_are_left_alone() {
        for result in [json!(null), json!([]), json!(1)] {
            assert_eq!((modern("tools/list", &result), legacy(&result)), (result.clone(), result));
        }
    }

    #[test]
    fn only_object_schemas_are_legacy() {
        let tool =
            |schema: Value| json!({"name": "t", "outputSchema": schema, "inputSchema": {"type": "object"}}).to_string();
        assert_eq!(schema_to_legacy(&tool(json!({"type": "object", "properties": {}}))), None);
        assert_eq!(schema_to_legacy(r#"{"name":"t"}"#), None);
        for schema in [json!({"type": "array"}), json!({"anyOf": []}), json!({"type": ["object", "null"]}), json!(true)]
        {
            let after: Value = serde_json::from_str(&schema_to_legacy(&tool(schema)).unwrap()).unwrap();
            assert_eq!(after, json!({"name": "t", "inputSchema": {"type": "object"}}));
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(
            result in prop::collection::btree_map("[a-d]", any::<u8>(), 0..3),
            meta in prop::option::of(prop::collection::btree_map("[a-d]", any::<u8>(), 1..3)),
        ) {
            let mut result = json!(result);
            if let Some(meta) = meta { result["_meta"] = json!(meta); }
            let there = modern("resources/read", &result);
            prop_assert_eq!(there.as_object().map(Map::len), result.as_object().map(|r| r.len() + 3 + usize::from(!r.contains_key("_meta"))));
            prop_assert_eq!(legacy(&there), result);
        }
    }
}
