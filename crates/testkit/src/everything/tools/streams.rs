//! Tools that take time: logging, progress, sleeping, hanging, and losing their stream.

use std::time::Duration;

use rmcp::model::{LoggingLevel, Tool};
use serde_json::json;

use super::super::call::{Call, ToolResult, failure, text};
use super::super::sessions::OwnStream;
use super::{bare, schema};

const STEP: Duration = Duration::from_millis(50);

pub(super) fn list() -> Vec<Tool> {
    let natural = json!({ "type": "integer", "minimum": 0 });
    vec![
        // Sleeps, in steps that send progress if a token was given; then "done". The last step waits until the counter
        // `until`, if there is one, was counted up. Can be cancelled.
        Tool::new(
            "slow",
            "sleeps for that many milliseconds",
            schema(json!({ "ms": natural, "steps": natural, "until": { "type": "string" } }), &["ms"]),
        ),
        // Never answers until it is cancelled.
        bare("hang", "never answers"),
        bare("test_tool_with_logging", "writes three log lines"),
        bare("test_tool_with_progress", "reports progress three times"),
        bare("test_logging_tool", "writes a log line if the client wants any"),
        // Closes the SSE stream of its own call (legacy), then goes on: the client has to resume.
        bare("test_reconnection", "closes its own stream and then answers"),
    ]
}

pub(super) async fn call(call: &Call) -> Option<ToolResult> {
    Some(match call.name.as_str() {
        "slow" => slow(call).await,
        "hang" => {
            call.ctx.ct.cancelled().await;
            failure("cancelled")
        }
        "test_tool_with_logging" => logging(call).await,
        "test_tool_with_progress" => progress(call).await,
        "test_logging_tool" => {
            call.log(LoggingLevel::Info, "logging is on").await;
            text("Logging evaluated")
        }
        "test_reconnection" => reconnection(call).await,
        _ => return None,
    })
}

async fn slow(call: &Call) -> ToolResult {
    let ms = call.count_or("ms", 0)?;
    let steps = call.count_or("steps", 1)?.clamp(1, 10_000);
    let until = call.text_or("until", "");
    for step in 1..=steps {
        let pause = Duration::from_millis(ms * step / steps - ms * (step - 1) / steps);
        let wait = async {
            tokio::time::sleep(pause).await;
            if step == steps && !until.is_empty() {
                call.shared.counted(until).await;
            }
        };
        tokio::select! {
            () = wait => {}
            () = call.ctx.ct.cancelled() => return failure("cancelled"),
        }
        call.progress(step as f64, steps as f64).await;
    }
    text("done")
}

async fn logging(call: &Call) -> ToolResult {
    call.log(LoggingLevel::Info, "Tool execution started").await;
    tokio::time::sleep(STEP).await;
    call.log(LoggingLevel::Info, "Tool processing data").await;
    tokio::time::sleep(STEP).await;
    call.log(LoggingLevel::Info, "Tool execution completed").await;
    text("Tool with logging executed successfully")
}

async fn progress(call: &Call) -> ToolResult {
    call.progress(0.0, 100.0).await;
    tokio::time::sleep(STEP).await;
    call.progress(50.0, 100.0).await;
    tokio::time::sleep(STEP).await;
    call.progress(100.0, 100.0).await;
    text("Tool with progress executed successfully")
}

async fn reconnection(call: &Call) -> ToolResult {
    if let Some(stream) = call.ctx.extensions.get::<OwnStream>() {
        stream.close().await;
    }
    // The SDK forgets a stream once its answer is written, so the client needs time to resume it.
    tokio::time::sleep(20 * STEP).await;
    text("Reconnection test completed successfully.")
}
