//! The router against scripted owners: what it does with every answer, and with none.

use super::*;
use crate::map::Map;
use crate::wire;
use enfilade_registry::{Command, Generation, MemoryRegistry, Reader, Roles, Term};
use enfilade_session::owner::ANONYMOUS;
use enfilade_session::slots::{AllSlots, Held};
use enfilade_session::stream::{Event, EventId, EventStream};
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const SAFE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
const UNSAFE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}"#;

fn run(node: u64) -> Run {
    Run { node: NodeId(node), generation: Generation(1) }
}

/// What a scripted owner says next.
enum Said {
    Reply(Reply),
    Stream(Vec<Result<Vec<Event>, Lost>>),
    NotSent,
    Lost,
}

fn answer(text: &'static str) -> Said {
    Said::Reply(Reply::Message { status: 200, body: text.into(), session: None, retry_after_s: None })
}

/// All owners of the test: this node's own, and those behind doors.
struct Scripted {
    said: Mutex<VecDeque<Said>>,
    /// Who was asked, under which term; 0 is this node.
    asked: Mutex<Vec<(u64, u64)>>,
    links: watch::Sender<Vec<NodeId>>,
}

impl Scripted {
    fn new(said: Vec<Said>) -> Arc<Self> {
        Arc::new(Self { said: Mutex::new(said.into()), asked: Mutex::default(), links: watch::Sender::new(Vec::new()) })
    }

    fn next(&self) -> Said {
        self.said.lock().pop_front().unwrap_or(Said::Reply(Reply::NotServed(NotServed::NotReady)))
    }

    fn here(&self) -> BoxFuture<'_, Reply> {
        self.asked.lock().push((0, 0));
        let reply = match self.next() {
            Said::Reply(reply) => reply,
            Said::Stream(_) | Said::NotSent | Said::Lost => Reply::Lost,
        };
        futures::future::ready(reply).boxed()
    }
}

impl Owner for Scripted {
    fn server_at(&self, _: &str) -> Option<ServerId> {
        Some(ServerId(0))
    }

    fn modern<'a>(
        &'a self,
        _: Caller<'a>,
        _: &'a Envelope<'a>,
        _: &'a Modern<'a>,
        _: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply> {
        self.here()
    }

    fn initialize<'a>(&'a self, _: Caller<'a>, _: &'a Envelope<'a>) -> BoxFuture<'a, Reply> {
        self.here()
    }

    fn legacy<'a>(&'a self, _: Caller<'a>, _: SessionId, _: Legacy<'a>) -> BoxFuture<'a, Reply> {
        self.here()
    }

    fn open_stream<'a>(&'a self, _: Caller<'a>, _: SessionId, _: Option<&'a str>) -> BoxFuture<'a, Reply> {
        self.here()
    }

    fn end<'a>(&'a self, _: Caller<'a>, _: SessionId) -> BoxFuture<'a, Reply> {
        self.here()
    }
}

impl Local for Scripted {
    fn is_safe(&self, _: ServerId, method: &str, _: Option<&str>) -> bool {
        method == "tools/list"
    }
}

impl Doors for Scripted {
    fn ask(&self, to: NodeId, fence: Option<Fence>, message: Payload) -> BoxFuture<'_, Result<Answered, Failed>> {
        let asked = wire::decode_ask(message).expect("a message that owners understand");
        assert_eq!(asked.head.server, "all");
        self.asked.lock().push((to.0, fence.map_or(0, |fence| fence.term.0)));
        let answered = |reply: &Reply, events| {
            let (fence, head) = wire::decode_reply(wire::encode_reply(fence, reply)).expect("readable");
            Ok(Answered { fence, head, events })
        };
        let result = match self.next() {
            Said::NotSent => Err(Failed::NotSent),
            Said::Lost => Err(Failed::Lost),
            Said::Reply(reply) => answered(&reply, None),
            Said::Stream(events) => {
                let stream = EventStream::remote(Box::new(futures::stream::empty()));
                let payloads = events.into_iter().map(|events| events.map(wire::encode_events));
                let payloads: Vec<_> = payloads.collect();
                answered(&Reply::Events { stream, session: None }, Some(futures::stream::iter(payloads).boxed()))
            }
        };
        futures::future::ready(result).boxed()
    }

    fn links(&self) -> watch::Receiver<Vec<NodeId>> {
        self.links.subscribe()
    }
}

