//! Properties of the state machine, over random commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::{
    Command, EndReason, Limits, NewSession, Outcome, Refusal, SessionId, SessionKeys, Slot, StateMachine,
    UpstreamBinding,
};

/// Few ids, principals and URIs, so that commands meet each other.
const IDS: u8 = 12;

fn keys() -> SessionKeys {
    SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough")
}

fn id(n: u8) -> SessionId {
    keys().mint(Slot::new(u16::from(n % 3) * 2047).expect("in range"), [n; 16])
}

fn text(prefix: &str, n: u8) -> Arc<str> {
    format!("{prefix}{n}").into()
}

fn new_session(n: u8, principal: u8, variant: u8) -> NewSession {
    NewSession {
        id: id(n),
        principal: text("principal", principal),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: format!(r#"{{"name":"client","version":"{variant}"}}"#).into(),
        capabilities: "{}".into(),
        log_level: None,
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..10u64, 0..5u64, 0..4u32, 60..400u32, 0..50u64, 0..200u64).prop_map(
        |(all, each, uris, bytes, idle, absolute)| Limits {
            sessions_max: all,
            sessions_per_principal_max: each,
            subscriptions_per_session_max: uris,
            record_bytes_max: bytes,
            idle_ms: idle,
            absolute_ms: absolute,
        },
    )
}

fn reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![Just(EndReason::Client), Just(EndReason::Operator), Just(EndReason::Upstream)]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let ids = || (0..IDS).prop_map(id);
    let uris = || (0..6u8).prop_map(|n| text("file:///", n));
    let upstreams = || (0..3u8).prop_map(|n| text("upstream", n));
    let binding = (proptest::option::of("[a-z]{1,9}"), 0..2u8)
        .prop_map(|(id, n)| UpstreamBinding { session_id: id.map(Into::into), version: text("v", n) });
    prop_oneof![
        12 => (0..IDS, 0..3u8, 0..2u8).prop_map(|(n, who, what)| Command::CreateSession(new_session(n, who, what))),
        4 => (0..40u64).prop_map(|elapsed_ms| Command::Tick { elapsed_ms }),
        1 => limits().prop_map(|limits| Command::Configure { limits }),
        2 => (ids(), reason()).prop_map(|(id, reason)| Command::EndSession { id, reason }),
        1 => (0..3u8, reason())
            .prop_map(|(n, reason)| Command::EndByPrincipal { principal: text("principal", n), reason }),
        3 => (ids(), upstreams(), binding)
            .prop_map(|(id, upstream, binding)| Command::BindUpstream { id, upstream, binding }),
        1 => (ids(), upstreams()).prop_map(|(id, upstream)| Command::UnbindUpstream { id, upstream }),
        1 => (ids(), proptest::option::of(Just("debug".into())))
            .prop_map(|(id, level)| Command::SetLogLevel { id, level }),
        4 => (ids(), uris()).prop_map(|(id, uri)| Command::Subscribe { id, uri }),
        2 => (ids(), uris()).prop_map(|(id, uri)| Command::Unsubscribe { id, uri }),
        3 => proptest::collection::vec((ids(), 0..60u64), 0..6).prop_map(|idle| Command::Touch { idle }),
    ]
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    proptest::collection::vec(command(), 0..120)
}

/// What holds after every command, whatever it was.
fn check_state(state: &StateMachine) {
    assert!(state.indexes_agree());
    let mut seen = 0;
    for record in state.page(None) {
        seen += 1;
        assert!(record.expires_at_ms() > state.now_ms(), "an expired session is visible: {record:?}");
        assert!(state.by_slot(record.id.slot()).any(|other| other.id == record.id));
        assert!(state.by_principal(&record.principal).any(|other| other.id == record.id));
        assert!(state.get(&record.id).is_some());
    }
    assert_eq!(state.counts().sessions, seen);
    let in_slots: usize = Slot::all().step_by(2047).map(|slot| state.by_slot(slot).count()).sum();
    assert_eq!(in_slots as u64, seen, "slot ranges leave nothing out and share nothing");
}

