//! The registry of one node against restarts, kills and load.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use enfilade_journal::{Journal, LocalConfig, LocalRegistry, OpenError};
use enfilade_registry::{
    Command, EndReason, Ended, Limits, NewSession, Outcome, Reader, Refusal, SessionId, SessionKeys, Slot, WriteError,
    Writer,
};
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn config(dir: &Path) -> LocalConfig {
    LocalConfig::new(dir, Arc::new(|| 0))
}

fn open(dir: &Path) -> LocalRegistry {
    LocalRegistry::open(config(dir)).expect("sound")
}

fn keys() -> SessionKeys {
    SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough")
}

fn new(n: u128) -> NewSession {
    NewSession {
        id: keys().mint(Slot::new((n % 4096) as u16).expect("in range"), n.to_be_bytes()),
        principal: "alice".into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: r#"{"name":"client"}"#.into(),
        capabilities: "{}".into(),
        log_level: None,
    }
}

async fn create(registry: &LocalRegistry, n: u128) -> SessionId {
    let new = new(n);
    let id = new.id;
    registry.submit(Command::CreateSession(new)).await.expect("created");
    id
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = dir();
    let registry = open(dir.path());
    let id = create(&registry, 1).await;
    registry.submit(Command::Subscribe { id, uri: "file:///a".into() }).await.expect("subscribed");
    registry.submit(Command::Tick { elapsed_ms: 5 }).await.expect("ticked");
    let (digest, index) = (registry.digest(), registry.index());
    drop(registry);
    let registry = open(dir.path());
    assert_eq!((registry.digest(), registry.index()), (digest, index));
    assert_eq!(registry.session(&id).expect("there").subscriptions().len(), 1);
    assert_eq!(registry.torn_bytes(), 0);
    create(&registry, 2).await;
    assert_eq!(registry.index(), index + 1);
}

#[tokio::test]
async fn a_kill_between_write_and_apply_loses_nothing() {
    let dir = dir();
    let id = create(&open(dir.path()), 1).await;
    // What the writer does first; then it is killed.
    let (mut journal, _) = Journal::open(dir.path()).expect("sound");
    let end = Command::EndSession { id, reason: EndReason::Client };
    journal.append_batch(&[&Command::CreateSession(new(2)).encode(), &end.encode()]).expect("written");
    drop(journal);
    let registry = open(dir.path());
    assert_eq!(registry.index(), 3);
    assert!(registry.session(&id).is_none() && registry.session(&new(2).id).is_some());
    // The callers never heard, so they ask again.
    assert!(matches!(registry.submit(Command::CreateSession(new(2))).await, Ok(Outcome::Created(_))));
    assert_eq!(registry.counts().sessions, 1);
}

