//! Bytes of released versions: these literals never change, and every later release reads them.

use enfilade_registry::{
    BadKeys, BadSessionId, Command, DecodeError, EndReason, Limits, NewSession, SessionId, SessionKeys, Slot,
    StateMachine, UpstreamBinding,
};

const ID: &str = "BwwUAAECAwQFBgcICQoLDA0OD8RPZeoTgAEJuhcAhCLwUmU";

fn keys() -> SessionKeys {
    SessionKeys::new(7, &[0x2a; 32]).expect("32 bytes are enough")
}

fn id() -> SessionId {
    keys().mint(Slot::new(0xc14).expect("in range"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}

/// Every command of format 1, and the bytes that version 0.1.0 wrote for it.
fn format_1() -> Vec<(Command, String)> {
    let id = id();
    let new = NewSession {
        id,
        principal: "alice".into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: r#"{"name":"c"}"#.into(),
        capabilities: "{}".into(),
        log_level: Some("info".into()),
    };
    let limits = Limits {
        sessions_max: 1,
        sessions_per_principal_max: 2,
        subscriptions_per_session_max: 3,
        record_bytes_max: 4,
        idle_ms: 5,
        absolute_ms: 6,
    };
    let binding = UpstreamBinding { session_id: Some("abc".into()), version: "2025-06-18".into() };
    vec![
        (Command::Tick { elapsed_ms: 1000 }, r#"{"tick":{"elapsed_ms":1000}}"#),
        (
            Command::Configure { limits },
            r#"{"configure":{"limits":{"sessions_max":1,"sessions_per_principal_max":2,"subscriptions_per_session_max":3,"record_bytes_max":4,"idle_ms":5,"absolute_ms":6}}}"#,
        ),
        (
            Command::CreateSession(new),
            r#"{"create_session":{"id":"@","principal":"alice","server":"default","version":"2025-11-25","client_info":"{\"name\":\"c\"}","capabilities":"{}","log_level":"info"}}"#,
        ),
        (Command::EndSession { id, reason: EndReason::Client }, r#"{"end_session":{"id":"@","reason":"client"}}"#),
        (
            Command::EndByPrincipal { principal: "alice".into(), reason: EndReason::Operator },
            r#"{"end_by_principal":{"principal":"alice","reason":"operator"}}"#,
        ),
        (
            Command::BindUpstream { id, upstream: "files".into(), binding },
            r#"{"bind_upstream":{"id":"@","upstream":"files","binding":{"session_id":"abc","version":"2025-06-18"}}}"#,
        ),
        (
            Command::UnbindUpstream { id, upstream: "files".into() },
            r#"{"unbind_upstream":{"id":"@","upstream":"files"}}"#,
        ),
        (Command::SetLogLevel { id, level: None }, r#"{"set_log_level":{"id":"@","level":null}}"#),
        (Command::Subscribe { id, uri: "file:///a".into() }, r#"{"subscribe":{"id":"@","uri":"file:///a"}}"#),
        (Command::Unsubscribe { id, uri: "file:///a".into() }, r#"{"unsubscribe":{"id":"@","uri":"file:///a"}}"#),
        (Command::Touch { idle: vec![(id, 250)] }, r#"{"touch":{"idle":[["@",250]]}}"#),
    ]
    .into_iter()
    .map(|(command, json)| (command, format!("\u{1}{}", json.replace('@', ID))))
    .collect()
}

#[test]
fn session_ids_are_frozen() {
    assert_eq!(id().to_string(), ID);
    assert_eq!(keys().verify(ID), Ok(id()));
}

#[test]
fn commands_of_format_1_read_and_write() {
    for (command, bytes) in format_1() {
        assert_eq!(Command::decode(bytes.as_bytes()).expect(&bytes), command);
        assert_eq!(String::from_utf8(command.encode()).expect("text"), bytes);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    assert!(matches!(Command::decode(b""), Err(DecodeError::Empty)));
    assert!(matches!(Command::decode(b"\x02{}"), Err(DecodeError::UnknownFormat(2))));
    for json in [r#"{"melt":{}}"#, r#"{"tick":{"elapsed_ms":1,"then":2}}"#, r#"{"tick":{"elapsed_ms":1}} "x""#, "{"] {
        let bytes = format!("\u{1}{json}");
        assert!(matches!(Command::decode(bytes.as_bytes()), Err(DecodeError::Malformed(_))), "{json}");
    }
}

#[test]
fn snapshots_of_format_1_are_frozen() {
    let mut state = StateMachine::new();
    for (n, (command, _)) in format_1().into_iter().enumerate() {
        use Command::{Configure, EndByPrincipal, EndSession, UnbindUpstream, Unsubscribe};
        // Those that end, undo or (the sample's limits) refuse would leave little to see.
        if matches!(
            command,
            Configure { .. } | EndSession { .. } | EndByPrincipal { .. } | UnbindUpstream { .. } | Unsubscribe { .. }
        ) {
            continue;
        }
        state.apply(n as u64 + 1, &command).expect("the sample applies");
    }
    let snapshot = state.snapshot();
    let body = concat!(
        r#"{"applied":11,"now_ms":1000,"limits":{"sessions_max":1000000,"sessions_per_principal_max":200000,"subscriptions_per_session_max":1000,"record_bytes_max":65536,"idle_ms":3600000,"absolute_ms":604800000},"sessions":1}"#,
        "\n",
        r#"{"id":"@","principal":"alice","server":"default","version":"2025-11-25","client_info":"{\"name\":\"c\"}","capabilities":"{}","log_level":null,"upstreams":{"files":{"session_id":"abc","version":"2025-06-18"}},"subscriptions":["file:///a"],"created_at_ms":1000,"idle_expires_at_ms":3601000,"absolute_expires_at_ms":604801000}"#,
        "\n",
    )
    .replace('@', ID);
    assert_eq!(&snapshot[..12], b"ENFSTATE\0\0\0\x01");
    assert_eq!(std::str::from_utf8(&snapshot[44..]).expect("text"), body);
    assert_eq!(StateMachine::restore(&snapshot).expect("sound").digest(), state.digest());
    assert_eq!(snapshot[12..44], state.digest(), "the checksum is the digest");
}

#[test]
fn keys_rotate() {
    let (old, new) = ([1; 32], [2; 32]);
    let before = SessionKeys::new(1, &old).expect("sound");
    let after = SessionKeys::new(2, &new).and_then(|keys| keys.with_previous(1, &old)).expect("sound");
    let id = before.mint(Slot::MIN, [9; 16]);
    assert_eq!(after.verify(&id.to_string()), Ok(id));
    let fresh = after.mint(Slot::MIN, [9; 16]);
    assert_eq!(fresh.key_id(), 2);
    assert_eq!(before.verify(&fresh.to_string()), Err(BadSessionId::UnknownKey));
    let dropped = SessionKeys::new(2, &new).expect("sound");
    assert_eq!(dropped.verify(&id.to_string()), Err(BadSessionId::UnknownKey));
    let same_id_other_secret = SessionKeys::new(1, &new).expect("sound");
    assert_eq!(same_id_other_secret.verify(&id.to_string()), Err(BadSessionId::Forged));
    assert_eq!(SessionKeys::new(1, &[0; 31]).err(), Some(BadKeys::ShortSecret));
    assert_eq!(after.with_previous(2, &old).err(), Some(BadKeys::DuplicateId(2)));
}

#[test]
fn secrets_and_whole_ids_stay_out_of_logs() {
    assert_eq!(format!("{:?}", keys()), "SessionKeys { current: 7, previous: [] }");
    assert_eq!(format!("{:?}", id()), "SessionId(3092/00010203…)");
}
