//! What clients of both eras see at the real HTTP edge: both protocols, the end of a session, ids, payloads, questions
//! to the client, and one slow reader among others.

mod common;

use common::client::{Client, KINDS, Kind, meta, shown, text_of};
use common::wire::{Wire, until};
use common::{Folder, LEGACY, LIMIT, MODERN, Server};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A gateway at HTTP/1.1 and HTTP/2, with an upstream of each era at a path of its own.
struct Setup {
    gateway: Server,
    /// `ADDRESS:PORT` of HTTP/2.
    http2: String,
    folder: Folder,
    _demos: [Server; 2],
}

const ERAS: [&str; 2] = ["legacy", "modern"];

impl Setup {
    fn new() -> Self {
        let demos = ERAS.map(|era| Server::start(&["--log", "off", "demo", "--era", era]));
        let folder = Folder::new();
        let anywhere = "address: \"127.0.0.1:0\"";
        let mut yaml = format!("listen: [{{{anywhere}}}, {{{anywhere}, protocol: http2}}]\nupstreams:\n");
        for (era, demo) in ERAS.iter().zip(&demos) {
            yaml.push_str(&format!("  - {{name: {era}, url: \"{}\"}}\n", demo.url));
        }
        yaml.push_str("servers:\n");
        for era in ERAS {
            yaml.push_str(&format!("  - {{name: {era}, path: /{era}, upstreams: [{era}]}}\n"));
        }
        let file = folder.file("c.yaml", &yaml);
        let mut gateway = Server::start(&[
            "--log",
            "off",
            "up",
            "--nodes",
            "1",
            "--config",
            &file,
            "--data-dir",
            &folder.text("data"),
        ]);
        // One line per listener and server, in that order.
        let rest: Vec<String> = (0..3).map(|_| gateway.line()).collect();
        let http2 = rest[1].strip_prefix("ready http://").and_then(|rest| rest.split('/').next());
        let http2 = http2.expect("the second listener").to_owned();
        assert_ne!(http2, gateway.address());
        Self { gateway, http2, folder, _demos: demos }
    }

    /// The path of the upstream of this era.
    fn url(&self, era: &str) -> String {
        format!("http://{}/{era}", self.gateway.address())
    }

    fn stop(self) {
        assert!(self.folder.path("data").is_dir());
        assert_eq!(self.gateway.stop(), 0);
    }
}

// ---- HTTP/2 ----

struct Http2 {
    send: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    address: String,
}

impl Http2 {
    async fn to(address: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (send, connection) = handshake.await.expect("HTTP/2");
        // Owned by the runtime of the test, which ends with it.
        tokio::spawn(async move { drop(connection.await) });
        Self { send, address: address.to_owned() }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: String) -> (hyper::HeaderMap, u16, String) {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let (head, body) = self.send.clone().send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.headers, head.status.as_u16(), String::from_utf8(body.into()).expect("text"))
    }
}

/// The only message of an answer, JSON or events.
fn only(body: &str) -> Value {
    let texts = body.lines().map(|line| line.strip_prefix("data:").unwrap_or(line).trim());
    texts.filter_map(|text| serde_json::from_str(text).ok()).next_back().unwrap_or_else(|| panic!("no message: {body}"))
}

async fn add_over_http2(client: &Http2, era: &str, number: u64) {
    let arguments = json!({"a": number, "b": 2});
    let params = json!({"name": "add", "arguments": arguments, "_meta": meta()});
    let body = json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).to_string();
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "add")];
    let (_, status, body) = client.post(&format!("/{era}"), &headers, body).await;
    assert_eq!(status, 200, "{body}");
    let answer = only(&body);
    assert_eq!((&answer["id"], &answer["result"]["structuredContent"]), (&json!(number), &json!({"sum": number + 2})));
}

async fn http2(address: String) {
    let client = Http2::to(&address).await;
    for era in ERAS {
        // Many at a time on one connection.
        let calls = (0..20).map(|number| add_over_http2(&client, era, number));
        futures_join(calls).await;

        let (headers, status, body) = client.post(&format!("/{era}"), &[], common::client::initialize(json!({}))).await;
        assert_eq!(status, 200, "{body}");
        let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).expect("a session id");
        let of_session = [("mcp-session-id", session), ("mcp-protocol-version", LEGACY)];
        let params = json!({"name": "echo", "arguments": {"text": "over HTTP/2"}});
        let body = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": params}).to_string();
        let (_, status, body) = client.post(&format!("/{era}"), &of_session, body).await;
        assert_eq!((status, text_of(&only(&body))), (200, Some("over HTTP/2")), "{body}");
    }
}