/// What the outcome of one command says, against the state before it.
fn check_outcome(before: &StateMachine, command: &Command, result: &Result<Outcome, Refusal>, after: &StateMachine) {
    assert_eq!(before.check(command).err(), result.as_ref().err().copied(), "check foretells apply");
    match (command, result) {
        (_, Err(_)) => {
            assert_eq!(after.applied(), before.applied() + 1);
            assert!(before.page(None).eq(after.page(None)), "a refusal changes nothing");
        }
        (Command::CreateSession(new), Ok(_)) if before.get(&new.id).is_none() => {
            let limits = after.limits();
            let of_principal = after.by_principal(&new.principal).count() as u64;
            assert!(of_principal <= limits.sessions_per_principal_max, "over the principal's quota");
            assert!(after.counts().sessions <= limits.sessions_max, "over the limit of sessions");
        }
        (Command::Touch { idle }, Ok(Outcome::Touched { unknown })) => {
            assert!(idle.iter().all(|(id, _)| before.get(id).is_some() != unknown.contains(id)));
            assert!(after.page(None).zip(before.page(None)).all(|(a, b)| a.expires_at_ms() >= b.expires_at_ms()));
        }
        (_, Ok(outcome)) => {
            let gone = before.counts().sessions.saturating_sub(after.counts().sessions);
            assert_eq!(outcome.ended().len() as u64, gone, "every session that is gone is named, once");
            assert!(outcome.ended().iter().all(|ended| after.get(&ended.id).is_none()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_keeps_the_invariants(commands in commands()) {
        let mut state = StateMachine::new();
        for (n, command) in commands.iter().enumerate() {
            let before = state.clone();
            let result = state.apply(n as u64 + 1, command);
            check_outcome(&before, command, &result, &state);
            check_state(&state);
        }
    }

    #[test]
    fn replicas_agree_and_so_do_bytes(commands in commands(), cut in 0..120usize) {
        let (mut one, mut two) = (StateMachine::new(), StateMachine::new());
        let mut frozen = None;
        for (n, command) in commands.iter().enumerate() {
            let index = n as u64 + 1;
            // The second replica gets what went over the wire, and once is restored from a snapshot.
            let decoded = Command::decode(&command.encode()).expect("what was encoded decodes");
            prop_assert_eq!(command, &decoded);
            prop_assert_eq!(one.apply(index, command), two.apply(index, &decoded));
            if n == cut {
                frozen = Some((one.freeze(), one.digest()));
                two = StateMachine::restore(&two.snapshot()).expect("an own snapshot is sound");
                prop_assert!(two.indexes_agree());
            }
        }
        prop_assert_eq!(one.digest(), two.digest());
        prop_assert_eq!(one.snapshot(), two.snapshot());
        prop_assert_eq!(one.counts(), two.counts());
        if let Some((frozen, digest)) = frozen {
            prop_assert_eq!(frozen.digest(), digest, "what came later changes nothing");
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused(commands in commands(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut state = StateMachine::new();
        for (n, command) in commands.iter().enumerate() {
            let _ = state.apply(n as u64 + 1, command);
        }
        let sound = state.snapshot();
        let at = at.index(sound.len());
        let mut damaged = sound.clone();
        damaged[at] ^= 1 << bit;
        prop_assert!(StateMachine::restore(&damaged).is_err());
        prop_assert!(StateMachine::restore(&sound[..at]).is_err());
    }

    #[test]
    fn changed_ids_never_verify(random in any::<[u8; 16]>(), slot in 0..4096u16, at in 0..47usize, to in any::<char>()) {
        let keys = keys();
        let minted = keys.mint(Slot::new(slot).expect("in range"), random);
        let text = minted.to_string();
        prop_assert_eq!(keys.verify(&text), Ok(minted));
        prop_assert!(keys.verify(&text[..at]).is_err());
        prop_assert!(keys.verify(&(text.clone() + "A")).is_err());
        let changed: String = text.chars().enumerate().map(|(n, c)| if n == at { to } else { c }).collect();
        prop_assert_eq!(keys.verify(&changed).is_ok(), changed == text);
        let other = SessionKeys::new(1, &[8; 32]).expect("32 bytes are enough");
        prop_assert!(other.verify(&text).is_err());
    }

    #[test]
    fn no_text_from_outside_panics(text in "\\PC{0,60}") {
        prop_assert!(keys().verify(&text).is_err());
    }

    #[test]
    fn ids_of_one_length_are_refused_by_their_mac(text in "[A-Za-z0-9_-]{47}") {
        prop_assert!(keys().verify(&text).is_err());
    }
}

#[test]
fn the_order_of_ids_keeps_slots_together() {
    let mut by_slot = BTreeMap::new();
    for n in 0..IDS {
        by_slot.insert(id(n), n);
    }
    let slots: Vec<Slot> = by_slot.keys().map(SessionId::slot).collect();
    assert!(slots.is_sorted());
}
