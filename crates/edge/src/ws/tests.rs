//! What depends on time: with a clock that stands still, over a pipe.

use super::life;
use super::meter::Meter;
use super::socket::{PING_INTERVAL, Socket, Start};
use crate::connection::Edge;
use crate::{Config, Ending, Figures};
use enfilade_mcp::Envelope;
use enfilade_mcp::classify::Modern;
use enfilade_registry::{SessionId, SessionKeys};
use enfilade_session::owner::{Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Nobody asks it anything here.
struct Nobody;

impl Owner for Nobody {
    fn server_at(&self, _path: &str) -> Option<ServerId> {
        None
    }

    fn modern<'a>(
        &'a self,
        _caller: Caller<'a>,
        _request: &'a Envelope<'a>,
        _meta: &'a Modern<'a>,
        _headers: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::Accepted })
    }

    fn initialize<'a>(&'a self, _caller: Caller<'a>, _request: &'a Envelope<'a>) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::Accepted })
    }

    fn legacy<'a>(&'a self, _caller: Caller<'a>, _session: SessionId, _message: Legacy<'a>) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::Accepted })
    }

    fn open_stream<'a>(
        &'a self,
        _caller: Caller<'a>,
        _session: SessionId,
        _last_event_id: Option<&'a str>,
    ) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::Status(404) })
    }

    fn end<'a>(&'a self, _caller: Caller<'a>, _session: SessionId) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::Status(404) })
    }
}

fn edge_of(keys: SessionKeys) -> Arc<Edge> {
    let (config, ending) = (Arc::new(Config::default()), Ending::default());
    let figures = Figures::new(&config, enfilade_runtime::Pressure::default());
    Arc::new(Edge::new(config, Arc::new(Nobody), Arc::new(keys), ending, figures))
}

/// A connection, and the other end of its pipe.
async fn opened() -> (JoinHandle<()>, DuplexStream) {
    let keys = SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough");
    let edge = edge_of(keys);
    let (here, there) = tokio::io::duplex(4096);
    let meter = Meter::new(here, &[], edge.figures.messages.empty());
    let ws = WebSocketStream::from_raw_socket(meter, Role::Server, Some(life::config(&edge))).await;
    let socket = Socket::new(edge, ServerId(0), ws, Start::default());
    (tokio::spawn(async { drop(life::run(Box::new(socket)).await) }), there)
}

async fn client(pipe: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(pipe, Role::Client, None).await
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_every_30_seconds_and_lives_as_long_as_it_answers() {
    let (task, pipe) = opened().await;
    let (mut client, opened) = (client(pipe).await, Instant::now());
    for n in 1..=5 {
        assert_eq!(client.next().await.expect("open").expect("a ping"), Message::Ping("".into()));
        assert_eq!(opened.elapsed(), PING_INTERVAL * n);
        client.flush().await.expect("the pong is sent");
    }
    client.close(None).await.expect("closed");
    assert!(matches!(client.next().await, Some(Ok(Message::Close(None)))));
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_sign_of_life_is_closed() {
    let (task, mut pipe) = opened().await;
    let opened = Instant::now();
    // Something that it says by itself keeps it for one more turn.
    tokio::time::sleep(PING_INTERVAL + Duration::from_secs(1)).await;
    pipe.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.expect("sent");
    task.await.expect("no panic");
    assert_eq!(opened.elapsed(), PING_INTERVAL * 3, "the third ping is not sent");
    let mut heard = Vec::new();
    pipe.read_to_end(&mut heard).await.expect("all of it");
    let close = heard.strip_prefix(&[0x89, 0, 0x89, 0, 0x88]).expect("two pings and the end");
    assert_eq!(close[1..3], 1011_u16.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn pongs_of_a_client_that_reads_nothing_do_not_pile_up() {
    let (task, mut pipe) = opened().await;
    let ping = [[0x89, 0xfd, 0, 0, 0, 0].as_slice(), &[b'p'; 125]].concat();
    let (mut taken, second) = (0, Duration::from_secs(1));
    while let Ok(Ok(())) = tokio::time::timeout(second, pipe.write_all(&ping)).await {
        taken += ping.len();
        assert!(taken < 64 * 1024, "it is not read without end");
    }
    task.await.expect("no panic");
    let mut heard = Vec::new();
    pipe.read_to_end(&mut heard).await.expect("all of it");
    assert!(heard.len() < 8 * 1024, "{} bytes were kept for it", heard.len());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_to_its_end_is_given_up() {
    let (task, mut pipe) = opened().await;
    let opened = Instant::now();
    // Pings are answered, as by a client that sends one part and forgets the rest.
    pipe.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.expect("sent");
    let mut client = client(pipe).await;
    let code = loop {
        match client.next().await.expect("open").expect("a frame") {
            Message::Ping(_) => client.flush().await.expect("the pong is sent"),
            Message::Close(Some(close)) => break close.code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, CloseCode::Policy);
    assert_eq!(opened.elapsed(), PING_INTERVAL * 3, "60 s have passed");
    task.await.expect("no panic");
}