/// Runs itself as a process that creates sessions until it is killed.
#[test]
fn a_killed_process_keeps_what_it_acknowledged() {
    const CHILD: &str = "ENFILADE_TEST_KILLED_DIR";
    const NAME: &str = "a_killed_process_keeps_what_it_acknowledged";
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Some(dir) = std::env::var_os(CHILD) {
        let registry = LocalRegistry::open(LocalConfig { compact_log_bytes_min: 4096, ..config(Path::new(&dir)) });
        let registry = registry.expect("an empty directory");
        for n in 0.. {
            println!("\nacknowledged {}", runtime.block_on(create(&registry, n)));
        }
    }
    let dir = dir();
    let mut child = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut acknowledged = Vec::new();
    for line in lines {
        if let Some(id) = line.strip_prefix("acknowledged ") {
            acknowledged.push(id.to_owned());
        }
        if acknowledged.len() == 300 {
            child.kill().expect("alive until now");
        }
    }
    child.wait().expect("killed");
    assert!(acknowledged.len() >= 300);
    let registry = open(dir.path());
    for text in acknowledged {
        // The very last line may have been cut by the kill.
        let Ok(id) = keys().verify(&text) else { continue };
        assert!(registry.session(&id).is_some(), "{text} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn refusals_are_typed_and_cost_no_log() {
    let dir = dir();
    let registry = open(dir.path());
    let limits = Limits { sessions_per_principal_max: 1, ..Limits::default() };
    registry.submit(Command::Configure { limits }).await.expect("configured");
    create(&registry, 1).await;
    let refused = registry.submit(Command::CreateSession(new(2))).await;
    assert_eq!(refused, Err(WriteError::Refused(Refusal::PrincipalQuota { max: 1 })));
    assert_eq!(registry.index(), 2, "the refused one was not written");
}

#[tokio::test]
async fn a_quota_holds_when_all_ask_at_once() {
    let dir = dir();
    let registry = Arc::new(open(dir.path()));
    let limits = Limits { sessions_per_principal_max: 5, ..Limits::default() };
    registry.submit(Command::Configure { limits }).await.expect("configured");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let registry = registry.clone();
        tasks.spawn(async move { registry.submit(Command::CreateSession(new(n))).await.is_ok() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|created| *created).count(), 5);
    assert_eq!(registry.counts().sessions, 5);
}

#[tokio::test]
async fn more_callers_than_places_are_all_answered() {
    let dir = dir();
    let narrow = LocalConfig { queue_max: 2, batch_max: 3, ..config(dir.path()) };
    let registry = Arc::new(LocalRegistry::open(narrow).expect("an empty directory"));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let registry = registry.clone();
        tasks.spawn(async move { create(&registry, n).await });
    }
    let mut ids = tasks.join_all().await;
    ids.sort();
    let read: Vec<SessionId> = registry.page(None, 100).iter().map(|record| record.id).collect();
    assert_eq!(read, ids);
}

#[tokio::test]
async fn ticks_follow_the_clock_and_expiry_is_heard_of() {
    let dir = dir();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let now = clock.clone();
    let config = LocalConfig { now_ms: Arc::new(move || now.load(Ordering::Relaxed)), ..config(dir.path()) };
    let registry = LocalRegistry::open(config.clone()).expect("an empty directory");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    registry.on_ended(Arc::new(move |ended| hear.lock().expect("unpoisoned").extend_from_slice(ended)));
    let limits = Limits { idle_ms: 100, ..Limits::default() };
    registry.submit(Command::Configure { limits }).await.expect("configured");
    let id = create(&registry, 1).await;
    clock.fetch_add(60, Ordering::Relaxed);
    assert_eq!(registry.tick().await, Ok(Outcome::Ticked { now_ms: 60, ended: vec![] }));
    drop(registry);
    // While the node is down nothing expires.
    clock.fetch_add(1_000_000, Ordering::Relaxed);
    let registry = LocalRegistry::open(config).expect("sound");
    let hear = heard.clone();
    registry.on_ended(Arc::new(move |ended| hear.lock().expect("unpoisoned").extend_from_slice(ended)));
    assert_eq!(registry.tick().await, Ok(Outcome::Ticked { now_ms: 60, ended: vec![] }));
    clock.fetch_add(40, Ordering::Relaxed);
    let gone = vec![Ended { id, reason: EndReason::Idle }];
    assert_eq!(registry.tick().await, Ok(Outcome::Ticked { now_ms: 100, ended: gone.clone() }));
    assert_eq!(*heard.lock().expect("unpoisoned"), gone);
    assert!(registry.session(&id).is_none());
}

#[tokio::test]
async fn the_log_is_replaced_by_snapshots_as_it_grows() {
    let dir = dir();
    let config = LocalConfig { compact_log_bytes_min: 8 << 10, ..config(dir.path()) };
    let registry = LocalRegistry::open(config.clone()).expect("an empty directory");
    for round in 0..20 {
        for n in 0..20 {
            create(&registry, round * 20 + n).await;
        }
        for record in registry.page(None, 19) {
            let end = Command::EndSession { id: record.id, reason: EndReason::Client };
            registry.submit(end).await.expect("ended");
        }
    }
    let (digest, index) = (registry.digest(), registry.index());
    registry.close();
    let (journal, recovered) = Journal::open(dir.path()).expect("sound");
    assert!(recovered.snapshot_index > 0 && (recovered.records.len() as u64) < index, "no snapshot was taken");
    assert!(journal.log_bytes() < 64 << 10, "{} bytes of log", journal.log_bytes());
    drop(journal);
    let registry = LocalRegistry::open(config).expect("sound");
    assert_eq!((registry.digest(), registry.index()), (digest, index));
}

#[tokio::test]
async fn after_the_end_callers_hear_so_and_the_directory_is_free() {
    let dir = dir();
    let registry = open(dir.path());
    let id = create(&registry, 1).await;
    assert!(registry.is_writable());
    registry.close();
    assert!(!registry.is_writable());
    assert_eq!(registry.submit(Command::Tick { elapsed_ms: 1 }).await, Err(WriteError::Unavailable));
    assert!(registry.session(&id).is_some(), "reading goes on");
    open(dir.path());
}

#[tokio::test]
async fn a_panic_in_a_listener_ends_the_writer_and_not_in_silence() {
    let dir = dir();
    let registry = open(dir.path());
    registry.on_ended(Arc::new(|_| panic!("a listener's fault, made on purpose")));
    let id = create(&registry, 1).await;
    let end = registry.submit(Command::EndSession { id, reason: EndReason::Client }).await;
    assert_eq!(end, Err(WriteError::Unavailable));
    assert_eq!(registry.submit(Command::Tick { elapsed_ms: 1 }).await, Err(WriteError::Unavailable));
}

#[test]
fn a_command_of_a_newer_release_stops_the_start() {
    let dir = dir();
    let (mut journal, _) = Journal::open(dir.path()).expect("an empty directory");
    journal.append_batch(&[&Command::Tick { elapsed_ms: 1 }.encode(), b"\x09{}"]).expect("written");
    drop(journal);
    let error = LocalRegistry::open(config(dir.path())).err();
    assert!(matches!(error, Some(OpenError::Command { index: 2, .. })), "{error:?}");
}
