//! A session's life, case by case: what the properties do not spell out.

use std::sync::{Arc, Mutex};

use enfilade_registry::{
    Command, EndReason, Ended, Limits, MemoryRegistry, NewSession, Outcome, Reader, Refusal, SessionId, SessionKeys,
    Slot, StateMachine, WriteError, Writer,
};

fn new(n: u8, principal: &str) -> NewSession {
    let keys = SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough");
    NewSession {
        id: keys.mint(Slot::MIN, [n; 16]),
        principal: principal.into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: "{}".into(),
        capabilities: "{}".into(),
        log_level: None,
    }
}

/// Applies commands at rising indexes.
struct Run(StateMachine);

impl Run {
    fn with(limits: Limits) -> Run {
        let mut run = Run(StateMachine::new());
        run.ok(Command::Configure { limits });
        run
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.0.apply(self.0.applied() + 1, &command)
    }

    fn ok(&mut self, command: Command) -> Outcome {
        self.apply(command).expect("not refused")
    }

    fn create(&mut self, n: u8, principal: &str) -> SessionId {
        let new = new(n, principal);
        let id = new.id;
        self.ok(Command::CreateSession(new));
        id
    }

    fn tick(&mut self, elapsed_ms: u64) -> Vec<Ended> {
        self.ok(Command::Tick { elapsed_ms }).ended().to_vec()
    }
}

fn limits() -> Limits {
    Limits { idle_ms: 100, absolute_ms: 250, ..Limits::default() }
}

#[test]
fn an_unused_session_ends_at_its_idle_time_and_not_before() {
    let mut run = Run::with(limits());
    let id = run.create(1, "alice");
    assert_eq!(run.tick(99), []);
    assert!(run.0.get(&id).is_some());
    assert_eq!(run.tick(1), [Ended { id, reason: EndReason::Idle }]);
    assert!(run.0.get(&id).is_none());
}

#[test]
fn a_used_session_lives_on_until_its_absolute_time() {
    let mut run = Run::with(limits());
    let id = run.create(1, "alice");
    for _ in 0..3 {
        assert_eq!(run.tick(80), []);
        run.ok(Command::Touch { idle: vec![(id, 5)] });
    }
    assert_eq!(run.tick(10), [Ended { id, reason: EndReason::Absolute }]);
}

#[test]
fn an_idle_time_counts_back_from_now_and_never_shortens_a_life() {
    let mut run = Run::with(limits());
    let id = run.create(1, "alice");
    run.tick(50);
    run.ok(Command::Touch { idle: vec![(id, 20)] });
    assert_eq!(run.0.get(&id).expect("alive").idle_expires_at_ms, 130);
    run.ok(Command::Touch { idle: vec![(id, 45)] });
    assert_eq!(run.0.get(&id).expect("alive").idle_expires_at_ms, 130);
}

#[test]
fn the_earliest_deadline_ends_first() {
    let mut run = Run::with(limits());
    let first = run.create(9, "alice");
    run.tick(10);
    let second = run.create(1, "alice");
    let ended: Vec<SessionId> = run.tick(500).iter().map(|ended| ended.id).collect();
    assert_eq!(ended, [first, second]);
}

#[test]
fn a_repeat_of_a_creation_is_a_retry_and_a_clash_is_not() {
    let mut run = Run::with(Limits { sessions_per_principal_max: 1, ..limits() });
    let first = run.ok(Command::CreateSession(new(1, "alice")));
    assert_eq!(run.ok(Command::CreateSession(new(1, "alice"))), first);
    assert_eq!(run.0.counts().sessions, 1);
    assert_eq!(run.apply(Command::CreateSession(new(1, "mallory"))), Err(Refusal::AlreadyExists));
}

#[test]
fn quotas_hold_per_principal_and_in_all_and_free_up() {
    let mut run = Run::with(Limits { sessions_per_principal_max: 1, sessions_max: 2, ..limits() });
    let id = run.create(1, "alice");
    assert_eq!(run.apply(Command::CreateSession(new(2, "alice"))), Err(Refusal::PrincipalQuota { max: 1 }));
    run.create(3, "bob");
    assert_eq!(run.apply(Command::CreateSession(new(4, "carol"))), Err(Refusal::RegistryFull { max: 2 }));
    run.ok(Command::EndSession { id, reason: EndReason::Client });
    run.create(2, "alice");
}

