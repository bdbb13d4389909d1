//! The SDK's own client against the server over a pipe, in both eras.
#![expect(deprecated, reason = "the SDK deprecates sampling and roots; the legacy revisions have them")]

use std::collections::HashSet;

use enfilade_testkit::everything::{Era, Options, serve_io};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation, ListRootsResult,
    ProtocolVersion, ReadResourceRequestParams, Root, SamplingMessage,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, RequestContext, RunningService, serve_client_with_lifecycle,
};
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Value, json};

/// A client that answers every question.
struct Human;

impl ClientHandler for Human {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().enable_elicitation().enable_roots().build();
        ClientConfig::new(capabilities, Implementation::new("human", "1"))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada", "answer": "yes" })))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("hi"), "model".to_owned()))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///root")]))
    }
}

type Client = RunningService<RoleClient, Human>;

async fn connect(options: Options, lifecycle: ClientLifecycleMode) -> Client {
    open(options, lifecycle).await.expect("the server opens")
}

async fn open(options: Options, lifecycle: ClientLifecycleMode) -> Result<Client, ClientInitializeError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(far);
    tokio::spawn(serve_io(input, output, options));
    serve_client_with_lifecycle(Human, tokio::io::split(near), lifecycle).await
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

async fn call(client: &Client, name: &'static str, args: Value) -> CallToolResult {
    let args = args.as_object().cloned().unwrap_or_default();
    client
        .call_tool(CallToolRequestParams::new(name).with_arguments(args))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn text(client: &Client, name: &'static str, args: Value) -> String {
    let result = call(client, name, args).await;
    result.content[0].as_text().expect("text").text.clone()
}

async fn works(lifecycle: ClientLifecycleMode, era: Era, version: &str) {
    let options = Options { era, page_size: Some(3), extra_tools: 7, ..Options::default() };
    let client = connect(options, lifecycle).await;

    let tools = client.list_all_tools().await.expect("tools");
    let names: HashSet<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names.len(), tools.len(), "no name twice");
    assert!(names.contains("echo") && names.contains("extra_0007"));

    assert_eq!(text(&client, "echo", json!({ "text": "a\nb" })).await, "a\nb");
    assert_eq!(text(&client, "extra_0007", json!({})).await, "extra_0007");
    let sum = call(&client, "add", json!({ "a": 1, "b": 2 })).await;
    assert_eq!(sum.structured_content, Some(json!({ "sum": 3 })));
    assert_eq!(text(&client, "count", json!({ "key": "k" })).await, "1");
    assert_eq!(text(&client, "count", json!({ "key": "k" })).await, "2");

    let answer = text(&client, "ask", json!({ "kind": "elicitation", "rounds": 2 })).await;
    assert!(answer.contains("\"accept\""), "{answer}");
    let answer = text(&client, "ask_many", json!({})).await;
    for part in ["hi", "Ada", "file:///root"] {
        assert!(answer.contains(part), "{part} is missing in {answer}");
    }
    let guarded = client.read_resource(ReadResourceRequestParams::new("test://guarded")).await;
    let guarded = serde_json::to_string(&guarded.expect("guarded")).expect("json");
    assert!(guarded.contains("Opened for Ada"), "{guarded}");

    let who: Value = serde_json::from_str(&text(&client, "whoami", json!({})).await).expect("json");
    assert_eq!(who["clientInfo"]["name"], "human");
    assert_eq!(who["protocolVersion"], version);
}

#[tokio::test]
async fn a_legacy_client_is_served() {
    works(ClientLifecycleMode::Initialize, Era::Both, "2025-11-25").await;
}

#[tokio::test]
async fn a_modern_client_is_served() {
    works(discover(), Era::Both, "2026-07-28").await;
}

#[tokio::test]
async fn the_modern_server_serves_modern_clients() {
    works(discover(), Era::Modern, "2026-07-28").await;
}

#[tokio::test]
async fn the_modern_server_refuses_initialize() {
    let options = Options { era: Era::Modern, ..Options::default() };
    let refused = open(options, ClientLifecycleMode::Initialize).await;
    let Err(ClientInitializeError::JsonRpcError(error)) = refused else {
        panic!("initialize was not refused with an error");
    };
    assert_eq!(error.code.0, -32022);
}

#[tokio::test]
async fn a_dual_era_client_finds_the_legacy_server() {
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_06_18),
    };
    works(lifecycle, Era::Legacy, "2025-06-18").await;
}

#[tokio::test]
async fn a_cancelled_call_is_witnessed() {
    let client = connect(Options::default(), ClientLifecycleMode::Initialize).await;
    let request = CallToolRequestParams::new("hang");
    let pending = client
        .send_cancellable_request(
            rmcp::model::ClientRequest::CallToolRequest(rmcp::model::CallToolRequest::new(request)),
            rmcp::service::PeerRequestOptions::no_options(),
        )
        .await
        .expect("sent");
    // The server reads in order, so this answer shows that the call before it has begun.
    assert_eq!(text(&client, "echo", json!({ "text": "x" })).await, "x");
    pending.cancel(None).await.expect("cancelled");
    let seen = async {
        loop {
            let counts = text(&client, "counts", json!({})).await;
            let counts: Value = serde_json::from_str(&counts).expect("json");
            if counts["cancelled"] == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), seen).await.expect("the cancel reached the server");
}
