//! Requests: what `_meta` must say in the era of the upstream, and the progress token that the gateway puts there.

use super::edit::{self, Set};
use crate::json;
use crate::meta::{CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, VERSION};
use crate::splice::Splice;
use crate::version::Version;
use std::borrow::Cow;

/// The key of the progress token in `_meta`, in both eras.
const PROGRESS_TOKEN: &str = "progressToken";

/// What a modern request says about the client that made it.
#[derive(Debug, Clone, Copy)]
pub struct ClientMeta<'a> {
    /// Its name and version: a JSON object.
    pub info: Option<&'a str>,
    /// Its capabilities: a JSON object, already translated.
    pub capabilities: &'a str,
    /// The log level that it wants: the plain name, no JSON.
    pub log_level: Option<&'a str>,
}

/// Makes a request modern: the keys of 2026-07-28 in `_meta` (basic, `_meta`) say what `client` says and nothing else,
/// and `progress_token` (JSON text) takes the place of the client's; without one the client's stays.
pub fn edit_request_to_modern(
    splice: &mut Splice<'_>,
    message: &str,
    params: Option<&str>,
    client: &ClientMeta<'_>,
    progress_token: Option<&str>,
) {
    let mut set: Vec<Set<'_>> = vec![(VERSION, json::quote(Version::MODERN.as_str()).into())];
    let mut drop = Vec::new();
    match client.info {
        Some(info) => set.push((CLIENT_INFO, info.into())),
        None => drop.push(CLIENT_INFO),
    }
    set.push((CLIENT_CAPABILITIES, client.capabilities.into()));
    match client.log_level {
        Some(level) => set.push((LOG_LEVEL, json::quote(level).into())),
        None => drop.push(LOG_LEVEL),
    }
    set.extend(token(progress_token));
    edit_params(splice, message, params, &[], &drop, &set);
}

/// Makes a request legacy: takes off what 2026-07-28 added to params; `progress_token` as with
/// [`edit_request_to_modern`].
pub fn edit_request_to_legacy(
    splice: &mut Splice<'_>,
    message: &str,
    params: Option<&str>,
    progress_token: Option<&str>,
) {
    let drop_meta = [VERSION, CLIENT_INFO, CLIENT_CAPABILITIES, LOG_LEVEL];
    let set: Vec<_> = token(progress_token).into_iter().collect();
    edit_params(splice, message, params, &["inputResponses", "requestState"], &drop_meta, &set);
}

/// Puts `token` (JSON text) into a request that stays in its era; without one nothing changes.
pub fn edit_progress_token(splice: &mut Splice<'_>, message: &str, params: Option<&str>, token: Option<&str>) {
    if let Some(set) = self::token(token) {
        edit_params(splice, message, params, &[], &[], &[set]);
    }
}

fn token(text: Option<&str>) -> Option<Set<'_>> {
    text.map(|text| (PROGRESS_TOKEN, Cow::Borrowed(text)))
}