/// This node owns nothing, but may mint.
#[derive(Default)]
struct NoSlots(watch::Sender<u64>);

impl Slots for NoSlots {
    fn fence(&self, _: Slot) -> Result<Fence, NotServed> {
        Err(NotServed::NotOwner)
    }

    fn holds(&self, _: Fence) -> Held {
        Held::Gone
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn mint(&self) -> Result<Slot, NotServed> {
        Slot::new(1).ok_or(NotServed::NotReady)
    }
}

/// This node is 1; the slots are those of `owner`.
struct Test {
    registry: MemoryRegistry,
    maps: Arc<Maps>,
    owners: Arc<Scripted>,
    router: Arc<Router>,
    session: SessionId,
    alone_ms: Arc<AtomicU64>,
}

impl Test {
    fn new(owner: u64, said: Vec<Said>) -> Self {
        let registry = MemoryRegistry::new();
        for node in 1..=3 {
            let (name, link) = (format!("node-{node}").into(), "127.0.0.1:1".into());
            let command = Command::Register { run: run(node), name, link, roles: Roles::ALL, formats: 1 };
            registry.apply(&command).expect("registered");
        }
        if owner != 0 {
            registry.apply(&Command::Assign { live: vec![run(owner)] }).expect("assigned");
        }
        let maps = Arc::new(Maps::new(Map { slots: registry.slot_table(), members: registry.members() }));
        let owners = Scripted::new(said);
        let keys = Arc::new(SessionKeys::new(1, &[7; 32]).expect("keys"));
        let session = keys.mint(Slot::new(9).expect("a slot"), [1; 16]);
        let alone_ms = Arc::new(AtomicU64::new(0));
        let now = alone_ms.clone();
        let router = Router::new(Parts {
            me: run(1),
            owns: true,
            local: owners.clone(),
            doors: owners.clone(),
            slots: if owner == 1 { Arc::new(AllSlots::new(Term(1))) } else { Arc::new(NoSlots::default()) },
            alone_ms: Box::new(move || now.load(Ordering::Relaxed)),
            alone_ms_max: 60_000,
            maps: maps.clone(),
            loads: Arc::default(),
            keys,
            servers: vec!["all".into()],
            timing: Timing::default(),
        });
        Self { registry, maps, owners, router, session, alone_ms }
    }

    fn publish(&self) {
        let map = Map { slots: self.registry.slot_table(), members: self.registry.members() };
        self.maps.publish(Arc::new(map));
    }

    async fn ask(&self, text: &str) -> Reply {
        let envelope = Envelope::parse(text.as_bytes()).expect("a message");
        let caller = Caller { server: ServerId(0), principal: ANONYMOUS };
        self.router.legacy(caller, self.session, Legacy::One { envelope: &envelope, version: None, again: false }).await
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.owners.asked.lock())
    }
}

fn text(reply: &Reply) -> (u16, String) {
    match reply {
        Reply::Message { status, body, .. } => (*status, String::from_utf8(body.to_vec()).expect("text")),
        other => panic!("{other:?}"),
    }
}

fn is_unknown(reply: &Reply) -> bool {
    let (status, text) = text(reply);
    status == 200
        && text.contains("\"id\":7")
        && text.contains("outcome is unknown")
        && text.contains("\"retry\":false")
}

