//! Tools that answer at once: content of every type, echo, sizes, schemas, errors.

use rmcp::model::{CallToolResult, ContentBlock, Resource, ResourceContents, Tool};
use serde_json::{Value, json};

use super::super::ask::undeclared;
use super::super::call::{Call, ToolResult, blocks, failure, text};
use super::super::content::{PNG, WAV};
use super::{bare, raw, schema};

/// The largest answer of `big`.
const BIG_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) fn list() -> Vec<Tool> {
    let string = json!({ "type": "string" });
    let number = json!({ "type": "number" });
    vec![
        // First in the list: the conformance suite calls the first tool without arguments.
        bare("test_simple_text", "answers with a text"),
        // The same text back, up to 16 MiB.
        Tool::new("echo", "answers with the text", schema(json!({ "text": string }), &["text"])),
        // A text of that many bytes.
        Tool::new(
            "big",
            "answers with that many bytes of text",
            schema(json!({ "bytes": { "type": "integer", "minimum": 0 } }), &["bytes"]),
        ),
        // How much of a text arrived, for texts whose echo would be larger than a message.
        Tool::new("length", "answers with the text's length in bytes", schema(json!({ "text": string }), &["text"])),
        // Text and structured content with an output schema.
        Tool::new("add", "adds two numbers", schema(json!({ "a": number, "b": number }), &["a", "b"]))
            .with_raw_output_schema(schema(json!({ "sum": number }), &["sum"])),
        // Every content type in one answer.
        bare("all_content", "answers with every type of content"),
        // Arguments that HTTP clients mirror into `Mcp-Param-*` headers.
        Tool::new("header_echo", "answers with the region and the text", header_schema()),
        bare("test_image_content", "answers with an image"),
        bare("test_audio_content", "answers with audio"),
        bare("test_embedded_resource", "answers with an embedded resource"),
        bare("test_multiple_content_types", "answers with text, image and resource"),
        bare("test_error_handling", "always fails"),
        bare("test_missing_capability", "needs a client that declares sampling"),
        Tool::new(
            "json_schema_2020_12_tool",
            "has an input schema with the keywords of JSON Schema 2020-12",
            raw(full_schema()),
        ),
        Tool::new("greet", "greets by name", schema(json!({ "name": string }), &["name"])),
    ]
}

fn header_schema() -> std::sync::Arc<rmcp::model::JsonObject> {
    let region = json!({ "type": "string", "x-mcp-header": "Region" });
    schema(json!({ "region": region, "text": { "type": "string" } }), &["region"])
}

fn full_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } }
            }
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" }
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": {
            "properties": { "contactMethod": { "const": "phone" } },
            "required": ["contactMethod"]
        },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false
    })
}

pub(super) fn call(call: &Call) -> Option<ToolResult> {
    Some(match call.name.as_str() {
        "echo" => call.text("text").and_then(text),
        "big" => big(call),
        "length" => call.text("text").and_then(|all| text(all.len().to_string())),
        "add" => add(call),
        "all_content" => all_content(),
        "header_echo" => call.text("region").and_then(|region| text(format!("{region}: {}", call.text_or("text", "")))),
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => blocks(vec![ContentBlock::image(PNG, "image/png")]),
        "test_audio_content" => blocks(vec![ContentBlock::audio(WAV, "audio/wav")]),
        "test_embedded_resource" => blocks(vec![embedded()]),
        "test_multiple_content_types" => blocks(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PNG, "image/png"),
            ContentBlock::resource(
                ResourceContents::text(json!({ "test": "data" }).to_string(), "test://mixed-content-resource")
                    .with_mime_type("application/json"),
            ),
        ]),
        "test_error_handling" => failure("This tool intentionally returns an error for testing"),
        "test_missing_capability" => needs_sampling(call),
        "json_schema_2020_12_tool" => text(Value::Object(call.args.clone()).to_string()),
        "greet" => call.text("name").and_then(|name| text(format!("Hello, {name}!"))),
        _ => return None,
    })
}

fn embedded() -> ContentBlock {
    ContentBlock::resource(ResourceContents::text("This is an embedded resource content.", "test://embedded-resource"))
}

fn big(call: &Call) -> ToolResult {
    let bytes = call.count_or("bytes", 0)?;
    if bytes > BIG_BYTES_MAX {
        return failure(format!("at most {BIG_BYTES_MAX} bytes"));
    }
    text("x".repeat(usize::try_from(bytes).unwrap_or_default()))
}

fn add(call: &Call) -> ToolResult {
    let sum = call.number("a")? + call.number("b")?;
    // Whole sums are written without a fraction, as clients in other languages do.
    let sum = if sum.fract() == 0.0 && sum.abs() < 9e15 { json!(sum as i64) } else { json!(sum) };
    Ok(CallToolResult::structured(json!({ "sum": sum })).into())
}

fn all_content() -> ToolResult {
    let link = Resource::new("test://static-text", "static-text").with_mime_type("text/plain");
    let mut result = CallToolResult::success(vec![
        ContentBlock::text("text"),
        ContentBlock::image(PNG, "image/png"),
        ContentBlock::audio(WAV, "audio/wav"),
        embedded(),
        ContentBlock::resource_link(link),
    ]);
    result.structured_content = Some(json!({ "kind": "structured" }));
    Ok(result.into())
}

fn needs_sampling(call: &Call) -> ToolResult {
    if call.capabilities().sampling.is_some() {
        text("sampling is declared")
    } else {
        Err(undeclared(call, "sampling"))
    }
}
