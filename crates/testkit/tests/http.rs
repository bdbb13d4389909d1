//! What a plain HTTP client sees of the three modes.

use bytes::Bytes;
use enfilade_testkit::everything::{Era, Options, serve_http};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::oneshot;

struct Server {
    url: String,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn start(era: Era) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel();
    let options = Options { era, ..Options::default() };
    let shutdown = async move { drop(stopped.await) };
    let running = tokio::spawn(serve_http(listener, options, shutdown));
    Server { url, stop, running }
}

impl Server {
    async fn post(&self, body: &Value, headers: &[(&str, &str)]) -> (StatusCode, http::HeaderMap, String) {
        let mut request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    async fn modern(&self, name: &str, arguments: Value) -> (StatusCode, Value) {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {
                "name": name,
                "arguments": arguments,
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {}
                }
            }
        });
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)];
        let (status, _, body) = self.post(&body, &headers).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    async fn initialize(&self) -> (StatusCode, http::HeaderMap, String) {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": { "name": "plain", "version": "1" }
            }
        });
        self.post(&body, &[]).await
    }

    async fn stop(self) {
        self.stop.send(()).expect("the server runs");
        self.running.await.expect("no panic").expect("no error");
    }
}

#[tokio::test]
async fn both_eras_share_one_path() {
    let server = start(Era::Both).await;
    let (status, answer) = server.modern("echo", json!({ "text": "hello" })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["content"][0]["text"], "hello");
    let (status, headers, _) = server.initialize().await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers.contains_key("mcp-session-id"));
    server.stop().await;
}

#[tokio::test]
async fn the_legacy_server_does_not_look_modern() {
    let server = start(Era::Legacy).await;
    let (status, answer) = server.modern("echo", json!({ "text": "hello" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // The codes -32020…-32022 would tell a client that this server is modern.
    assert_eq!(answer["error"]["code"], -32000);
    assert_eq!(server.initialize().await.0, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn the_modern_server_refuses_initialize_and_names_its_version() {
    let server = start(Era::Modern).await;
    let (status, headers, body) = server.initialize().await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!headers.contains_key("mcp-session-id"));
    assert!(body.contains("-32020") && body.contains("2026-07-28"), "{body}");
    assert_eq!(server.modern("echo", json!({ "text": "x" })).await.0, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn sixteen_mebibytes_pass() {
    let server = start(Era::Modern).await;
    let sent = "y".repeat(16 * 1024 * 1024);
    let (_, answer) = server.modern("echo", json!({ "text": sent })).await;
    let got = answer["result"]["content"][0]["text"].as_str().map(str::len);
    assert_eq!(got, Some(sent.len()));
    server.stop().await;
}