#[tokio::test(start_paused = true)]
async fn the_owner_is_asked_wherever_it_is() {
    let here = Test::new(1, vec![answer("{\"a\":1}")]);
    assert_eq!((text(&here.ask(UNSAFE).await), here.asked()), ((200, "{\"a\":1}".into()), vec![(0, 0)]));
    let there = Test::new(2, vec![answer("{\"a\":2}")]);
    assert_eq!((text(&there.ask(UNSAFE).await), there.asked()), ((200, "{\"a\":2}".into()), vec![(2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_executed_is_tried_again_even_if_unsafe() {
    let not_served = |why| Said::Reply(Reply::NotServed(why));
    let said = vec![not_served(NotServed::Busy), Said::NotSent, not_served(NotServed::NotOwner), answer("{}")];
    let test = Test::new(2, said);
    assert_eq!(text(&test.ask(UNSAFE).await).0, 200);
    assert_eq!(test.asked(), [(2, 1); 4]);
}

#[tokio::test(start_paused = true)]
async fn nobody_serves_for_the_whole_hold_time() {
    for owner in [0, 1, 2] {
        let test = Test::new(owner, Vec::new());
        let started = Instant::now();
        let reply = test.ask(UNSAFE).await;
        let (status, text) = text(&reply);
        assert!(status == 503 && text.contains("\"retry\":true") && text.contains("\"id\":7"), "{text}");
        assert!(matches!(reply, Reply::Message { retry_after_s: Some(_), .. }));
        let waited = started.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_call_that_may_have_run_is_never_sent_again() {
    for said in [Said::Lost, Said::Reply(Reply::Lost)] {
        let test = Test::new(2, vec![said, answer("{}")]);
        assert!(is_unknown(&test.ask(UNSAFE).await));
        assert_eq!(test.asked().len(), 1);
    }
    let here = Test::new(1, vec![Said::Reply(Reply::Lost), answer("{}")]);
    assert!(is_unknown(&here.ask(UNSAFE).await));
    assert_eq!(here.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_safe_call_is_sent_again_once() {
    let test = Test::new(2, vec![Said::Lost, answer("{}")]);
    assert_eq!(text(&test.ask(SAFE).await).0, 200);
    let test = Test::new(2, vec![Said::Lost, Said::NotSent, Said::Lost, answer("{}")]);
    assert!(is_unknown(&test.ask(SAFE).await));
    assert_eq!(test.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_is_asked_as_soon_as_it_is_known() {
    let test = Test::new(2, vec![Said::Reply(Reply::NotServed(NotServed::NotReady)), answer("{}")]);
    let take = async {
        tokio::task::yield_now().await;
        test.registry
            .apply(&Command::Take { lost: run(2), live: vec![run(3)], epoch: 0, upto: u64::MAX })
            .expect("taken");
        test.publish();
    };
    let (reply, ()) = tokio::join!(test.ask(UNSAFE), take);
    assert_eq!((text(&reply).0, test.asked()), (200, vec![(2, 1), (3, 2)]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_term_that_is_over_is_dropped() {
    let test = Test::new(2, vec![answer("{\"late\":1}"), answer("{\"late\":2}"), answer("{\"new\":1}")]);
    assert!(test.router.seen.accept(Fence { slot: test.session.slot(), term: Term(2) }));
    assert!(is_unknown(&test.ask(UNSAFE).await));
    let learn = async {
        tokio::task::yield_now().await;
        test.registry
            .apply(&Command::Take { lost: run(2), live: vec![run(3)], epoch: 0, upto: u64::MAX })
            .expect("taken");
        test.publish();
    };
    let (reply, ()) = tokio::join!(test.ask(SAFE), learn);
    assert_eq!(text(&reply).1, "{\"new\":1}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_and_its_loss_is_told_to_who_cannot_resume() {
    let event = |seq: Option<u64>, data: &'static str| Event {
        id: seq.map(|seq| EventId { stream: 1, term: 1, seq }),
        data: data.into(),
    };
    let cases = [
        (vec![Ok(vec![event(Some(0), "a")]), Ok(vec![event(Some(1), "b"), event(None, "n")])], 3, false),
        (vec![Ok(vec![event(Some(0), "a")]), Err(Lost)], 1, false),
        (vec![Ok(vec![event(None, "a")]), Err(Lost)], 2, true),
        (vec![Err(Lost)], 1, true),
    ];
    for (events, count, unknown) in cases {
        let test = Test::new(2, vec![Said::Stream(events)]);
        let Reply::Events { stream, .. } = test.ask(UNSAFE).await else { panic!("no stream") };
        let events: Vec<Event> = stream.collect().await;
        let last = String::from_utf8(events.last().expect("an event").data.to_vec()).expect("text");
        assert_eq!((events.len(), last.contains("unknown") && last.contains("\"id\":7")), (count, unknown), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_after_a_lost_one_says_that_it_is_ended() {
    let gone = || Said::Reply(Reply::Message { status: 404, body: "{}".into(), session: None, retry_after_s: None });
    let caller = Caller { server: ServerId(0), principal: ANONYMOUS };
    let test = Test::new(2, vec![Said::Lost, gone(), gone()]);
    assert!(matches!(test.router.end(caller, test.session).await, Reply::Status(200)));
    assert!(matches!(test.router.end(caller, test.session).await, Reply::Message { status: 404, .. }));
    let test = Test::new(2, vec![Said::Lost, Said::Lost, Said::Lost, Said::Lost]);
    let refused = |reply| matches!(reply, Reply::Message { status: 503, retry_after_s: Some(_), .. });
    assert!(refused(test.router.end(caller, test.session).await), "nobody knows whether it is ended");
    assert!(refused(test.router.open_stream(caller, test.session, None).await), "a stream is not an answer");
}

#[tokio::test(start_paused = true)]
async fn without_the_registry_requests_without_a_slot_go_on_for_a_while() {
    struct NoHeaders;
    impl HeaderLookup for NoHeaders {
        fn header(&self, _: &str) -> Option<&str> {
            None
        }
    }
    let caller = Caller { server: ServerId(0), principal: ANONYMOUS };
    let request = Envelope::parse(SAFE.as_bytes()).expect("a message");
    let meta = Modern { capabilities: "{}", client_info: None, log_level: None, progress_token: None };
    let test = Test::new(0, vec![answer("{}"), answer("{}")]);
    for (alone_ms, expected) in [(0, 200), (60_000, 200), (60_001, 503)] {
        test.alone_ms.store(alone_ms, Ordering::Relaxed);
        assert_eq!(text(&test.router.modern(caller, &request, &meta, &NoHeaders).await).0, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn new_sessions_go_elsewhere_when_this_node_does_too_much() {
    let caller = Caller { server: ServerId(0), principal: ANONYMOUS };
    let request = Envelope::parse(br#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#).expect("a message");
    let test = Test::new(2, vec![answer("{}"), answer("{}"), Said::NotSent, answer("{}")]);
    test.router.initialize(caller, &request).await;
    assert_eq!(test.asked(), [(0, 0)]);
    test.router.parts.loads.set([(NodeId(1), 90), (NodeId(2), 30), (NodeId(3), 30)].into());
    test.router.initialize(caller, &request).await;
    let asked = test.asked();
    assert!(asked == [(2, 0)] || asked == [(3, 0)], "{asked:?}");
    test.router.initialize(caller, &request).await;
    assert_eq!(test.asked().last(), Some(&(0, 0)), "better here than nowhere");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_refused_at_once_when_no_owner_has_memory_for_it() {
    let full = || Said::Reply(Reply::NotServed(NotServed::Full));
    let caller = Caller { server: ServerId(0), principal: ANONYMOUS };
    let request = Envelope::parse(br#"{"jsonrpc":"2.0","id":7,"method":"initialize"}"#).expect("a message");
    let test = Test::new(2, vec![full(), answer("{}")]);
    let started = Instant::now();
    assert_eq!(text(&test.router.initialize(caller, &request).await).0, 200, "another one has");
    test.asked();
    test.owners.said.lock().extend([full(), full(), full(), answer("{}")]);
    let reply = test.router.initialize(caller, &request).await;
    let (status, said) = text(&reply);
    assert!(
        status == 503 && said.contains("memory") && said.contains("\"id\":7") && said.contains("\"retry\":true"),
        "{said}"
    );
    assert!(matches!(reply, Reply::Message { retry_after_s: Some(_), .. }));
    let mut asked: Vec<u64> = test.asked().into_iter().map(|(node, _)| node).collect();
    asked.sort_unstable();
    let owners = test.maps.now().owners().count();
    assert!(asked.len() >= owners && asked.windows(2).all(|two| two[0] != two[1]), "each once: {asked:?} of {owners}");
    assert_eq!(started.elapsed(), Duration::ZERO);
}
