use super::*;
use crate::copy::{Book, Copies, CopyEntry, SessionCopy};
use crate::slots::AllSlots;
use enfilade_registry::{Fence, SessionId, SessionKeys, Slot, Term};
use futures::FutureExt;

fn drain(reader: &mut EventStream) -> Vec<(Option<u64>, Bytes)> {
    let mut out = Vec::new();
    while let Some(Some(event)) = reader.next().now_or_never() {
        out.push((event.id.map(|id| id.seq), event.data));
    }
    out
}

#[test]
fn a_resumed_stream_has_no_gap_and_no_double() {
    let stream = Stream::new(3, 1, Kind::Resumable { priming: true });
    let mut first = stream.attach(None).unwrap();
    stream.send("a");
    stream.send("b");
    assert_eq!(drain(&mut first), [(Some(0), "".into()), (Some(1), "a".into()), (Some(2), "b".into())]);
    stream.send("c");
    let mut second = stream.attach(Some(1)).unwrap();
    assert_eq!(first.next().now_or_never(), Some(None), "the older reader ends");
    assert_eq!(drain(&mut second), [(Some(2), "b".into()), (Some(3), "c".into())]);
    stream.finish();
    assert_eq!(second.next().now_or_never(), Some(None));
    assert!(stream.attach(Some(9)).is_none(), "an event that was never sent");
}

#[test]
fn notices_of_one_subject_coalesce_and_carry_no_id() {
    let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
    stream.notice("tools", "1".into());
    stream.notice("a", "2".into());
    stream.notice("tools", "3".into());
    assert_eq!(drain(&mut stream.attach(None).unwrap()), [(None, "3".into()), (None, "2".into())]);
}

#[test]
fn an_ephemeral_stream_ends_with_its_reader() {
    let stream = Stream::new(0, 1, Kind::Ephemeral);
    let reader = stream.attach(None).unwrap();
    assert!(stream.abandoned().now_or_never().is_none());
    drop(reader);
    assert!(stream.abandoned().now_or_never().is_some());
}

#[test]
fn a_reader_that_stands_still_is_closed_and_loses_no_answer() {
    let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
    let mut reader = stream.attach(None).unwrap();
    stream.send("first");
    assert_eq!(drain(&mut reader).len(), 1);
    let chunk = Bytes::from(vec![b'x'; STREAM_BYTES_MAX / 4]);
    for _ in 0..10 {
        assert!(stream.send_droppable(chunk.clone()));
    }
    assert!(stream.is_attached() && stream.dropped() >= 5, "progress goes first: {}", stream.dropped());
    for _ in 0..10 {
        assert!(stream.send(chunk.clone()));
    }
    assert_eq!(reader.next().now_or_never(), Some(None), "then the connection is closed");
    assert!(stream.send("answer"));
    stream.finish();
    let rest = drain(&mut stream.attach(Some(0)).unwrap());
    assert_eq!((rest.last().unwrap().1.as_ref(), rest.len()), (&b"answer"[..], 11));
}

#[test]
fn a_modern_reader_that_stands_still_ends_its_call() {
    let stream = Stream::new(0, 1, Kind::Ephemeral);
    let mut reader = stream.attach(None).unwrap();
    stream.send("small");
    stream.send(Bytes::from(vec![b'x'; STREAM_BYTES_MAX + 1]));
    assert!(stream.abandoned().now_or_never().is_none(), "one large message is no fault");
    stream.send("more");
    assert!(stream.abandoned().now_or_never().is_some());
    assert_eq!(reader.next().now_or_never(), Some(None));
}

#[test]
fn what_was_read_is_not_read_again_without_being_asked_for() {
    let stream = Stream::new(0, 1, Kind::Resumable { priming: false });
    let mut reader = stream.attach(None).unwrap();
    stream.send("question");
    assert_eq!(drain(&mut reader).len(), 1);
    drop(reader);
    stream.send("later");
    assert_eq!(drain(&mut stream.attach(None).unwrap()), [(Some(1), "later".into())]);
}

#[test]
fn notices_are_bounded_in_bytes() {
    let stream = Stream::new(0, 1, Kind::Ephemeral);
    for at in 0..40 {
        stream.notice(at.to_string(), Bytes::from(vec![b'x'; NOTICES_BYTES_MAX / 10]));
    }
    assert_eq!(stream.dropped(), 30);
}

