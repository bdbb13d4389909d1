//! Requests over the balancer. Each is written at most once: only what was certainly not sent goes to another node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::balancer::{Balancer, Entrance};
use crate::wire;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// A node that does not answer a connection attempt within this is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Where nodes say whether they are well, how often they are asked, and how long they may take.
const HEALTH: &str = "/healthz";
const HEALTH_EVERY: Duration = Duration::from_millis(100);
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

/// Nodes that are tried until one takes the request.
const NODES_TRIED: usize = 8;

const BODY_BYTES_MAX: usize = 1 << 20;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Any,
    /// Any other than this one, where there is another.
    AnyBut(usize),
    Only(usize),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No node took it: nothing was sent.
    NotSent(String),
    /// It was sent, at least in part, and then the connection broke.
    Broken(String),
}

/// The HTTP side of all clients: they share connections.
#[derive(Clone)]
pub(crate) struct Web {
    client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) balancer: Arc<Balancer>,
    turned_away: Arc<AtomicU64>,
}

/// One message to send.
pub(crate) struct Message<'a> {
    pub(crate) method: Method,
    pub(crate) session: Option<&'a str>,
    pub(crate) last_event: Option<&'a str>,
    /// Of 2026-07-28: the method.
    pub(crate) modern: Option<&'a str>,
    pub(crate) body: String,
}

impl<'a> Message<'a> {
    pub(crate) fn post(session: Option<&'a str>, body: String) -> Message<'a> {
        Message { method: Method::POST, session, last_event: None, modern: None, body }
    }

    pub(crate) fn get(session: &'a str, last_event: Option<&'a str>) -> Message<'a> {
        Message { method: Method::GET, session: Some(session), last_event, modern: None, body: String::new() }
    }

    pub(crate) fn delete(session: &'a str) -> Message<'a> {
        Message { method: Method::DELETE, session: Some(session), last_event: None, modern: None, body: String::new() }
    }

    /// A request of 2026-07-28.
    pub(crate) fn modern(method: &'a str, body: String) -> Message<'a> {
        Message { modern: Some(method), ..Message::post(None, body) }
    }

    fn request(&self, url: &str) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder().method(&self.method).uri(url);
        if self.method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request = request.header(ACCEPT, "application/json, text/event-stream");
        if let Some(session) = self.session {
            request = request.header(SESSION, session).header(VERSION, wire::VERSION);
        }
        if let Some(method) = self.modern {
            request = request.header(VERSION, wire::MODERN).header(METHOD, method);
        }
        if let Some(id) = self.last_event {
            request = request.header(LAST_EVENT, id);
        }
        request.body(Full::from(self.body.clone()))
    }
}

impl Web {
    pub(crate) fn new() -> Web {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            // What is sent again, and when, is decided and counted here.
            .retry_canceled_requests(false)
            .build(connector);
        Web { client, balancer: Arc::default(), turned_away: Arc::default() }
    }

    /// How many requests were offered to another node because nothing had been sent to the first one.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Sends it, and returns the head of the answer with the node that gave it.
    pub(crate) async fn send(&self, to: To, message: &Message<'_>) -> Result<(usize, Response<Incoming>), Fault> {
        let mut last = "no node is there".to_owned();
        for _ in 0..NODES_TRIED {
            let Some(entrance) = self.entrance(to) else { break };
            let request = message.request(&entrance.url).map_err(|error| Fault::NotSent(error.to_string()))?;
            match self.client.request(request).await {
                Ok(response) => return Ok((entrance.node, response)),
                Err(error) if was_not_sent(&error) => {
                    self.turned_away.fetch_add(1, Ordering::Relaxed);
                    if error.is_connect() {
                        self.balancer.refused(entrance.node);
                    }
                    last = chain(&error);
                }
                Err(error) => return Err(Fault::Broken(chain(&error))),
            }
        }
        Err(Fault::NotSent(last))
    }

    /// Takes nodes out that do not say that they are well, and puts them back in, until the task is aborted.
    pub(crate) fn watch_health(&self) -> AbortHandle {
        let web = self.clone();
        let watch = async move {
            loop {
                let all = web.balancer.all();
                let asked = all.iter().map(|entrance| async {
                    let well = matches!(timeout(HEALTH_WITHIN, web.health(&entrance.url)).await, Ok(Some(true)));
                    web.balancer.set_out(entrance.node, !well);
                });
                futures::future::join_all(asked).await;
                tokio::time::sleep(HEALTH_EVERY).await;
            }
        };
        tokio::spawn(watch).abort_handle()
    }

    async fn health(&self, url: &str) -> Option<bool> {
        let url: hyper::Uri = url.parse().ok()?;
        let url = format!("http://{}{HEALTH}", url.authority()?);
        let request = Request::get(url).body(Full::default()).ok()?;
        let response = self.client.request(request).await.ok()?;
        Some(response.status().is_success())
    }

    fn entrance(&self, to: To) -> Option<Entrance> {
        match to {
            To::Any => self.balancer.choose(None),
            To::AnyBut(node) => self.balancer.choose(Some(node)),
            To::Only(node) => self.balancer.of(node),
        }
    }
}

/// The connection could not be opened, or was closed before anything of the request was written.
fn was_not_sent(error: &Error) -> bool {
    let hyper = std::error::Error::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    error.is_connect() || hyper.is_some_and(hyper::Error::is_canceled)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The value of a header.
pub(crate) fn header<'a>(response: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The whole body.
pub(crate) async fn body(response: Response<Incoming>) -> Result<Bytes, Fault> {
    let limited = Limited::new(response.into_body(), BODY_BYTES_MAX);
    limited.collect().await.map(|body| body.to_bytes()).map_err(|error| Fault::Broken(chain(error.as_ref())))
}
