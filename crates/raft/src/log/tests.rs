//! The log across restarts, and from memory to the disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use enfilade_registry::{Generation, NodeId, Run};
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{EntryPayload, RaftLogReader as _};

use super::{LogOwner, LogStore};
use crate::types::{Batch, Entry, LeaderId, LogId, Membership, Proposal, Types, Vote};

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

fn entry(term: u64, index: u64) -> Entry {
    let origin = Run { node: NodeId(1), generation: Generation(1) };
    let commands = vec![Bytes::from(vec![index as u8; 100])];
    let batch = Batch { origin, seq: index, commands };
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Proposal::Batch(Arc::new(batch))) }
}

async fn append(store: &mut LogStore, term: u64, indexes: std::ops::Range<u64>) {
    let (done, written) = Types::oneshot();
    store.append(indexes.map(|index| entry(term, index)), IOFlushed::signal(done)).await.expect("taken");
    written.await.expect("told").expect("written");
}

fn open(dir: &Path, cache_bytes_max: u64) -> (LogStore, LogOwner) {
    LogStore::open(dir, cache_bytes_max).expect("a log")
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, owner) = open(dir.path(), 1 << 20);
    let vote = Vote::new_committed(3, 1);
    append(&mut store, 1, 1..6).await;
    store.save_vote(&vote).await.expect("saved");
    store.truncate_after(Some(id(1, 3))).await.expect("truncated");
    append(&mut store, 3, 4..6).await;
    store.save_committed(Some(id(3, 4))).await.expect("saved");
    store.purge(id(1, 2)).await.expect("purged");
    append(&mut store, 3, 6..7).await;
    drop(store);
    owner.close();

    for cache_bytes_max in [0, 1 << 20] {
        let (mut store, _owner) = open(dir.path(), cache_bytes_max);
        assert_eq!(store.read_vote().await.expect("read"), Some(vote));
        assert_eq!(store.read_committed().await.expect("read"), Some(id(3, 4)));
        let state = store.get_log_state().await.expect("read");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(3, 6))));
        let entries = store.try_get_log_entries(..).await.expect("read");
        assert_eq!(entries, [entry(1, 3), entry(3, 4), entry(3, 5), entry(3, 6)]);
    }
}

#[tokio::test]
async fn purged_segments_go_and_what_they_said_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, owner) = open(dir.path(), 0);
    let vote = Vote::new(7, 1);
    store.save_vote(&vote).await.expect("saved");
    for round in 0..20 {
        append(&mut store, 7, round * 50..(round + 1) * 50).await;
        store.purge(id(7, (round + 1) * 50 - 3)).await.expect("purged");
    }
    append(&mut store, 7, 1000..1001).await;
    let files = std::fs::read_dir(dir.path()).expect("listed").map(|file| file.expect("listed").metadata());
    let bytes: u64 = files.map(|file| file.expect("there").len()).sum();
    assert!(bytes < 20_000, "{bytes} bytes for 1000 entries of 100, of which 4 are left");
    drop(store);
    owner.close();

    let (mut store, _owner) = open(dir.path(), 0);
    assert_eq!(store.read_vote().await.expect("read"), Some(vote));
    let entries = store.try_get_log_entries(..).await.expect("read");
    assert_eq!(entries, [entry(7, 998), entry(7, 999), entry(7, 1000)]);
}

#[tokio::test]
async fn reading_is_bounded_by_bytes_and_never_empty() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, _owner) = open(dir.path(), 500);
    append(&mut store, 1, 0..50).await;
    assert_eq!(store.read(10..50, 1).await.expect("read"), [entry(1, 10)]);
    assert_eq!(store.read(10..50, 400).await.expect("read").len(), 2);
    assert_eq!(store.limited_get_log_entries(0, 50).await.expect("read").len(), 50);
    assert!(store.read(50..60, 400).await.expect("read").is_empty());
    let cached = store.shared.window.lock().cached_bytes();
    assert!(cached <= 500, "{cached}");
}

#[tokio::test]
async fn entries_must_follow_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, _owner) = open(dir.path(), 500);
    append(&mut store, 1, 0..3).await;
    assert!(store.append([entry(1, 4)], IOFlushed::noop()).await.is_err());
}

#[tokio::test]
async fn a_closed_log_takes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, owner) = open(dir.path(), 500);
    owner.close();
    assert!(store.save_vote(&Vote::new(1, 1)).await.is_err());
    assert!(store.append([entry(1, 0)], IOFlushed::noop()).await.is_err());
}

#[tokio::test]
async fn a_membership_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, owner) = open(dir.path(), 0);
    let membership = Membership::new_with_defaults(vec![BTreeSet::from([1, 2])], [3]);
    let entry = Entry { log_id: id(1, 0), payload: EntryPayload::Membership(membership) };
    store.append([entry.clone()], IOFlushed::noop()).await.expect("taken");
    drop(store);
    owner.close();
    let (mut store, _owner) = open(dir.path(), 0);
    assert_eq!(store.try_get_log_entries(0..1).await.expect("read"), [entry]);
}
