//! The places in results, list items and errors where a resource URI stands (BRIDGE.md rule 10).

use super::contents::blocks;
use crate::json;
use crate::splice::Splice;
use memchr::memmem;

/// Says what becomes of a URI; nothing when it stays.
type Map<'m> = &'m dyn Fn(&str) -> Option<String>;

/// A result with its URIs mapped; nothing when all stay. Items of lists are the business of [`map_item_uris`].
#[must_use]
pub fn map_uris(method: &str, result: &str, map: Map<'_>) -> Option<String> {
    changed(result, |splice| edit_uris(splice, method, result, map))
}

/// The same as edits of `result`, a slice of the spliced text.
pub fn edit_uris(splice: &mut Splice<'_>, method: &str, result: &str, map: Map<'_>) {
    if !mentions_a_uri(result) {
        return;
    }
    replace(splice, json::at(result, &["_meta", "ui", "resourceUri"]), map);
    if method == "resources/read" {
        let contents = json::get(result, "contents").unwrap_or_default();
        json::elements(contents).for_each(|content| replace(splice, json::get(content, "uri"), map));
        return;
    }
    for block in blocks(method, result) {
        match json::get(block, "type").and_then(json::string).as_deref() {
            Some("resource_link") => replace(splice, json::get(block, "uri"), map),
            Some("resource") => replace(splice, json::at(block, &["resource", "uri"]), map),
            _ => {}
        }
    }
}

/// One item of a list with its URIs mapped; nothing when all stay. `method` is the list's: a resource has `uri`, a
/// template `uriTemplate`, a tool the place of its user interface.
#[must_use]
pub fn map_item_uris(method: &str, item: &str, map: Map<'_>) -> Option<String> {
    changed(item, |splice| match method {
        "resources/list" => replace(splice, json::get(item, "uri"), map),
        "resources/templates/list" => replace(splice, json::get(item, "uriTemplate"), map),
        "tools/list" if mentions_a_uri(item) => {
            let Some(meta) = json::get(item, "_meta") else { return };
            replace(splice, json::at(meta, &["ui", "resourceUri"]), map);
            replace(splice, json::get(meta, "ui/resourceUri"), map);
        }
        _ => {}
    })
}

/// An error with the URI in its `data` mapped; nothing when it stays.
#[must_use]
pub fn map_error_uri(error: &str, map: Map<'_>) -> Option<String> {
    changed(error, |splice| replace(splice, json::at(error, &["data", "uri"]), map))
}

fn mentions_a_uri(text: &str) -> bool {
    memmem::find(text.as_bytes(), b"uri\"").is_some() || memmem::find(text.as_bytes(), b"esourceUri\"").is_some()
}

fn replace(splice: &mut Splice<'_>, raw: Option<&str>, map: Map<'_>) {
    let mapped = raw.and_then(|raw| Some((raw, map(&json::string(raw)?)?)));
    if let Some((raw, uri)) = mapped {
        splice.replace(raw, json::quote(&uri));
    }
}

fn changed(text: &str, edit: impl FnOnce(&mut Splice<'_>)) -> Option<String> {
    let mut splice = Splice::new(text);
    edit(&mut splice);
    (!splice.is_empty()).then(|| splice.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn qualify(uri: &str) -> Option<String> {
        (!uri.starts_with("keep")).then(|| format!("main+{uri}"))
    }

    fn mapped(method: &str, result: &Value) -> Value {
        map_uris(method, &result.to_string(), &qualify).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn places_in_results() {
        let content = |prefix: &str| {
            let uri = |uri: &str| format!("{prefix}{uri}");
            json!([
                {"type": "resource_link", "uri": uri("a:1"), "name": "uri"},
                {"type": "resource", "resource": {"uri": uri("a:\"2\""), "text": "\"uri\": \"a:1\""}},
                {"type": "text", "text": "a:1", "uri": "a:1"},
            ])
        };
        let call = |prefix: &str| {
            json!({
                "content": content(prefix), "structuredContent": {"uri": "a:1"}, "_meta": {"ui": {"resourceUri": format!("{prefix}ui:3")}},
            })
        };
        assert_eq!(mapped("tools/call", &call("")), call("main+"));
        let get = |prefix: &str| json!({"messages": [{"role": "user", "content": content(prefix)[0]}]});
        assert_eq!(mapped("prompts/get", &get("")), get("main+"));
        let read = |prefix: &str| json!({"contents": [{"uri": format!("{prefix}a:1"), "text": ""}, {"uri": "keep:1", "blob": ""}]});
        assert_eq!(mapped("resources/read", &read("")), read("main+"));
    }

    #[test]
    fn nothing_to_do_is_said() {
        for (method, result) in [
            ("tools/call", json!({"content": [{"type": "text", "text": "x"}]})),
            ("tools/call", json!({"content": [{"type": "resource_link", "uri": "keep:1"}]})),
            ("resources/read", json!({"contents": [{"uri": 7}]})),
            ("resources/read", json!({"contents": {}})),
            ("x/y", json!({"contents": [{"uri": "a:1"}]})),
        ] {
            assert_eq!(mapped(method, &result), Value::Null, "{method} {result}");
        }
    }

    #[test]
    fn places_in_items_and_errors() {
        let item = |method: &str, item: Value| -> Value {
            serde_json::from_str(&map_item_uris(method, &item.to_string(), &qualify).unwrap()).unwrap()
        };
        assert_eq!(item("resources/list", json!({"uri": "a:1", "name": "n"})), json!({"uri": "main+a:1", "name": "n"}));
        assert_eq!(
            item("resources/templates/list", json!({"uriTemplate": "a:{x}"})),
            json!({"uriTemplate": "main+a:{x}"})
        );
        assert_eq!(
            item(
                "tools/list",
                json!({"name": "t", "_meta": {"ui": {"resourceUri": "ui://x"}, "ui/resourceUri": "ui://x"}})
            ),
            json!({"name": "t", "_meta": {"ui": {"resourceUri": "main+ui://x"}, "ui/resourceUri": "main+ui://x"}})
        );
        assert_eq!(map_item_uris("tools/list", r#"{"uri":"a:1"}"#, &qualify), None);
        let error = map_error_uri(r#"{"code":-32002,"message":"","data":{"uri":"a:1"}}"#, &qualify).unwrap();
        assert_eq!(error, r#"{"code":-32002,"message":"","data":{"uri":"main+a:1"}}"#);
    }
}