#[test]
fn limits_bound_what_a_client_can_make_grow() {
    let mut run = Run::with(Limits { subscriptions_per_session_max: 1, record_bytes_max: 100, ..limits() });
    let id = run.create(1, "alice");
    let subscribe = |uri: &str| Command::Subscribe { id, uri: uri.into() };
    assert_eq!(run.apply(subscribe(&"x".repeat(80))), Err(Refusal::RecordTooLarge { bytes_max: 100 }));
    run.ok(subscribe("a"));
    run.ok(subscribe("a"));
    assert_eq!(run.apply(subscribe("b")), Err(Refusal::SubscriptionQuota { max: 1 }));
    let large = NewSession { client_info: "x".repeat(100).into(), ..new(2, "alice") };
    assert_eq!(run.apply(Command::CreateSession(large)), Err(Refusal::RecordTooLarge { bytes_max: 100 }));
    let too_long = Command::Touch { idle: vec![(id, 0); enfilade_registry::TOUCH_MAX + 1] };
    assert_eq!(run.apply(too_long), Err(Refusal::TouchTooLong));
    let bad = Command::Configure { limits: Limits { idle_ms: 0, ..limits() } };
    assert_eq!(run.apply(bad), Err(Refusal::BadLimits));
}

#[test]
fn ending_by_principal_ends_all_of_one_and_none_of_another() {
    let mut run = Run::with(limits());
    let (one, two, other) = (run.create(1, "alice"), run.create(2, "alice"), run.create(3, "alice2"));
    let outcome = run.ok(Command::EndByPrincipal { principal: "alice".into(), reason: EndReason::Operator });
    let ended: Vec<SessionId> = outcome.ended().iter().map(|ended| ended.id).collect();
    assert_eq!(ended, [one, two]);
    assert_eq!(run.0.page(None).map(|record| record.id).collect::<Vec<_>>(), [other]);
    assert_eq!(run.0.by_principal("alice").count(), 0);
}

#[test]
fn pages_follow_each_other_even_when_the_last_one_read_ended() {
    let mut run = Run::with(limits());
    let ids: Vec<SessionId> = (1..=5).map(|n| run.create(n, "alice")).collect();
    let page = |run: &Run, after: Option<&SessionId>| run.0.page(after).take(2).map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(page(&run, None), ids[..2]);
    run.ok(Command::EndSession { id: ids[1], reason: EndReason::Client });
    assert_eq!(page(&run, Some(&ids[1])), ids[2..4]);
    assert_eq!(page(&run, Some(&ids[4])), []);
}

#[test]
fn an_index_is_applied_once() {
    let mut state = StateMachine::new();
    state.apply(5, &Command::Tick { elapsed_ms: 1 }).expect("the first");
    assert_eq!(state.apply(5, &Command::Tick { elapsed_ms: 1 }), Err(Refusal::OldIndex { applied: 5 }));
    assert_eq!(state.now_ms(), 1);
}

#[test]
fn a_frozen_state_does_not_move() {
    let mut run = Run::with(limits());
    let id = run.create(1, "alice");
    let (frozen, digest) = (run.0.freeze(), run.0.digest());
    run.ok(Command::SetLogLevel { id, level: Some("debug".into()) });
    assert_eq!(frozen.digest(), digest);
    assert_ne!(run.0.digest(), digest);
}

#[test]
fn the_memory_registry_serves_both_traits_and_tells_of_the_ended() {
    let registry = Arc::new(MemoryRegistry::new());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    registry.on_ended(Arc::new(move |ended| hear.lock().expect("unpoisoned").extend_from_slice(ended)));
    let (reader, writer): (Arc<dyn Reader>, Arc<dyn Writer>) = (registry.clone(), registry);
    let submit = |command| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match writer.submit(command).as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => panic!("memory never waits"),
        }
    };
    let id = new(1, "alice").id;
    assert!(submit(Command::CreateSession(new(1, "alice"))).is_ok());
    assert_eq!(reader.session(&id).expect("created").principal, "alice".into());
    assert_eq!(reader.sessions_of_slot(Slot::MIN).len(), 1);
    assert_eq!(reader.sessions_of_principal("alice", 10).len(), 1);
    let end = || Command::EndSession { id, reason: EndReason::Client };
    assert!(submit(end()).is_ok());
    assert_eq!(submit(end()), Err(WriteError::Refused(Refusal::UnknownSession)));
    assert_eq!(*heard.lock().expect("unpoisoned"), [Ended { id, reason: EndReason::Client }]);
    assert_eq!(reader.index(), 3);
}
