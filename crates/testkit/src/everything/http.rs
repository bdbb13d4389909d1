//! Streamable HTTP at `/mcp`: hyper in front of the SDK's service, with a thin layer that makes the
//! single-era modes answer foreign requests as a server of that era alone would.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::server::Everything;
use super::sessions::Sessions;
use super::shared::Shared;
use super::{Era, Options};

/// The path of the MCP endpoint.
const PATH: &str = "/mcp";

/// Bodies may be larger than the 16 MiB that tests send, for escapes and the envelope.
const BODY_BYTES_MAX: usize = 40 * 1024 * 1024;

/// How long subscriptions may take to send their results, and connections to end, at shutdown.
const STOP_LIMIT: Duration = Duration::from_millis(300);

const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

type Mcp = StreamableHttpService<Everything, Sessions>;
type Body = Either<Incoming, Full<Bytes>>;
type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Serves MCP at `/mcp` of `listener` until `shutdown` ends.
///
/// # Errors
///
/// Whatever accepting a connection reports.
pub async fn serve_http(listener: TcpListener, options: Options, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let era = options.era;
    let config = config(&options);
    let streams = config.cancellation_token.clone();
    let shared = Arc::new(Shared::new(options));
    let stopping = shared.stopping.clone();
    let factory = move || Ok(Everything::new(shared.clone()));
    let mcp = StreamableHttpService::new(factory, Arc::new(Sessions::new()), config);

    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut shutdown => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection was gone at once");
            continue;
        }
        let mcp = mcp.clone();
        let service = service_fn(move |request| {
            let mcp = mcp.clone();
            async move { Ok::<_, Infallible>(answer(&mcp, era, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        // Owned by the connection itself: it ends with its socket or with `graceful`.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    // Subscriptions end with their result first; then the other streams are cut.
    stopping.cancel();
    let mut closing = pin!(graceful.shutdown());
    if tokio::time::timeout(STOP_LIMIT, &mut closing).await.is_err() {
        streams.cancel();
        let _ = tokio::time::timeout(STOP_LIMIT, &mut closing).await;
    }
    Ok(())
}

fn config(options: &Options) -> StreamableHttpServerConfig {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = options.era != Era::Modern;
    config.json_response = options.json_response;
    config.max_request_body_bytes = BODY_BYTES_MAX;
    if options.any_host {
        return config.disable_allowed_hosts();
    }
    config.with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"])
}

async fn answer(mcp: &Mcp, era: Era, request: Request<Incoming>) -> Reply {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "no such path");
    }
    let refused = match era {
        Era::Both => None,
        Era::Modern => refuse_legacy(&request),
        Era::Legacy => refuse_modern(request.headers()),
    };
    if let Some(refused) = refused {
        return refused;
    }
    let opening = request.method() == Method::POST && !request.headers().contains_key("mcp-session-id");
    if era == Era::Legacy && opening {
        return open_session(mcp, request).await;
    }
    mcp.handle(request.map(Body::Left)).await
}

/// Why a layer of ours: the SDK would run the `initialize` of a legacy client and answer its refusal
/// with status 200. A modern-only server rejects a request without the version header with 400, and
/// names the version it speaks.
fn refuse_legacy(request: &Request<Incoming>) -> Option<Reply> {
    let unversioned = !request.headers().contains_key("mcp-protocol-version");
    (request.method() == Method::POST && unversioned)
        .then(|| error(-32020, "missing MCP-Protocol-Version header; this server speaks 2026-07-28 only"))
}

/// Why a layer of ours: the SDK answers an unknown version with the modern error -32022, by which a
/// client would take this server for a modern one.
fn refuse_modern(headers: &HeaderMap) -> Option<Reply> {
    let version = headers.get("mcp-protocol-version")?.to_str().unwrap_or("");
    (!LEGACY_VERSIONS.contains(&version)).then(|| error(-32000, "Bad Request: Unsupported protocol version"))
}

/// Without a session a legacy server takes nothing but `initialize`; the SDK would answer
/// `server/discover` and requests with modern `_meta` with modern errors.
async fn open_session(mcp: &Mcp, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "body too large");
    };
    let body = body.to_bytes();
    let message: Option<Value> = serde_json::from_slice(&body).ok();
    let initialize = message.is_some_and(|m| m.get("method") == Some(&json!("initialize")));
    if !initialize {
        return error(-32000, "Bad Request: No valid session ID provided");
    }
    mcp.handle(Request::from_parts(parts, Body::Right(Full::new(body)))).await
}

fn error(code: i32, message: &str) -> Reply {
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } });
    let mut reply = plain(StatusCode::BAD_REQUEST, &body.to_string());
    reply.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    reply
}

fn plain(status: StatusCode, text: &str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *reply.status_mut() = status;
    reply
}
