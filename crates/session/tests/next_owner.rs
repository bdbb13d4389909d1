//! What the next owner goes on with: what the second has when the owner is lost, and what a planned move hands over.

#[path = "common/answered.rs"]
mod answered;
mod common;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/slots.rs"]
mod slots;

use answered::*;
use common::{CALLER, Client, World, all, content, events as events_of, next, until, value, within};
use enfilade_registry::{Fence, NotServed, SessionId, Slot, Term};
use enfilade_session::config::{Limits, PrefixChoice};
use enfilade_session::copy::{Book, Confirm, Copies, CopyEntry, SessionCopy};
use enfilade_session::owner::{Owner, Reply};
use enfilade_session::stream::EventStream;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use slots::{Lease, Second};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

#[tokio::test]
async fn the_next_owner_goes_on_without_gap_or_double_and_says_that_the_outcome_is_unknown() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let world = world(&server, lease.clone(), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (read, _running) = half_a_call(&client, &mut server, 3).await;
    second.until(5).await;
    lease.renew(4);

    let next_owner = world.beside(vec![server.config()], quick(), Arc::new(Lease::new(4)), second.clone());
    let client = next_owner.again(client.id);
    let last = read.last().unwrap().id.unwrap();
    let mut rest = Vec::new();
    let mut stream = client.stream(Some(&last.to_string())).await;
    while let Some(event) = within(stream.next()).await {
        rest.push(event);
    }
    let ids: Vec<u64> = read.iter().chain(&rest).map(|event| event.id.unwrap().seq).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4], "the priming event, three times progress, and the end");
    assert!(rest.iter().all(|event| event.id.unwrap().term == 3), "the term in which the stream was opened");
    assert_eq!(text(&rest[0])["params"]["progress"], 3);
    let unknown = text(&rest[1]);
    assert_eq!((&unknown["id"], &unknown["error"]["data"]["outcome"]), (&json!(7), &json!("unknown")), "{unknown}");
    assert_eq!(unknown["error"]["data"]["retry"], false);
    // Lists may have changed while nobody told; and the session goes on in its upstream session.
    let mut general = client.stream(None).await;
    assert!(next(&mut general).await.unwrap().contains("list_changed"));
    let (answer, ()) = tokio::join!(client.call("t", "{}"), async { server.call().await.answer("on").await });
    assert_eq!(content(&answer), "on");
    assert_eq!((server.heard("DELETE"), server.heard("initialize")), (0, 3), "one per node for itself, one session");
    let again = client.stream(Some(&rest[0].id.unwrap().to_string())).await;
    assert_eq!(all(again).await.len(), 1, "it may be read again");
}

#[tokio::test]
async fn a_call_that_is_lost_before_its_slot_is_released_stays_open_for_the_next_owner() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let limits = Limits { head_wait_ms: 1, ..quick() };
    let upstreams = vec![server.config()];
    let world = World::among(upstreams, PrefixChoice::Always, limits, lease.clone(), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (reply, running) = tokio::join!(client.post(CALL), server.call());
    let first = event(&mut events_of(reply)).await.id.unwrap();
    lease.renew(4);
    running.answer("too late").await;
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;

    let next_owner = world.beside(vec![server.config()], quick(), Arc::new(Lease::new(4)), second.clone());
    let client = next_owner.again(client.id);
    let rest = all(client.stream(Some(&first.to_string())).await).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(value(&rest[0])["error"]["data"]["outcome"], "unknown");
}

#[tokio::test]
async fn a_stream_that_said_nothing_yet_goes_on_at_the_next_owner() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let limits = Limits { head_wait_ms: 1, ..quick() };
    let upstreams = vec![server.config()];
    let world = World::among(upstreams, PrefixChoice::Always, limits, lease.clone(), second.clone());
    // A revision without priming events: the client knows no event id.
    let client = world.open("2025-06-18", "{}").await;
    let (reply, _running) = tokio::join!(client.post(CALL), server.call());
    let stream = events_of(reply);
    let position = stream.position().unwrap();
    lease.renew(4);
    world.node.release(Slot::MIN, Term(4));
    assert!(stream.is_lost() && all(stream).await.is_empty());

    let next_owner = world.beside(vec![server.config()], quick(), Arc::new(Lease::new(4)), second.clone());
    next_owner.node.adopt(Slot::MIN);
    // What was taken up is told to the next second.
    *second.book.lock().unwrap() = Book::default();
    next_owner.node.tell_copy(Slot::MIN, &|_, entry| second.book.lock().unwrap().apply(entry));
    assert!(second.restore(&client.id).unwrap().bytes() > 0);
    let client = next_owner.again(client.id);
    let rest = all(client.stream(Some(&position.to_string())).await).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(value(&rest[0])["error"]["data"]["outcome"], "unknown");
}