#[test]
fn event_ids_go_there_and_back() {
    let id = EventId { stream: 1, term: 2, seq: 3 };
    assert_eq!(EventId::parse(&id.to_string()), Some(id));
    for bad in ["", "1.2", "a.b.c", "1.2.3.4", "-1.0.0"] {
        assert_eq!(EventId::parse(bad), None, "{bad}");
    }
}

/// A second that confirms when it is told to.
#[derive(Default)]
struct Second {
    book: Mutex<Book>,
    told: Mutex<Vec<CopyChange>>,
    waiting: Mutex<Vec<Confirm>>,
}

impl Copies for Second {
    fn append(&self, _: Fence, entry: CopyEntry, confirm: Confirm) {
        self.told.lock().push(entry.change.clone());
        self.book.lock().apply(entry);
        self.waiting.lock().push(confirm);
    }

    fn restore(&self, session: &SessionId) -> Option<SessionCopy> {
        self.book.lock().session(session)
    }
}

impl Second {
    fn confirm(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Confirm::confirm);
    }
}

const RESUMABLE: Kind = Kind::Resumable { priming: false };

fn session() -> SessionId {
    SessionKeys::new(1, &[7; 32]).unwrap().mint(Slot::MIN, [1; 16])
}

fn copied() -> (Arc<Second>, Arc<Gate>) {
    let second = Arc::new(Second::default());
    let gate = Gate::new(Arc::new(AllSlots::new(Term(5))), second.clone(), session(), Term(5));
    (second, gate)
}

fn call(id: &str) -> Vec<OpenCall> {
    vec![OpenCall { id: id.into(), safe: false }]
}

fn opened(gate: &Arc<Gate>, kind: Kind) -> Arc<Stream> {
    let stream = Stream::of(gate, 1, kind, call("7"));
    stream.begin();
    stream
}

#[test]
fn an_event_leaves_after_the_second_has_it_and_notices_do_not_wait() {
    let (second, gate) = copied();
    let stream = opened(&gate, Kind::Resumable { priming: true });
    let mut reader = stream.attach(None).unwrap();
    stream.send("a");
    stream.notice("n", "note".into());
    assert_eq!(drain(&mut reader), [(None, "note".into())]);
    second.confirm();
    stream.send("b");
    assert_eq!(drain(&mut reader), [(Some(0), "".into()), (Some(1), "a".into())]);
    stream.close();
    assert_eq!(reader.next().now_or_never(), None, "the end waits for what comes before it");
    second.confirm();
    assert_eq!(drain(&mut reader), [(Some(2), "b".into())]);
    assert_eq!(reader.next().now_or_never(), Some(None));
    let told = second.told.lock();
    assert_eq!(told[0], CopyChange::Open { stream: 1, term: 5, calls: call("7") });
    assert_eq!(told.last(), Some(&CopyChange::Close { stream: 1 }));
    assert_eq!(told.len(), 5);
}

#[test]
fn a_confirmation_in_the_middle_of_an_append_blocks_nobody() {
    struct Alone;
    impl Copies for Alone {
        fn append(&self, _: Fence, _: CopyEntry, confirm: Confirm) {
            confirm.confirm();
        }
        fn restore(&self, _: &SessionId) -> Option<SessionCopy> {
            None
        }
    }
    let gate = Gate::new(Arc::new(AllSlots::new(Term(5))), Arc::new(Alone), session(), Term(5));
    let stream = opened(&gate, Kind::Resumable { priming: true });
    stream.send("a");
    assert_eq!(drain(&mut stream.attach(None).unwrap()).len(), 2);
}

#[test]
fn the_second_holds_what_the_owner_holds_and_little_more() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    let mut reader = stream.attach(None).unwrap();
    for _ in 0..STREAM_EVENTS_KEPT * 4 {
        stream.send_droppable("progress");
        second.confirm();
        assert_eq!(drain(&mut reader).len(), 1);
    }
    let copy = second.restore(&session()).unwrap();
    let held = copy.streams[&1].events.len();
    assert!((STREAM_EVENTS_KEPT..STREAM_EVENTS_KEPT + 65).contains(&held), "{held}");
    let told = second.told.lock().len();
    let events = STREAM_EVENTS_KEPT * 4;
    assert!(told <= events + events / 64, "one entry per event, and one per 64 that says what may go: {told}");
}

