//! The interop client built on rmcp: plays the steps of a scenario file against one MCP endpoint and
//! prints one JSON line per step. It judges nothing; the runner compares what it prints.

use std::path::Path;

use anyhow::{Context, bail};
use rmcp::model::{
    CallToolRequestParams, ClientConfig, GetPromptRequestParams, ProtocolVersion, ReadResourceRequestParams,
};
use rmcp::service::{Peer, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What the runner wrote for this cell; keys that this client does not play are left to others.
#[derive(Deserialize)]
struct Scenario {
    steps: Vec<Step>,
}

/// One thing to do, named as in the other clients.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Step {
    Tools,
    Call {
        tool: String,
        #[serde(default)]
        args: Map<String, Value>,
    },
    Resources,
    Read {
        uri: String,
    },
    Prompts,
    Prompt {
        name: String,
        #[serde(default)]
        args: Map<String, Value>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, scenario, era] = args.as_slice() else {
        bail!("usage: interop-rmcp-client URL SCENARIO.json legacy|modern|auto");
    };
    let scenario = load(Path::new(scenario))?;
    let client = connect(url, era).await?;
    let version = client.peer_info().map(|info| info.protocol_version.clone());
    emit(&json!({"connected": version}));
    for step in scenario.steps {
        let line = match play(&client, step).await {
            Ok(value) => json!({"value": value}),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        let failed = line.get("error").is_some();
        emit(&line);
        if failed {
            break;
        }
    }
    client.cancel().await.context("closing")?;
    emit(&json!({"done": true}));
    Ok(())
}

fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).context("scenario file")
}

async fn connect(url: &str, era: &str) -> anyhow::Result<RunningService<RoleClient, ClientConfig>> {
    let modern = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = match era {
        "legacy" => ClientLifecycleMode::Initialize,
        "modern" => ClientLifecycleMode::Discover { preferred_versions: modern },
        "auto" => ClientLifecycleMode::Auto { preferred_versions: modern, legacy_version: None },
        other => bail!("unknown era {other}"),
    };
    let transport = StreamableHttpClientTransport::from_uri(url);
    ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await.context("connecting")
}

async fn play(client: &Peer<RoleClient>, step: Step) -> anyhow::Result<Value> {
    let value = match step {
        Step::Tools => names(client.list_all_tools().await?.iter().map(|t| &*t.name)),
        Step::Prompts => names(client.list_all_prompts().await?.iter().map(|p| &*p.name)),
        Step::Resources => names(client.list_all_resources().await?.iter().map(|r| &*r.uri)),
        Step::Call { tool, args } => {
            let params = CallToolRequestParams::new(tool).with_arguments(args);
            serde_json::to_value(client.call_tool(params).await?)?
        }
        Step::Read { uri } => {
            let params = ReadResourceRequestParams::new(uri);
            serde_json::to_value(client.read_resource(params).await?)?
        }
        Step::Prompt { name, args } => {
            let params = GetPromptRequestParams::new(name).with_arguments(args);
            serde_json::to_value(client.get_prompt(params).await?)?
        }
    };
    Ok(value)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    names.map(Value::from).collect()
}

fn emit(line: &Value) {
    println!("{line}");
}