#[tokio::test]
async fn an_event_that_the_second_does_not_have_does_not_leave() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let world = world(&server, lease, second.clone());
    let client = world.open("2025-06-18", "{}").await;
    second.hold();
    let (reply, running) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        running.progress(1).await;
        running
    });
    let mut stream = events_of(reply);
    running.answer("done").await;
    tokio::select! {
        event = stream.next() => panic!("it left: {event:?}"),
        () = second.until(4) => {}
    }
    second.confirm();
    assert_eq!(all(stream).await.len(), 2);
}

#[tokio::test]
async fn a_new_second_is_told_what_the_old_one_knew() {
    let mut server = Server::start().await;
    let second = Arc::new(Second::default());
    let world = world(&server, Arc::new(Lease::new(3)), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (_read, _running) = half_a_call(&client, &mut server, 3).await;
    second.until(5).await;
    let known = second.restore(&client.id);
    let mut snapshot = Book::default();
    world.node.snapshot(Slot::MIN).into_iter().for_each(|entry| snapshot.apply(entry));
    assert_eq!(snapshot.session(&client.id), known);
    *second.book.lock().unwrap() = Book::default();
    world.node.tell_copy(Slot::MIN, &|_, entry| second.book.lock().unwrap().apply(entry));
    assert_eq!(second.restore(&client.id), known);
    assert!(matches!(world.node.end(CALLER, client.id).await, Reply::Status(200)));
    assert_eq!(second.restore(&client.id), None);
}
/// What the next owner got with a planned move.
struct Handed(Second);

impl Copies for Handed {
    fn append(&self, fence: Fence, entry: CopyEntry, confirm: Confirm) {
        self.0.append(fence, entry, confirm);
    }

    fn restore(&self, session: &SessionId) -> Option<SessionCopy> {
        self.0.restore(session).map(SessionCopy::moved)
    }
}

/// A call whose client has read two events, when its slot is frozen: the stream, the call, and what the next owner gets.
async fn frozen(world: &World, client: &Client<'_>, server: &mut Server) -> (EventStream, Running, Arc<Handed>) {
    let (reply, running) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        until(|| async { world.node.commit(Slot::MIN) }, |waiting| *waiting == 0).await;
        running
    });
    let mut stream = events_of(reply);
    running.progress(1).await;
    assert_eq!(event(&mut stream).await.data, "", "the priming event");
    assert_eq!(text(&event(&mut stream).await)["params"]["progress"], 1);
    let handed = Handed(Second::default());
    world.node.freeze(Slot::MIN).into_iter().for_each(|entry| handed.0.book.lock().unwrap().apply(entry));
    (stream, running, Arc::new(handed))
}

#[tokio::test]
async fn what_a_call_says_while_its_slot_is_frozen_leaves_after_an_abort() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let world = world(&server, lease.clone(), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (mut stream, running, _) = frozen(&world, &client, &mut server).await;
    running.progress(2).await;
    running.answer("here").await;
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
    second.until(3).await;
    let told = second.restore(&client.id);
    assert!(stream.next().now_or_never().is_none(), "nothing of it leaves");
    world.node.renew(Slot::MIN, Term(4));
    lease.renew(4);
    assert_eq!(text(&event(&mut stream).await)["params"]["progress"], 2);
    assert_eq!(text(&event(&mut stream).await)["id"], 7);
    assert_eq!(within(stream.next()).await, None);
    assert_ne!(second.restore(&client.id), told, "the second has it now");
}

