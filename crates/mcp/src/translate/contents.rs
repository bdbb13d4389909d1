//! Content that an older revision cannot know, said in one that it does (BRIDGE.md rule 14).
//!
//! Members that a revision does not know are left where they are: every revision's readers ignore them. Only what its
//! schema cannot parse is taken down.

use super::edit;
use crate::json;
use crate::splice::Splice;
use crate::version::{Era, Version};
use memchr::memmem;

/// A result for a client of a legacy revision; nothing when it can stay as it is. URIs must have been mapped before: a
/// link may become text.
#[must_use]
pub fn contents_to_version(method: &str, result: &str, version: Version) -> Option<String> {
    let suspects: &[&[u8]] = match version {
        Version::V2024_11_05 => &[b"\"structuredContent\"", b"\"resource_link\"", b"\"audio\""],
        Version::V2025_03_26 => &[b"\"structuredContent\"", b"\"resource_link\""],
        Version::V2025_06_18 | Version::V2025_11_25 => &[b"\"structuredContent\""],
        Version::V2026_07_28 => &[],
    };
    if !suspects.iter().any(|suspect| memmem::find(result.as_bytes(), suspect).is_some()) {
        return None;
    }
    let mut splice = Splice::new(result);
    for block in blocks(method, result) {
        if let Some(simpler) = simpler(block, version) {
            splice.replace(block, simpler);
        }
    }
    if is_call(method) {
        structured(&mut splice, result, version);
    }
    (!splice.is_empty()).then(|| splice.finish())
}

/// Methods whose result is that of a tool.
fn is_call(method: &str) -> bool {
    matches!(method, "tools/call" | "tasks/result")
}

/// The content blocks of a result.
pub(super) fn blocks<'a>(method: &str, result: &'a str) -> Vec<&'a str> {
    let member = |name| json::get(result, name).unwrap_or_default();
    match method {
        _ if is_call(method) => json::elements(member("content")).collect(),
        "prompts/get" => {
            json::elements(member("messages")).filter_map(|message| json::get(message, "content")).collect()
        }
        _ => Vec::new(),
    }
}

/// A text block in the place of one that the revision has not.
fn simpler(block: &str, version: Version) -> Option<String> {
    let text = match json::get(block, "type").and_then(json::string)?.as_ref() {
        "audio" if version < Version::V2025_03_26 => audio_note(block, version),
        "resource_link" if version < Version::V2025_06_18 => link_note(block),
        _ => return None,
    };
    let annotations = json::get(block, "annotations").map(|annotations| ("annotations", annotations.into()));
    Some(text_block(&text, annotations))
}

fn text_block(text: &str, more: Option<edit::Set<'_>>) -> String {
    let mut members = vec![("type", "\"text\"".into()), ("text", json::quote(text).into())];
    members.extend(more);
    edit::object(&members)
}

fn field(block: &str, name: &str) -> Option<String> {
    json::get(block, name).and_then(json::string).filter(|text| !text.is_empty()).map(|text| text.into_owned())
}

fn audio_note(block: &str, version: Version) -> String {
    let kind = field(block, "mimeType").unwrap_or_else(|| "unknown type".to_owned());
    let bytes = json::get(block, "data").map_or(0, |data| data.len().saturating_sub(2) / 4 * 3);
    format!("[audio, {kind}, about {bytes} bytes: cannot be sent in protocol version {version}]")
}

fn link_note(block: &str) -> String {
    let mut text = field(block, "uri").unwrap_or_default();
    if let Some(name) = field(block, "title").or_else(|| field(block, "name")) {
        text = format!("{name}: {text}");
    }
    if let Some(kind) = field(block, "mimeType") {
        text = format!("{text} ({kind})");
    }
    match field(block, "description") {
        Some(description) => format!("{text}\n{description}"),
        None => text,
    }
}

