//! One persistent HTTP/1.1 connection of the generator, and the MCP session on it.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::wire::{self, CallTemplate, Era, TOOL, WrongAnswer};

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Ids of one connection start at its number times this, so that an answer to another's call shows.
const IDS_PER_CONNECTION: u64 = 1_000_000_000;

/// Why a step on the connection failed.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("connect: {0}")]
    Connect(#[from] io::Error),
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("status {status}: {body}")]
    Status { status: StatusCode, body: String },
    #[error("content type {0:?} instead of application/json")]
    ContentType(Option<HeaderValue>),
    #[error("no Mcp-Session-Id in the answer to initialize")]
    NoSession,
    #[error(transparent)]
    Answer(#[from] WrongAnswer),
    #[error("the session is at {0} by now")]
    Elsewhere(String),
}

/// A connected client that has opened its session, if its era has one.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    /// The headers of every call, ready to be cloned.
    headers: HeaderMap,
    next_id: u64,
}

impl Client {
    /// Connects and, for the legacy era, initialises a session.
    pub(crate) async fn open(address: SocketAddr, uri: Uri, era: Era, number: u64) -> Result<Self, Fault> {
        let mut client = Self::connected(address, uri, era, number).await?;
        match era {
            Era::Legacy => client.initialize().await?,
            Era::Modern => {
                client.headers.insert(METHOD, HeaderValue::from_static("tools/call"));
                client.headers.insert(NAME, HeaderValue::from_static(TOOL));
            }
        }
        Ok(client)
    }

    /// Connects, and opens no session.
    pub(crate) async fn connect(address: SocketAddr, uri: Uri, number: u64) -> Result<Self, Fault> {
        Self::connected(address, uri, Era::Legacy, number).await
    }

    async fn connected(address: SocketAddr, uri: Uri, era: Era, number: u64) -> Result<Self, Fault> {
        let sender = connect(address).await?;
        let headers = base_headers(address, era);
        Ok(Self { sender, uri, headers, next_id: number * IDS_PER_CONNECTION + 1 })
    }

    /// Opens a session of the legacy era and forgets it.
    pub(crate) async fn create_session(&mut self) -> Result<(), Fault> {
        let response = self.send(Method::POST, wire::initialize()).await?;
        let has_session = response.headers().contains_key(&SESSION);
        read_status(response, &[StatusCode::OK]).await?;
        if has_session { Ok(()) } else { Err(Fault::NoSession) }
    }

    /// Opens a session of the legacy era, uses it for one call, and forgets it.
    pub(crate) async fn create_and_use(&mut self, template: &CallTemplate) -> Result<(), Fault> {
        let used = match self.initialize().await {
            Ok(()) => self.call(template).await,
            Err(fault) => Err(fault),
        };
        self.headers.remove(&SESSION);
        used
    }

    /// Goes on at another address with the session that it has.
    pub(crate) async fn move_to(&mut self, address: SocketAddr) -> Result<(), Fault> {
        self.sender = connect(address).await?;
        self.headers.insert(HOST, host(address));
        Ok(())
    }

    async fn initialize(&mut self) -> Result<(), Fault> {
        let response = self.send(Method::POST, wire::initialize()).await?;
        let session = response.headers().get(&SESSION).cloned();
        read_status(response, &[StatusCode::OK]).await?;
        self.headers.insert(SESSION, session.ok_or(Fault::NoSession)?);
        let response = self.send(Method::POST, wire::initialized()).await?;
        read_status(response, &[StatusCode::ACCEPTED]).await?;
        Ok(())
    }

    /// One `tools/call`, answered and checked.
    pub(crate) async fn call(&mut self, template: &CallTemplate) -> Result<(), Fault> {
        let id = self.next_id;
        self.next_id += 1;
        let response = self.send(Method::POST, template.body(id)).await?;
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let body = read_status(response, &[StatusCode::OK]).await?;
        match content_type {
            Some(value) if value.as_bytes().starts_with(b"application/json") => {}
            other => return Err(Fault::ContentType(other)),
        }
        Ok(template.check(id, &body)?)
    }

    /// By which name the upstream knows the owner of the session.
    pub(crate) async fn owner(&mut self) -> Result<String, Fault> {
        let id = self.next_id;
        self.next_id += 1;
        let response = self.send(Method::POST, wire::ask_where(id)).await?;
        let body = read_status(response, &[StatusCode::OK]).await?;
        Ok(wire::text(Era::Legacy, id, &body)?.into_owned())
    }

    /// Ends the session, so that cells do not pile up sessions in the gateway.
    pub(crate) async fn close(mut self) -> Result<(), Fault> {
        if !self.headers.contains_key(&SESSION) {
            return Ok(());
        }
        let response = self.send(Method::DELETE, Bytes::new()).await?;
        let fine = [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT, StatusCode::METHOD_NOT_ALLOWED];
        read_status(response, &fine).await.map(drop)
    }

    /// Whether another call can be tried on this connection.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    async fn send(&mut self, method: Method, body: Bytes) -> Result<Response<hyper::body::Incoming>, Fault> {
        self.sender.ready().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        Ok(self.sender.send_request(request).await?)
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Fault> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end needs no handling here: the next call on the sender reports it.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn host(address: SocketAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("localhost"))
}

fn base_headers(address: SocketAddr, era: Era) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host(address));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(VERSION, HeaderValue::from_static(era.version()));
    headers
}

async fn read_status(response: Response<hyper::body::Incoming>, fine: &[StatusCode]) -> Result<Bytes, Fault> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if fine.contains(&status) {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body).chars().take(200).collect();
    Err(Fault::Status { status, body })
}
