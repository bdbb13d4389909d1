//! Bytes of released versions: these literals never change, and every later release reads them.

use enfilade_registry::{
    BadKeys, BadSessionId, ClusterId, Command, CopyId, DecodeError, EndReason, Generation, Limits, MoveId, NewSession,
    NodeId, Roles, Run, SessionId, SessionKeys, Slot, StateMachine, Term, UpstreamBinding,
};

const ID: &str = "BwwUAAECAwQFBgcICQoLDA0OD8RPZeoTgAEJuhcAhCLwUmU";

fn keys() -> SessionKeys {
    SessionKeys::new(7, &[0x2a; 32]).expect("32 bytes are enough")
}

fn id() -> SessionId {
    keys().mint(Slot::new(0xc14).expect("in range"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}

const A: Run = Run { node: NodeId(1), generation: Generation(1) };
const B: Run = Run { node: NodeId(2), generation: Generation(3) };

/// The commands of format 1 that are about the cluster.
fn format_1_of_the_cluster() -> Vec<(Command, String)> {
    let slot = Slot::MAX;
    let roles = Roles { edge: true, owner: true, registry: false };
    let (a, b) = (r#"{"node":1,"generation":1}"#, r#"{"node":2,"generation":3}"#);
    let register =
        |run, name: &str| Command::Register { run, name: name.into(), link: "h:1".into(), roles, formats: 1 };
    vec![
        (Command::Found { cluster: ClusterId(u128::MAX) }, r#"{"found":{"cluster":340282366920938463463374607431768211455}}"#),
        (
            register(A, "a"),
            r#"{"register":{"run":$A,"name":"a","link":"h:1","roles":{"edge":true,"owner":true,"registry":false},"formats":1}}"#,
        ),
        (
            register(B, "b"),
            r#"{"register":{"run":$B,"name":"b","link":"h:1","roles":{"edge":true,"owner":true,"registry":false},"formats":1}}"#,
        ),
        (Command::Lead { epoch: 4 }, r#"{"lead":{"epoch":4}}"#),
        (Command::Assign { live: vec![A] }, r#"{"assign":{"live":[$A]}}"#),
        (
            Command::Seconds { slots: vec![(slot, Term(1))], second: B },
            r#"{"seconds":{"slots":[[4095,1]],"second":$B}}"#,
        ),
        (
            Command::InSync { slots: vec![(slot, Term(1), CopyId(6))], second: B, in_sync: true },
            r#"{"in_sync":{"slots":[[4095,1,6]],"second":$B,"in_sync":true}}"#,
        ),
        (Command::Move { slots: vec![(slot, Term(1))], to: B }, r#"{"move":{"slots":[[4095,1]],"to":$B}}"#),
        (Command::Abort { moves: vec![(slot, MoveId(8))] }, r#"{"abort":{"moves":[[4095,8]]}}"#),
        (Command::Done { moves: vec![(slot, MoveId(8))] }, r#"{"done":{"moves":[[4095,8]]}}"#),
        (
            Command::Take { lost: A, live: vec![B], epoch: 4, upto: 10 },
            r#"{"take":{"lost":$A,"live":[$B],"epoch":4,"upto":10}}"#,
        ),
        (Command::Drain { node: NodeId(2), on: true }, r#"{"drain":{"node":2,"on":true}}"#),
        (Command::Remove { node: NodeId(1) }, r#"{"remove":{"node":1}}"#),
        (Command::Move { slots: vec![(Slot::MIN, Term(2))], to: B }, r#"{"move":{"slots":[[0,2]],"to":$B}}"#),
    ]
    .into_iter()
    .map(|(command, json)| (command, format!("\u{1}{}", json.replace("$A", a).replace("$B", b))))
    .collect()
}

/// Every command of format 1 about sessions, and the bytes that version 0.1.0 wrote for it.
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
    for (command, bytes) in format_1().into_iter().chain(format_1_of_the_cluster()) {
        assert_eq!(Command::decode(bytes.as_bytes()).expect(&bytes), command);
        assert_eq!(String::from_utf8(command.encode()).expect("text"), bytes);
    }
}

#[test]
fn commands_of_format_2_read_and_write() {
    let apply = Command::ApplyConfiguration { version: 3, document: "{}".into(), reverts: Some(1) };
    let finalise = Command::Finalise { version: 2 };
    let table = [
        (apply, "\u{2}{\"apply_configuration\":{\"version\":3,\"document\":\"{}\",\"reverts\":1}}"),
        // It raises the format, so that it has to be of the one before.
        (finalise, "\u{1}{\"finalise\":{\"version\":2}}"),
    ];
    for (command, bytes) in table {
        assert_eq!(Command::decode(bytes.as_bytes()).expect(bytes), command);
        assert_eq!(String::from_utf8(command.encode()).expect("text"), bytes);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    assert!(matches!(Command::decode(b""), Err(DecodeError::Empty)));
    assert!(matches!(Command::decode(b"\x03{}"), Err(DecodeError::UnknownFormat(3))));
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
fn snapshots_of_a_cluster_are_frozen() {
    let mut state = StateMachine::new();
    for (n, (command, bytes)) in format_1_of_the_cluster().into_iter().enumerate() {
        state.apply(n as u64 + 1, &command).expect(&bytes);
    }
    let snapshot = state.snapshot();
    let text = std::str::from_utf8(&snapshot[44..]).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        concat!(
            r#"{"applied":14,"now_ms":0,"limits":{"sessions_max":1000000,"sessions_per_principal_max":200000,"#,
            r#""subscriptions_per_session_max":1000,"record_bytes_max":65536,"idle_ms":3600000,"absolute_ms":604800000},"#,
            r#""sessions":0,"cluster":340282366920938463463374607431768211455,"members":{"nodes":{"2":{"name":"b","#,
            r#""link":"h:1","roles":{"edge":true,"owner":true,"registry":false},"generation":3,"draining":true,"#,
            r#""formats":1}},"removed":[1]},"epoch":4,"map_version":11,"slots":4096}"#,
        )
    );
    let b = r#"{"node":2,"generation":3}"#;
    let gap =
        r#"[0,{"term":2,"owner":$B,"origin":"gap","since":11,"second":null,"in_sync":false,"copy":11,"moving":null}]"#;
    assert_eq!(lines[1], gap.replace("$B", b));
    let heir = r#"[4095,{"term":3,"owner":$B,"origin":{"copy":6},"since":11,"second":null,"in_sync":false,"copy":11,"moving":null}]"#;
    assert_eq!(lines[4096], heir.replace("$B", b));
    assert_eq!(lines.len(), 4097);
    let restored = StateMachine::restore(&snapshot).expect("sound");
    assert_eq!((restored.digest(), restored.snapshot() == snapshot), (state.digest(), true));
    assert_eq!((restored.slots(), restored.members()), (state.slots(), state.members()));
    assert_eq!((restored.cluster(), restored.epoch(), restored.map_version()), (state.cluster(), 4, 11));
}

#[test]
fn a_snapshot_whose_slots_are_wrong_is_refused() {
    let mut state = StateMachine::new();
    for (n, (command, _)) in format_1_of_the_cluster().into_iter().enumerate() {
        let _ = state.apply(n as u64 + 1, &command);
    }
    let sound = state.snapshot();
    let text = String::from_utf8(sound[44..].to_vec()).expect("text");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let wrong = [
        lines[..4096].concat(),
        [&lines[..1], &lines[2..3], &lines[1..2], &lines[3..]].concat().concat(),
        [&lines[..2], &lines[1..4096]].concat().concat(),
        text.replace("[4095,{", "[4096,{"),
    ];
    for body in wrong {
        use sha2::{Digest as _, Sha256};
        let bytes = [&sound[..12], Sha256::digest(&body).as_slice(), body.as_bytes()].concat();
        assert!(StateMachine::restore(&bytes).is_err());
    }
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