/// Runs all of them at the same time.
async fn futures_join(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn http2_with_prior_knowledge_serves_the_same_calls() {
    let setup = Setup::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address = setup.http2.clone();
    runtime.block_on(async { tokio::time::timeout(LIMIT, http2(address)).await }).expect("in time");
    drop(runtime);
    setup.stop();
}

// ---- sessions ----

#[test]
fn delete_ends_a_session_and_its_stream_at_once() {
    let setup = Setup::new();
    for era in ERAS {
        let mut client = Client::new(Kind::Legacy, &setup.url(era));
        assert_eq!(client.text("echo", json!({"text": "x"})), "x");
        let mut events = client.listen();
        let mut late = client.again();
        let body = late.body(1, "tools/list", json!({}));
        let began = Instant::now();
        let ended = std::thread::spawn(move || {
            while events.next().is_some() {}
            Instant::now()
        });
        assert_eq!(client.end().status, 200);
        let answered = began.elapsed();
        let refused = late.post("tools/list", &[], &body);
        let gone = began.elapsed();
        assert_eq!(refused.status, 404, "{refused:?}");
        let ended = ended.join().expect("no panic") - began;
        println!("DELETE ({era} upstream): answered {answered:?}, 404 after {gone:?}, stream ended after {ended:?}");
        assert!(gone.max(ended) < Duration::from_millis(500), "404 after {gone:?}, stream ended after {ended:?}");
        assert_eq!(client.end().status, 404);
    }
    setup.stop();
}

// ---- ids and payloads ----

#[test]
fn ids_come_back_as_they_were_written() {
    const IDS: [&str; 9] =
        ["0", "7", "-3", "9007199254740993", "9223372036854775807", r#""7""#, r#""a b""#, r#""\"\u00e9\n""#, r#""""#];
    let setup = Setup::new();
    for era in ERAS {
        for kind in KINDS {
            let mut client = Client::new(kind, &setup.url(era));
            let named: &[_] = if kind == Kind::Modern { &[("Mcp-Name", "echo")] } else { &[] };
            for id in IDS {
                let params = json!({"name": "echo", "arguments": {"text": id}});
                let body = client.body(4711, "tools/call", params).replace("\"id\":4711", &format!("\"id\":{id}"));
                let answer = client.post("tools/call", named, &body);
                let raw = format!("\"id\":{id}");
                assert!(answer.body.contains(&raw), "{kind:?} to {era}, {id}: {}", shown(&answer));
                assert_eq!(text_of(&only(&answer.body)), Some(id), "{kind:?} to {era}, {id}");
            }
        }
    }
    setup.stop();
}

/// 10 KB with what gets lost most easily: several planes, combined and invisible characters, controls, line separators
/// that are no line ends in JSON, and text that looks like a message or an event.
fn payload() -> String {
    let part = "Grüße, 世界! 👩‍👩‍👧‍👦 e\u{301} \u{202e}שלום\u{202c} \u{feff}\u{200b}\u{2028}\u{2029}\u{85} \u{1}\u{1f}\u{7f} \0 \r\n\t\"\\/ \
                data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\nevent: x\n \u{10ffff} ";
    let mut text = part.repeat(10_240 / part.len() + 1);
    let mut end = 10_240;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&"z".repeat(10_240 - end));
    text
}

#[test]
fn a_payload_comes_through_byte_for_byte_between_all_eras() {
    let setup = Setup::new();
    let payload = payload();
    assert_eq!(payload.len(), 10_240);
    for era in ERAS {
        for kind in KINDS {
            let mut client = Client::new(kind, &setup.url(era));
            let text = client.text("echo", json!({"text": payload}));
            assert!(text.as_bytes() == payload.as_bytes(), "{kind:?} to {era}: {} bytes came back", text.len());
            println!("payload: {kind:?} client to {era} upstream: {} bytes equal", text.len());
        }
    }
    setup.stop();
}

// ---- questions to the client ----

/// A call during which the upstream asks its client; gives the question and the text of the result.
fn asked(url: &str, tool: &str, arguments: Value, reply: Value) -> (Value, String) {
    let capabilities = json!({"sampling": {}, "elicitation": {}, "roots": {}});
    let client = Client::legacy(url, capabilities);
    let session = client.session.clone().expect("a session");
    let headers = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", LEGACY)];
    let body = client.body(5, "tools/call", json!({"name": tool, "arguments": arguments}));
    let mut events = Wire::to(url).events("POST", &headers, &body);
    let question = events.find(|message| message.get("method").is_some() && message.get("id").is_some());
    // The answer comes on another connection than the question went out on.
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": reply}).to_string();
    let taken = client.again().post("", &[], &answer);
    assert_eq!(taken.status, 202, "{taken:?}");
    let result = events.find(|message| message["id"] == 5 && message.get("method").is_none());
    let text = text_of(&result).unwrap_or_else(|| panic!("{result}")).to_owned();
    assert!(events.next().is_none(), "the stream ends with the result");
    (question, text)
}

#[test]
fn an_upstream_asks_its_client_in_the_middle_of_a_call() {
    let setup = Setup::new();
    let url = setup.url("legacy");
    let said = json!({"role": "assistant", "content": {"type": "text", "text": "Pa\u{301}ris"}, "model": "m"});
    let (question, text) = asked(&url, "test_sampling", json!({"prompt": "capital?"}), said);
    assert_eq!(question["method"], "sampling/createMessage");
    assert_eq!(question["params"]["messages"][0]["content"]["text"], "capital?", "{question}");
    assert_eq!(text, "LLM response: Pa\u{301}ris");

    let accepted = json!({"action": "accept", "content": {"response": "yes"}});
    let (question, text) = asked(&url, "test_elicitation", json!({"message": "Sure?"}), accepted);
    assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Sure?")));
    assert_eq!(text, r#"User response: action=accept, content={"response":"yes"}"#);

    let roots = json!({"roots": [{"uri": "file:///a", "name": "a"}]});
    let (question, text) = asked(&url, "ask", json!({"kind": "roots"}), roots);
    assert_eq!(question["method"], "roots/list");
    assert!(text.contains("file:///a"), "{text}");
    setup.stop();
}

#[test]
fn a_modern_upstream_asks_its_modern_client_by_rounds() {
    let setup = Setup::new();
    let mut client = Client::new(Kind::Modern, &setup.url("modern"));
    let named = [("Mcp-Name", "test_sampling")];
    let mut params = json!({"name": "test_sampling", "arguments": {"prompt": "capital?"}, "_meta": meta()});
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"sampling": {}});
    let body = |id: u64, params: &Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let first = client.post("tools/call", &named, &body(1, &params)).message(1);
    let result = &first["result"];
    assert_eq!(result["resultType"], "input_required", "{first}");
    let (key, question) = result["inputRequests"].as_object().and_then(|all| all.iter().next()).expect("a question");
    assert_eq!(question["method"], "sampling/createMessage", "{first}");
    let reply = json!({"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m"});
    params["inputResponses"] = json!({key: reply});
    params["requestState"] = result["requestState"].clone();
    let second = client.post("tools/call", &named, &body(2, &params)).message(2);
    assert_eq!(text_of(&second), Some("LLM response: Paris"), "{second}");
    setup.stop();
}

