//! The tools, by subject. Each subject lists its tools and answers calls to them.

mod content;
mod inputs;
mod streams;
mod tasks;
mod witness;

use std::sync::{Arc, LazyLock};

use rmcp::ErrorData;
use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

use super::call::{Call, ToolResult, text};
use super::shared::Shared;

/// The tools that are always there. Built once: the SDK looks a tool up for every modern call.
static FIXED: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    let mut tools = content::list();
    tools.extend(streams::list());
    tools.extend(inputs::list());
    tools.extend(tasks::list());
    tools.extend(witness::list());
    tools
});

/// All tools in list order: the fixed ones, the numbered ones, those added at run time.
pub(super) fn list(shared: &Shared) -> Vec<Tool> {
    let numbered = (1..=shared.options.extra_tools).map(|n| format!("extra_{n:04}"));
    let dynamic = shared.dynamic_tools.lock().clone();
    let mut tools = FIXED.clone();
    tools.extend(numbered.chain(dynamic).map(named));
    tools
}

/// The definition of a tool.
pub(super) fn find(shared: &Shared, name: &str) -> Option<Tool> {
    let fixed = FIXED.iter().find(|tool| tool.name == name).cloned();
    fixed.or_else(|| nameable(shared, name).then(|| named(name.to_owned())))
}

/// Whether `name` is a numbered tool or one added at run time.
fn nameable(shared: &Shared, name: &str) -> bool {
    let number = name.strip_prefix("extra_").and_then(|n| n.parse::<usize>().ok());
    number.is_some_and(|n| n > 0 && n <= shared.options.extra_tools)
        || shared.dynamic_tools.lock().iter().any(|tool| tool == name)
}

fn named(name: String) -> Tool {
    Tool::new(name, "answers with its own name", schema(json!({}), &[]))
}

/// Runs a tool.
pub(super) async fn call(call: &Call) -> ToolResult {
    call.shared.called(&call.name);
    let guard = Cancellation::watch(&call.shared);
    let result = dispatch(call).await;
    if !call.ctx.ct.is_cancelled() {
        guard.finished();
    }
    result
}

async fn dispatch(call: &Call) -> ToolResult {
    // Boxed one by one: the sum of all tools' states would be a large future.
    if let Some(result) = content::call(call) {
        return result;
    }
    if let Some(result) = Box::pin(streams::call(call)).await {
        return result;
    }
    if let Some(result) = Box::pin(inputs::call(call)).await {
        return result;
    }
    if let Some(result) = Box::pin(tasks::call(call)).await {
        return result;
    }
    if let Some(result) = Box::pin(witness::call(call)).await {
        return result;
    }
    if nameable(&call.shared, &call.name) {
        return text(&call.name);
    }
    Err(ErrorData::invalid_params(format!("unknown tool: {}", call.name), None))
}

/// Counts a call as cancelled unless it finishes: both a cancelled token and a dropped future count.
struct Cancellation<'a> {
    shared: &'a Shared,
    armed: bool,
}

impl<'a> Cancellation<'a> {
    fn watch(shared: &'a Shared) -> Self {
        Self { shared, armed: true }
    }

    fn finished(mut self) {
        self.armed = false;
    }
}

impl Drop for Cancellation<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.cancelled();
        }
    }
}

/// An object schema.
fn schema(properties: Value, required: &[&str]) -> Arc<JsonObject> {
    raw(json!({ "type": "object", "properties": properties, "required": required }))
}

fn raw(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

/// A tool without arguments.
fn bare(name: &'static str, description: &'static str) -> Tool {
    Tool::new(name, description, schema(json!({}), &[]))
}