#[test]
fn a_large_backlog_that_was_read_is_not_held_on() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    for _ in 0..32 {
        stream.send(Bytes::from(vec![b'x'; STREAM_BYTES_MAX / 4]));
    }
    second.confirm();
    assert!(second.book.lock().bytes() >= 8 * STREAM_BYTES_MAX);
    assert_eq!(drain(&mut stream.attach(None).unwrap()).len(), 32);
    assert!(second.book.lock().bytes() <= STREAM_BYTES_MAX + STREAM_BYTES_MAX / 4);
}

#[test]
fn a_restored_stream_goes_on_where_it_was_under_its_own_term() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    for message in ["a", "b", "c"] {
        stream.send(message);
    }
    let copy = second.restore(&session()).unwrap().streams.remove(&1).unwrap();
    assert_eq!(copy.calls, call("7"));
    let later = Gate::new(Arc::new(AllSlots::new(Term(9))), second.clone(), session(), Term(9));
    let restored = Stream::restored(&later, 1, RESUMABLE, copy);
    restored.send_answer(r#"{"id":7}"#.into());
    let mut reader = restored.attach(Some(0)).unwrap();
    assert_eq!(drain(&mut reader), [(Some(1), "b".into()), (Some(2), "c".into())], "d is not confirmed");
    second.confirm();
    let event = reader.next().now_or_never().unwrap().unwrap();
    assert_eq!(event.id, Some(EventId { stream: 1, term: 5, seq: 3 }));
    assert!(restored.attach(Some(9)).is_none());
    assert!(second.restore(&session()).unwrap().streams[&1].calls.is_empty(), "it is answered");
}

#[test]
fn what_is_told_again_is_the_same_copy() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    stream.send("a");
    stream.send_droppable("b");
    let known = second.restore(&session()).unwrap();
    stream.tell(|change| gate.append(change, Confirm::nobody()));
    assert_eq!(second.restore(&session()).unwrap(), known, "told to one who knows");
    second.book.lock().forget_slot(Slot::MIN);
    stream.tell(|change| gate.append(change, Confirm::nobody()));
    assert_eq!(second.restore(&session()).unwrap(), known, "told to one who does not");
}

#[test]
fn what_is_given_up_while_a_copy_begins_is_not_told_to_it_afterwards() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    stream.send_answer(r#"{"id":7}"#.into());
    stream.close();
    stream.forgotten();
    assert_eq!(second.told.lock().last(), Some(&CopyChange::Forget { stream: 1 }));
    // Whoever tells everything there is had found it before.
    stream.tell(|change| panic!("{change:?}"));
    stream.forgotten();
    assert_eq!(second.told.lock().len(), 4);
    let told = Mutex::new(Vec::new());
    gate.tell_copy(CopyChange::Trim { stream: 2, before: 1 }, |fence, _| told.lock().push(fence));
    assert_eq!(*told.lock(), [gate.fence()]);
    gate.end();
    gate.tell_copy(CopyChange::Trim { stream: 2, before: 1 }, |_, entry| panic!("{entry:?}"));
    gate.end();
    assert_eq!(second.told.lock().iter().filter(|change| **change == CopyChange::End).count(), 1);
}

#[test]
fn a_lost_stream_says_nothing_more_to_anybody() {
    let (second, gate) = copied();
    let stream = opened(&gate, RESUMABLE);
    let mut reader = stream.attach(None).unwrap();
    stream.send("a");
    second.confirm();
    gate.lose();
    stream.finish();
    let told = second.told.lock().len();
    assert!(!stream.send("b"));
    stream.close();
    assert_eq!(reader.next().now_or_never(), Some(None));
    assert!(reader.is_lost());
    assert_eq!(second.told.lock().len(), told);
    let copy = second.restore(&session()).unwrap();
    assert_eq!(copy.streams[&1].calls, call("7"), "the call is the new owner's to end");
}
