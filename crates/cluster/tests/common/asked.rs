//! Clients that read a stream event by event, and those that upstreams ask something.

use super::{CALLER, World, within};
use enfilade_cluster::Router;
use enfilade_mcp::Envelope;
use enfilade_registry::SessionId;
use enfilade_session::owner::{Legacy, Owner, Reply};
use enfilade_session::stream::EventId;
use tokio::sync::mpsc;

/// A session of a client that can be asked.
pub async fn open(world: &World, owner: usize) -> SessionId {
    loop {
        let router = world.nodes[owner].router.clone();
        let reply = world.nodes[owner].spawn(async move {
            let text = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{},"sampling":{}},"clientInfo":{"name":"test","version":"1"}}}"#;
            router.initialize(CALLER, &Envelope::parse(text.as_bytes()).unwrap()).await
        });
        let Reply::Message { session: Some(session), .. } = within(reply).await.unwrap() else { panic!("no session") };
        if world.owner(owner, session) == Some(owner) {
            return session;
        }
    }
}

/// Posts a request; what comes is told one by one.
pub fn post(world: &World, at: usize, session: SessionId, text: &'static str) -> mpsc::Receiver<String> {
    let (sender, events) = mpsc::channel(64);
    let router = world.nodes[at].router.clone();
    world.nodes[at].spawn(async move {
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let reply =
            router.legacy(CALLER, session, Legacy::One { envelope: &envelope, version: None, again: false }).await;
        let Reply::Events { mut stream, .. } = reply else { panic!("{reply:?}") };
        while let Some(event) = stream.next().await {
            if !event.data.is_empty() {
                sender.send(String::from_utf8(event.data.to_vec()).unwrap()).await.unwrap();
            }
        }
    });
    events
}

/// Posts a request and reads so many of the events that follow; then the client is gone.
pub async fn read(router: &Router, session: SessionId, text: &str, count: usize) -> Vec<EventId> {
    let envelope = Envelope::parse(text.as_bytes()).unwrap();
    let reply = router.legacy(CALLER, session, Legacy::One { envelope: &envelope, version: None, again: false }).await;
    let Reply::Events { mut stream, .. } = reply else { panic!("{reply:?}") };
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.extend(stream.next().await.expect("it goes on").id);
    }
    ids
}