fn edit_params(
    splice: &mut Splice<'_>,
    message: &str,
    params: Option<&str>,
    drop: &[&str],
    drop_meta: &[&str],
    set: &[Set<'_>],
) {
    match params {
        Some(params) => edit::with_meta(splice, params, drop, drop_meta, set, Vec::new()),
        None if set.is_empty() => {}
        None => {
            let params = edit::object(&[("_meta", edit::object(set).into())]);
            edit::members(splice, message, &[], &[("params", params.into())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    const CLIENT: ClientMeta<'static> =
        ClientMeta { info: Some(r#"{"name":"c","version":"1"}"#), capabilities: r#"{"roots":{}}"#, log_level: None };

    fn edited(text: &str, edit: impl FnOnce(&mut Splice<'_>, &str, Option<&str>)) -> Value {
        let mut splice = Splice::new(text);
        edit(&mut splice, text, json::get(text, "params"));
        let out = splice.finish();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    fn to_modern(text: &str, client: &ClientMeta<'_>, token: Option<&str>) -> Value {
        edited(text, |splice, message, params| edit_request_to_modern(splice, message, params, client, token))
    }

    fn to_legacy(text: &str, token: Option<&str>) -> Value {
        edited(text, |splice, message, params| edit_request_to_legacy(splice, message, params, token))
    }

    #[test]
    fn metadata_is_made_wherever_it_is_missing() {
        let meta = json!({
            VERSION: "2026-07-28", CLIENT_INFO: {"name": "c", "version": "1"}, CLIENT_CAPABILITIES: {"roots": {}},
        });
        for before in [
            r#"{"id":1}"#,
            r#"{"id":1,"params":{}}"#,
            r#"{"id":1,"params":{ "_meta" : {} }}"#,
            r#"{"id":1,"params":{"_meta":null}}"#,
        ] {
            assert_eq!(to_modern(before, &CLIENT, None), json!({"id": 1, "params": {"_meta": meta}}), "{before}");
        }
    }

    #[test]
    fn the_client_cannot_speak_for_the_gateway() {
        let before = json!({"id": 1, "params": {"name": "x", "_meta": {
            "a": 1, VERSION: "1999-01-01", CLIENT_INFO: 1, LOG_LEVEL: "debug", CLIENT_CAPABILITIES: {"x": {}}, "progressToken": 4,
        }}});
        let client = ClientMeta { info: None, ..CLIENT };
        let after = to_modern(&before.to_string(), &client, Some("\"p-1\""));
        let meta = json!({"a": 1, VERSION: "2026-07-28", CLIENT_CAPABILITIES: {"roots": {}}, "progressToken": "p-1"});
        assert_eq!(after, json!({"id": 1, "params": {"name": "x", "_meta": meta}}));
        let client = ClientMeta { log_level: Some("warning"), ..client };
        assert_eq!(to_modern(&before.to_string(), &client, None)["params"]["_meta"][LOG_LEVEL], "warning");
    }

    #[test]
    fn to_legacy_leaves_no_trace() {
        let before = json!({"id": 1, "params": {"inputResponses": {}, "_meta": {VERSION: "2026-07-28", CLIENT_CAPABILITIES: {}},
            "name": "x", "requestState": "s"}});
        assert_eq!(to_legacy(&before.to_string(), None), json!({"id": 1, "params": {"name": "x"}}));
        assert_eq!(
            to_legacy(&before.to_string(), Some("7")),
            json!({"id": 1, "params": {"name": "x", "_meta": {"progressToken": 7}}})
        );
        let only = json!({"params": {"_meta": {VERSION: "2026-07-28"}, "requestState": "s"}});
        assert_eq!(to_legacy(&only.to_string(), None), json!({"params": {}}));
        let theirs = json!({"params": {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t"}}}});
        assert_eq!(to_legacy(&theirs.to_string(), None), theirs);
        assert_eq!(to_legacy(r#"{"id":1}"#, None), json!({"id": 1}));
    }

    #[test]
    fn the_token_alone() {
        let set = |text: &str, token| edited(text, |s, m, p| edit_progress_token(s, m, p, token));
        assert_eq!(set(r#"{"id":1}"#, Some("3")), json!({"id": 1, "params": {"_meta": {"progressToken": 3}}}));
        let given = r#"{"params":{"_meta":{"progressToken":"a","b":1}}}"#;
        assert_eq!(set(given, Some("3")), json!({"params": {"_meta": {"progressToken": 3, "b": 1}}}));
        assert_eq!(set(given, None), serde_json::from_str::<Value>(given).unwrap());
    }

    #[test]
    fn names_and_ids_change_in_the_same_pass() {
        let text = r#"{"id":1,"params":{"name":"a__x","_meta":{}},"method":"tools/call"}"#;
        let after = edited(text, |splice, message, params| {
            let name = json::get(params.unwrap(), "name").unwrap();
            splice.replace(json::get(message, "id").unwrap(), "9".to_owned()).replace(name, "\"x\"".to_owned());
            edit_request_to_modern(splice, message, params, &CLIENT, Some("9"));
        });
        assert_eq!((&after["id"], &after["params"]["name"]), (&json!(9), &json!("x")));
        assert_eq!(after["params"]["_meta"]["progressToken"], 9);
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(
            params in prop::option::of((prop::collection::btree_map("[a-d]", any::<u8>(), 0..3),
                prop::option::of(prop::collection::btree_map("[a-d]", any::<u8>(), 0..3)))),
            info: bool, level: bool, pretty: bool,
        ) {
            let mut message = Map::from_iter([("id".to_owned(), json!(1))]);
            if let Some((params, meta)) = &params {
                let mut params = json!(params);
                if let Some(meta) = meta { params["_meta"] = json!(meta); }
                message.insert("params".to_owned(), params);
            }
            let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
            let client = ClientMeta {
                info: CLIENT.info.filter(|_| info), log_level: Some("error").filter(|_| level), ..CLIENT
            };
            let modern = to_modern(&text.unwrap(), &client, None);
            prop_assert_eq!(modern["params"]["_meta"].get(CLIENT_INFO).is_some(), info);
            prop_assert_eq!(modern["params"]["_meta"].get(LOG_LEVEL).is_some(), level);
            let legacy = to_legacy(&modern.to_string(), None);
            // An empty or absent `_meta` and params mean the same as each other.
            let mut expected = Value::Object(message);
            if expected["params"].is_null() { expected["params"] = json!({}); }
            if expected["params"]["_meta"].as_object().is_none_or(Map::is_empty) {
                expected["params"].as_object_mut().unwrap().remove("_meta");
            }
            prop_assert_eq!(legacy, expected);
        }
    }
}
