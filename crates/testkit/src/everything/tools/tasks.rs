//! Tools that become tasks when the client declared the tasks extension; otherwise they run within
//! the call, or refuse if they exist only as tasks.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult, Tool};
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskOptions};
use serde_json::{Value, json};

use super::super::ask::{Asked, ask, field, form, request};
use super::super::call::{Call, ToolResult, failure, text};
use super::{bare, schema};

const POLL_INTERVAL_MS: u64 = 100;

pub(super) fn list() -> Vec<Tool> {
    let string = json!({ "type": "string" });
    vec![
        Tool::new(
            "slow_compute",
            "works for that many seconds",
            schema(json!({ "seconds": { "type": "number", "minimum": 0 }, "label": string }), &[]),
        ),
        bare("failing_job", "a task that fails with a tool error"),
        bare("protocol_error_job", "a task that fails with a protocol error"),
        Tool::new("confirm_delete", "a task that asks the user", schema(json!({ "filename": string }), &[])),
        bare("multi_input", "a task that asks the user two things at once"),
        bare("test_tool_with_task", "asks the user first, then becomes a task"),
    ]
}

pub(super) async fn call(call: &Call) -> Option<ToolResult> {
    Some(match call.name.as_str() {
        "slow_compute" => slow_compute(call).await,
        "failing_job" => required(call).unwrap_or_else(|| failing_job(call)),
        "protocol_error_job" => required(call).unwrap_or_else(|| protocol_error_job(call)),
        "confirm_delete" => confirm_delete(call).await,
        "multi_input" => multi_input(call).await,
        "test_tool_with_task" => match required(call) {
            Some(refusal) => refusal,
            None => with_task(call).await,
        },
        _ => return None,
    })
}

/// The refusal of a tool that exists only as a task, for a modern client without the extension.
fn required(call: &Call) -> Option<ToolResult> {
    let missing = call.modern() && !call.tasks();
    missing.then(|| {
        let capabilities = ClientCapabilities::builder().enable_tasks().build();
        Err(ErrorData::missing_required_client_capability(capabilities))
    })
}

fn spawn(call: &Call, work: impl FnOnce(TaskContext) -> TaskFuture) -> ToolResult {
    let options = TaskOptions::new().with_poll_interval_ms(POLL_INTERVAL_MS);
    Ok(CreateTaskResult::new(call.shared.tasks.spawn(options, work)).into())
}

fn done(message: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(message)])
}

/// Sleeps unless the task is cancelled.
async fn pause(task: &TaskContext, time: Duration) -> Result<(), TaskExit> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = task.cancelled() => Err(TaskExit::Cancelled),
    }
}

async fn slow_compute(call: &Call) -> ToolResult {
    let seconds = call.args.get("seconds").and_then(Value::as_f64).unwrap_or(1.0);
    let time = Duration::try_from_secs_f64(seconds).map_err(|e| ErrorData::invalid_params(e.to_string(), None))?;
    let message = format!("{} took {seconds} s", call.text_or("label", "work"));
    if call.tasks() && !time.is_zero() {
        return spawn(call, |task| Box::pin(async move { pause(&task, time).await.map(|()| done(message)) }));
    }
    tokio::select! {
        () = tokio::time::sleep(time) => text(message),
        () = call.ctx.ct.cancelled() => failure("cancelled"),
    }
}

fn failing_job(call: &Call) -> ToolResult {
    let error = || CallToolResult::error(vec![ContentBlock::text("this job always fails")]);
    if !call.tasks() {
        return Ok(error().into());
    }
    spawn(call, |task| Box::pin(async move { pause(&task, Duration::from_secs(1)).await.map(|()| error()) }))
}

fn protocol_error_job(call: &Call) -> ToolResult {
    let error = || ErrorData::internal_error("this job breaks the protocol", None);
    if !call.tasks() {
        return Err(error());
    }
    spawn(call, |_| Box::pin(async move { Err(TaskExit::Error(error())) }))
}

async fn confirm_delete(call: &Call) -> ToolResult {
    let filename = call.text_or("filename", "file").to_owned();
    let question = form(&format!("Delete {filename}?"), "confirm", "boolean");
    if call.tasks() {
        let question = request(question)?;
        return spawn(call, |task| {
            Box::pin(async move {
                let answer = task.request_input("confirm", question).await?;
                Ok(done(deleted(&filename, &answer)))
            })
        });
    }
    match ask(call, vec![vec![("confirm", question)]]).await? {
        Asked::Pending(result) => Ok(result.into()),
        Asked::Answers(answers) => text(deleted(&filename, &answers["confirm"])),
    }
}

fn deleted(filename: &str, answer: &Value) -> String {
    if answer.pointer("/content/confirm") == Some(&Value::Bool(true)) {
        format!("{filename} deleted")
    } else {
        format!("{filename} kept")
    }
}

async fn multi_input(call: &Call) -> ToolResult {
    let first = form("What is your name?", "name", "string");
    let second = form("Do you confirm?", "confirm", "boolean");
    if call.tasks() {
        let (first, second) = (request(first)?, request(second)?);
        return spawn(call, |task| {
            Box::pin(async move {
                let name = task.request_input("name", first);
                let confirm = task.request_input("confirm", second);
                let (name, confirm) = futures::future::try_join(name, confirm).await?;
                Ok(done(json!([name, confirm]).to_string()))
            })
        });
    }
    match ask(call, vec![vec![("name", first), ("confirm", second)]]).await? {
        Asked::Pending(result) => Ok(result.into()),
        Asked::Answers(answers) => text(json!(answers).to_string()),
    }
}

async fn with_task(call: &Call) -> ToolResult {
    let question = form("What is your name?", "name", "string");
    match ask(call, vec![vec![("user_name", question)]]).await? {
        Asked::Pending(result) => Ok(result.into()),
        Asked::Answers(answers) => {
            let message = format!("Done for {}", field(&answers, "user_name", "name"));
            if !call.tasks() {
                return text(message);
            }
            spawn(call, |_| Box::pin(async move { Ok(done(message)) }))
        }
    }
}
