//! Tools by which tests see what reached this server and make it change.

use rmcp::model::Tool;
use serde_json::{Map, Value, json};

use super::super::call::{Call, ToolResult, failure, text};
use super::super::hub::Change;
use super::{bare, schema};

pub(super) fn list() -> Vec<Tool> {
    let string = json!({ "type": "string" });
    let whats = json!({ "type": "string", "enum": ["tools", "prompts", "resources", "resource", "log"] });
    vec![
        // Adds one to the counter of that key and answers with its new value.
        Tool::new("count", "counts by key", schema(json!({ "key": string }), &["key"])),
        // All counters as JSON text: calls by tool, counters by key, cancelled calls.
        bare("counts", "answers with all counters"),
        // The client's identity, protocol version, session id and HTTP headers as JSON text.
        bare("whoami", "answers with what it knows about the client"),
        // Sends a change notice to all listeners and answers with the number of those who took it.
        Tool::new(
            "emit",
            "sends a change notice to all listeners",
            schema(json!({ "what": whats, "uri": string }), &["what"]),
        ),
        // Changes the list of tools and announces it.
        Tool::new("add_tool", "adds a tool of that name", schema(json!({ "name": string }), &["name"])),
        Tool::new("remove_tool", "removes an added tool", schema(json!({ "name": string }), &["name"])),
        bare("test_trigger_tool_change", "announces a change of the tools"),
        bare("test_trigger_prompt_change", "announces a change of the prompts"),
    ]
}

pub(super) async fn call(call: &Call) -> Option<ToolResult> {
    Some(match call.name.as_str() {
        "count" => call.text("key").and_then(|key| text(call.shared.count(key).to_string())),
        "counts" => text(call.shared.counts().to_string()),
        "whoami" => text(whoami(call).to_string()),
        "emit" => emit(call).await,
        "add_tool" => add_tool(call).await,
        "remove_tool" => remove_tool(call).await,
        "test_trigger_tool_change" => announce(call, Change::Tools).await,
        "test_trigger_prompt_change" => announce(call, Change::Prompts).await,
        _ => return None,
    })
}

fn whoami(call: &Call) -> Value {
    let headers: Option<Map<String, Value>> = call.ctx.extensions.get::<http::request::Parts>().map(|parts| {
        let pairs = parts.headers.iter();
        pairs
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), Value::String(value))
            })
            .collect()
    });
    let session = headers.as_ref().and_then(|headers| headers.get("mcp-session-id")).cloned();
    json!({
        "server": call.shared.options.name,
        "clientInfo": call.ctx.client_info(),
        "capabilities": call.capabilities(),
        "protocolVersion": call.ctx.protocol_version(),
        "sessionId": session,
        "headers": headers,
        "meta": call.ctx.meta,
    })
}

async fn announce(call: &Call, change: Change) -> ToolResult {
    let told = call.shared.hub.announce(&change).await;
    text(told.to_string())
}

async fn emit(call: &Call) -> ToolResult {
    let change = match call.text("what")? {
        "tools" => Change::Tools,
        "prompts" => Change::Prompts,
        "resources" => Change::Resources,
        "resource" => Change::Resource(call.text_or("uri", "test://watched-resource").to_owned()),
        "log" => Change::Log,
        other => return failure(format!("cannot emit {other}")),
    };
    announce(call, change).await
}

async fn add_tool(call: &Call) -> ToolResult {
    let name = call.text("name")?;
    if super::find(&call.shared, name).is_some() {
        return failure(format!("there is a tool {name}"));
    }
    call.shared.dynamic_tools.lock().push(name.to_owned());
    announce(call, Change::Tools).await
}

async fn remove_tool(call: &Call) -> ToolResult {
    let name = call.text("name")?;
    let removed = {
        let mut tools = call.shared.dynamic_tools.lock();
        let before = tools.len();
        tools.retain(|tool| tool != name);
        tools.len() < before
    };
    if !removed {
        return failure(format!("no added tool {name}"));
    }
    announce(call, Change::Tools).await
}