#[tokio::test]
async fn a_call_goes_on_at_its_former_owner_and_its_stream_at_the_next_one() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let world = world(&server, lease.clone(), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (mut stream, running, handed) = frozen(&world, &client, &mut server).await;
    running.progress(2).await;
    let calls = world.node.hand_over(Slot::MIN, Term(4)).expect("one is under way");
    lease.renew(4);
    assert_eq!(within(stream.next()).await, None);
    assert!(stream.is_moved());
    let position = stream.position().unwrap().to_string();

    let next_owner = world.beside(vec![server.config()], quick(), Arc::new(Lease::new(4)), handed);
    let fence = Fence { slot: Slot::MIN, term: Term(4) };
    assert!(next_owner.node.foreign(Fence { term: Term(3), ..fence }).is_none(), "of another term");
    next_owner.node.adopt(Slot::MIN);
    assert_eq!(next_owner.node.commit(Slot::MIN), 1, "not to be moved on before the former owner has begun");
    let foreign = next_owner.node.foreign(fence).expect("it serves the slot");
    let client = next_owner.again(client.id);
    let mut rest = client.stream(Some(&position)).await;
    assert_eq!(next_owner.node.commit(Slot::MIN), 0, "it may be moved on");
    within(calls.next()).await.expect("what was held").into_iter().for_each(|entry| foreign.take(entry));
    assert_eq!(text(&event(&mut rest).await)["params"]["progress"], 2);
    running.answer("done").await;
    while let Some(said) = within(calls.next()).await {
        said.into_iter().for_each(|entry| foreign.take(entry));
    }
    let answer = event(&mut rest).await;
    assert_eq!((text(&answer)["id"].clone(), answer.id.unwrap().seq, answer.id.unwrap().term), (json!(7), 3, 3));
    assert_eq!(within(rest.next()).await, None);
    assert_eq!((next_owner.node.in_flight_of(Slot::MIN), server.heard("tools/call")), (0, 1));
}

#[tokio::test]
async fn what_comes_through_the_door_as_it_is_shut_is_begun_by_the_next_owner() {
    let batch = r#"[{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{}}}]"#;
    for version in ["2025-11-25", "2025-03-26"] {
        let server = Server::start().await;
        let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
        let world = world(&server, lease.clone(), second.clone());
        let client = world.open(version, "{}").await;
        // It has found its session, and the slot is frozen before it has begun anything.
        let node = world.node.clone();
        lease.pause_behind(1, move || {
            assert_eq!(node.commit(Slot::MIN), 0);
            assert!(node.freeze(Slot::MIN).is_empty());
        });
        let reply = match version {
            "2025-03-26" => within(client.batch(batch)).await,
            _ => within(client.post(CALL)).await,
        };
        assert!(matches!(reply, Reply::NotServed(NotServed::NotReady)), "{version}: {reply:?}");
        assert!(world.node.hand_over(Slot::MIN, Term(4)).is_none(), "nothing is left to finish here");
        assert_eq!(server.heard("tools/call"), 0);
    }
}

/// Who carries what calls say, and looks at once whenever there may be more.
struct Carrier {
    next: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Wake for Carrier {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut next = self.next.lock().unwrap();
        if next.as_mut().is_some_and(|next| next.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()) {
            *next = None;
        }
    }
}

#[tokio::test]
async fn who_hears_that_calls_of_a_moved_slot_are_over_finds_none_in_flight() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let world = world(&server, lease.clone(), Arc::new(Second::default()));
    let client = world.open("2025-11-25", "{}").await;
    let (_stream, running, _) = frozen(&world, &client, &mut server).await;
    let calls = world.node.hand_over(Slot::MIN, Term(4)).expect("one is under way");
    lease.renew(4);
    let (node, (over, left)) = (world.node.clone(), tokio::sync::oneshot::channel());
    let next = async move {
        while calls.next().await.is_some() {}
        over.send(node.in_flight()).unwrap();
    };
    Arc::new(Carrier { next: Mutex::new(Some(next.boxed())) }).wake();
    running.answer("done").await;
    assert_eq!(within(left).await, Ok(0));
}

#[tokio::test]
async fn what_a_former_owner_leaves_is_unknown_and_it_hears_of_a_cancel() {
    let mut server = Server::start().await;
    let (lease, second) = (Arc::new(Lease::new(3)), Arc::new(Second::default()));
    let world = world(&server, lease.clone(), second.clone());
    let client = world.open("2025-11-25", "{}").await;
    let (_stream, _running, handed) = frozen(&world, &client, &mut server).await;
    let calls = world.node.hand_over(Slot::MIN, Term(4)).expect("one is under way");
    lease.renew(4);
    let next_owner = world.beside(vec![server.config()], quick(), Arc::new(Lease::new(4)), handed);
    let foreign = next_owner.node.foreign(Fence { slot: Slot::MIN, term: Term(4) }).expect("it serves the slot");
    let client = next_owner.again(client.id);
    assert!(common::last(client.post(CALL).await).await.contains("in flight already"));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert!(matches!(client.post(cancel).await, Reply::Accepted));
    calls.hear(within(foreign.next()).await);
    until(|| async { server.heard("notifications/cancelled") }, |heard| *heard == 1).await;
    // Its end is not carried over.
    let mut rest = client.stream(Some("1.3.1")).await;
    drop((calls, foreign));
    assert_eq!(text(&event(&mut rest).await)["error"]["data"]["outcome"], "unknown");
    assert_eq!(within(rest.next()).await, None);
}
