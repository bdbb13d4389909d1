//! Cuts, digests and snapshots of one replica.

use std::sync::Arc;

use bytes::Bytes;
use enfilade_registry::{Command, Generation, NewSession, NodeId, Run, SessionKeys, Slot, WriteError};
use openraft::EntryPayload;
use openraft::storage::{RaftSnapshotBuilder as _, RaftStateMachine as _};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{Machine, State};
use crate::types::{Batch, Content, Cut, Entry, LeaderId, LogId, Proposal};

const RUN: Run = Run { node: NodeId(1), generation: Generation(1) };

fn machine() -> (Machine, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let state = State::open(dir.path(), RUN, 1000).expect("an empty directory");
    (Machine(Arc::new(state)), dir)
}

fn entry(index: u64, proposal: Proposal) -> Entry {
    let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
    Entry { log_id, payload: EntryPayload::Normal(proposal) }
}

fn session(n: u8) -> NewSession {
    let keys = SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough");
    NewSession {
        id: keys.mint(Slot::new(3).expect("in range"), [n; 16]),
        principal: "alice".into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: "{}".into(),
        capabilities: "{}".into(),
        log_level: None,
    }
}

fn created(index: u64, n: u8) -> Entry {
    let commands = vec![Bytes::from(Command::CreateSession(session(n)).encode())];
    entry(index, Proposal::Batch(Arc::new(Batch { origin: RUN, seq: index, commands })))
}

fn cut(index: u64, previous: Option<(u64, [u8; 32])>) -> Entry {
    entry(index, Proposal::Cut(Cut { previous }))
}

#[tokio::test]
async fn a_snapshot_is_of_the_cut_and_not_of_what_came_after() {
    let (mut machine, dir) = machine();
    machine.0.apply(created(1, 1)).expect("applied");
    let digest = machine.0.read(|state| state.digest());
    machine.0.apply(cut(2, None)).expect("applied");
    assert!(machine.0.cuts.is_taken());
    machine.0.apply(created(3, 2)).expect("applied");
    let built = machine.get_snapshot_builder().await.build_snapshot().await.expect("written");
    assert_eq!(built.meta.last_log_id.expect("it has entries").index, 2);
    assert_eq!(machine.0.cuts.newest(), Some((2, digest)));

    let again = State::open(dir.path(), RUN, 1000).expect("a snapshot");
    assert_eq!(again.index(), 2);
    assert_eq!(again.read(|state| state.digest()), digest);
    assert_eq!(again.cuts.newest(), Some((2, digest)));
}

#[tokio::test]
async fn a_state_that_differs_from_the_leaders_stops_the_replica() {
    let (mut machine, _dir) = machine();
    machine.0.apply(cut(1, None)).expect("applied");
    machine.get_snapshot_builder().await.build_snapshot().await.expect("written");
    let (index, digest) = machine.0.cuts.newest().expect("written");
    machine.0.apply(cut(2, Some((index, digest)))).expect("it is the same");
    machine.0.apply(cut(3, Some((77, [0; 32])))).expect("nothing is known of that index");
    let stopped = machine.0.apply(cut(4, Some((index, [0; 32])))).expect_err("it differs");
    assert!(stopped.to_string().contains("differs from the leader's at index 1"), "{stopped}");
    assert_eq!(machine.0.index(), 3, "not applied");
}

#[tokio::test]
async fn a_cut_is_due_when_the_log_is_four_times_the_snapshot() {
    let (mut machine, _dir) = machine();
    let mut index = 0;
    let mut fill = |machine: &Machine| {
        let begin = index;
        while !machine.0.cuts.is_due() {
            index += 1;
            machine.0.apply(created(index, index as u8)).expect("applied");
        }
        index += 1;
        machine.0.apply(cut(index, machine.0.cuts.newest())).expect("applied");
        index - begin
    };
    let first = fill(&machine);
    let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.expect("written");
    let second = fill(&machine);
    assert!(snapshot.snapshot.registry.len() * 4 > 1000, "the least is passed");
    assert!(second > first, "{second} after {first}");
}

#[tokio::test]
async fn an_installed_snapshot_tells_of_sessions_that_are_gone() {
    let (mut there, _dir) = machine();
    there.0.apply(created(1, 1)).expect("applied");
    there.0.apply(created(2, 2)).expect("applied");
    let mut built = there.get_snapshot_builder().await.build_snapshot().await.expect("written");
    built.meta.last_log_id.as_mut().expect("it has entries").index = 9;

    let (mut here, _dir) = machine();
    let gone = Arc::new(Mutex::new(Vec::new()));
    here.0.on_ended({
        let gone = gone.clone();
        Arc::new(move |ended| gone.lock().extend(ended.iter().map(|ended| ended.id)))
    });
    here.0.apply(created(1, 1)).expect("applied");
    here.0.apply(created(2, 5)).expect("applied");
    here.install_snapshot(&built.meta, built.snapshot).await.expect("installed");
    assert_eq!(*gone.lock(), [session(5).id]);
    assert_eq!(here.0.index(), 9);
    assert!(here.0.read(|state| state.get(&session(2).id).is_some()));
    let digest = here.0.read(|state| state.digest());
    let mut again = created(10, 5);
    if let EntryPayload::Normal(Proposal::Batch(batch)) = &mut again.payload {
        *batch = Arc::new(Batch { origin: RUN, seq: 2, commands: batch.commands.clone() });
    }
    here.0.apply(again).expect("applied");
    assert_eq!(here.0.read(|state| state.digest()), digest, "the snapshot has that batch");
    let current = here.get_current_snapshot().await.expect("read").expect("there");
    assert_eq!(current.meta, built.meta);
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_installed() {
    let (mut here, _dir) = machine();
    here.0.apply(created(1, 1)).expect("applied");
    let built = here.get_snapshot_builder().await.build_snapshot().await.expect("written");
    let mut bytes = built.snapshot.registry.to_vec();
    *bytes.last_mut().expect("not empty") ^= 1;
    let damaged = Content { registry: bytes.into(), ..built.snapshot };
    assert!(here.install_snapshot(&built.meta, damaged).await.is_err());
    assert!(here.0.read(|state| state.get(&session(1).id).is_some()));
}

#[tokio::test]
async fn a_run_whose_number_was_used_before_is_told() {
    let (machine, _dir) = machine();
    machine.0.apply(created(1, 1)).expect("applied");
    let (reply, answer) = tokio::sync::oneshot::channel();
    machine.0.pending.add(1, vec![reply]);
    let EntryPayload::Normal(again) = created(1, 2).payload else { panic!("a batch") };
    machine.0.apply(entry(2, again)).expect("applied");
    assert_eq!(answer.await.expect("answered"), Err(WriteError::Unavailable));
    assert_eq!(machine.0.index(), 2);
}