// ---- slow readers ----

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    const EACH: usize = 200;
    const STALLED: usize = 8;
    let setup = Setup::new();
    for era in ERAS {
        let url = setup.url(era);
        let mut others: Vec<Client> = KINDS.iter().map(|kind| Client::new(*kind, &url)).collect();
        let quiet = slowest(&mut others, EACH);
        // Clients that ask for much and read nothing, and streams that nobody reads.
        let mut stalled = Vec::new();
        for kind in KINDS.into_iter().cycle().take(STALLED) {
            let mut client = Client::new(kind, &url);
            let named: &[_] = if kind == Kind::Modern { &[("Mcp-Name", "big")] } else { &[] };
            let body = client.body(1, "tools/call", json!({"name": "big", "arguments": {"bytes": 8_000_000}}));
            let unread = client.listen();
            client.send("tools/call", named, &body);
            stalled.push((unread, client));
        }
        let mut witness = Client::new(Kind::Modern, &url);
        until("all large answers are under way", || {
            let counts: Value = serde_json::from_str(&witness.text("counts", json!({}))).expect("JSON");
            counts["calls"]["big"] == STALLED
        });
        for _ in 0..EACH {
            witness.text("emit", json!({"what": "tools"}));
        }
        let busy = slowest(&mut others, EACH);
        println!(
            "slow readers ({era} upstream): slowest of {EACH} calls {quiet:?} without, {busy:?} beside {STALLED} stalled"
        );
        assert!(busy < Duration::from_secs(2).max(quiet * 20), "{busy:?}, without {quiet:?}");
        // They get their answers once they read.
        for (_, client) in &mut stalled {
            let answer = client.wire.answer();
            assert_eq!(text_of(&answer.message(1)).map(str::len), Some(8_000_000), "{}", shown(&answer));
        }
    }
    setup.stop();
}

/// The slowest of so many calls of each.
fn slowest(clients: &mut [Client], calls: usize) -> Duration {
    let call = |client: &mut Client| {
        let began = Instant::now();
        assert_eq!(client.text("echo", json!({"text": "quick"})), "quick");
        began.elapsed()
    };
    let each = clients.iter_mut().flat_map(|client| (0..calls).map(|_| call(client)).collect::<Vec<_>>());
    each.max().unwrap_or_default()
}