/// `structuredContent` came with 2025-06-18 and had to be an object until 2026-07-28; where it goes, its JSON must be
/// readable as text.
fn structured(splice: &mut Splice<'_>, result: &str, version: Version) {
    let Some(value) = json::get(result, "structuredContent") else { return };
    if version.era() == Era::Modern || (version >= Version::V2025_06_18 && json::is_object(value)) {
        return;
    }
    let content = json::get(result, "content").filter(|content| content.starts_with('['));
    let is_text = |block: &str| json::get(block, "type").and_then(json::string).as_deref() == Some("text");
    let block = || text_block(value, None);
    let mut set = Vec::new();
    match content {
        Some(content) if json::elements(content).any(is_text) => {}
        Some(content) => {
            let comma = if json::elements(content).next().is_some() { "," } else { "" };
            splice.replace(&content[1..1], block() + comma);
        }
        None => set.push(("content", format!("[{}]", block()).into())),
    }
    edit::members(splice, result, &["structuredContent"], &set);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ALL: [Version; 5] = Version::ALL;

    fn down(method: &str, result: &Value, version: Version) -> Option<Value> {
        contents_to_version(method, &result.to_string(), version).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn audio_needs_2025_03_26() {
        let result = json!({"content": [
            {"type": "text", "text": "a"},
            {"type": "audio", "data": "AAAAAAAA", "mimeType": "audio/wav", "annotations": {"priority": 1}},
        ]});
        let note = "[audio, audio/wav, about 6 bytes: cannot be sent in protocol version 2024-11-05]";
        let expected = json!({"content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": note, "annotations": {"priority": 1}},
        ]});
        assert_eq!(down("tools/call", &result, ALL[0]), Some(expected));
        for version in &ALL[1..] {
            assert_eq!(down("tools/call", &result, *version), None);
        }
    }

    #[test]
    fn links_need_2025_06_18() {
        let link = json!({"type": "resource_link", "uri": "main+file:///a", "name": "a", "title": "A", "mimeType": "text/plain",
            "description": "first"});
        let result = json!({"description": "d", "messages": [{"role": "user", "content": link}]});
        let text = "A: main+file:///a (text/plain)\nfirst";
        let expected =
            json!({"description": "d", "messages": [{"role": "user", "content": {"type": "text", "text": text}}]});
        for version in &ALL[..2] {
            assert_eq!(down("prompts/get", &result, *version), Some(expected.clone()));
        }
        for version in &ALL[2..] {
            assert_eq!(down("prompts/get", &result, *version), None);
        }
    }

    #[test]
    fn structured_content_becomes_text() {
        let cases = [
            (
                json!({"content": [], "structuredContent": {"a": 1}}),
                json!({"content": [{"type": "text", "text": r#"{"a":1}"#}]}),
            ),
            (
                json!({"structuredContent": {"a": 1}, "content": [{"type": "text", "text": "said"}], "isError": false}),
                json!({"content": [{"type": "text", "text": "said"}], "isError": false}),
            ),
            (
                json!({"content": [{"type": "image", "data": "", "mimeType": ""}], "structuredContent": {}}),
                json!({"content": [{"type": "text", "text": "{}"}, {"type": "image", "data": "", "mimeType": ""}]}),
            ),
            (json!({"structuredContent": {"a": 1}}), json!({"content": [{"type": "text", "text": r#"{"a":1}"#}]})),
        ];
        for (before, after) in cases {
            for version in &ALL[..2] {
                assert_eq!(down("tools/call", &before, *version), Some(after.clone()), "{before}");
            }
            for version in &ALL[2..] {
                assert_eq!(down("tools/call", &before, *version), None);
            }
        }
    }

    #[test]
    fn only_2026_07_28_has_structured_content_that_is_no_object() {
        for value in [json!([1]), json!("x"), json!(null)] {
            let before =
                json!({"content": [{"type": "audio", "data": "", "mimeType": "a/b"}], "structuredContent": value});
            let after = down("tools/call", &before, ALL[3]).unwrap();
            assert_eq!(after["content"][0], json!({"type": "text", "text": value.to_string()}));
            assert_eq!((after["content"].as_array().map(Vec::len), after.get("structuredContent")), (Some(2), None));
            assert_eq!(down("tools/call", &before, ALL[4]), None);
            let oldest = down("tools/call", &before, ALL[0]).unwrap();
            assert!(oldest["content"][1]["text"].as_str().unwrap().starts_with("[audio, a/b"));
        }
    }

    #[test]
    fn words_in_texts_change_nothing() {
        let result = json!({
            "content": [{"type": "text", "text": "audio"}, {"type": "text", "text": "resource_link"}],
            "structuredContent": {"type": "audio", "kind": "structuredContent"},
        });
        let texts = json!({"content": result["content"]});
        for version in ALL {
            assert_eq!(down("tools/call", &texts, version), None);
            assert_eq!(down("tools/call", &result, version).is_some(), version < Version::V2025_06_18);
            assert_eq!(down("x/y", &json!({"content": [{"type": "audio"}]}), version), None);
        }
    }
}
