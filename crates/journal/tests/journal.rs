//! The journal against crashes, damage and a model of itself.

use std::fs;
use std::path::{Path, PathBuf};

use enfilade_journal::{Journal, JournalError, Recovered};
use proptest::prelude::*;
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Opens and closes.
fn recover(dir: &Path) -> Result<Recovered, JournalError> {
    Journal::open(dir).map(|(_, recovered)| recovered)
}

/// The journal's files with this prefix, in order.
fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let starts = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut files: Vec<PathBuf> = entries.filter(starts).collect();
    files.sort();
    files
}

/// A copy of the directory, as a crash at this moment would leave it.
fn crashed(dir: &Path) -> TempDir {
    let copy = self::dir();
    for path in files(dir, "") {
        fs::copy(&path, copy.path().join(path.file_name().expect("a file"))).expect("copied");
    }
    copy
}

/// Three batches, and where each begins in the one segment, and where the last ends.
fn three_batches(dir: &Path) -> (PathBuf, [usize; 4]) {
    let (mut journal, _) = Journal::open(dir).expect("an empty directory");
    let mut ends = [journal.log_bytes() as usize; 4];
    let batches: [&[&[u8]]; 3] = [&[b"one"], &[b"two", b""], &[b"four"]];
    for (n, batch) in batches.iter().enumerate() {
        journal.append_batch(batch).expect("written");
        ends[n + 1] = journal.log_bytes() as usize;
    }
    (files(dir, "log-").remove(0), ends)
}

fn records(up_to: usize) -> Vec<(u64, Vec<u8>)> {
    let all: [&[u8]; 4] = [b"one", b"two", b"", b"four"];
    all.iter().take(up_to).enumerate().map(|(n, record)| (n as u64 + 1, record.to_vec())).collect()
}

#[test]
fn a_last_batch_cut_at_any_byte_is_dropped_whole_and_reported() {
    let dir = dir();
    let (log, [.., start, end]) = three_batches(dir.path());
    let whole = fs::read(&log).expect("readable");
    for cut in start..=end {
        fs::write(&log, &whole[..cut]).expect("written");
        let (mut journal, recovered) = Journal::open(dir.path()).expect("a crash is no damage");
        let kept = if cut == end { 4 } else { 3 };
        assert_eq!(recovered.records, records(kept), "cut at {cut}");
        assert_eq!(recovered.torn_bytes, if cut == end { 0 } else { (cut - start) as u64 });
        // What is appended next takes the place of what was lost, and is found again.
        assert_eq!(journal.append_batch(&[b"next"]).expect("written"), kept as u64 + 1);
        drop(journal);
        let again = recover(dir.path()).expect("sound");
        assert_eq!((again.records.len(), again.torn_bytes), (kept + 1, 0));
    }
}

#[test]
fn a_last_batch_of_which_only_the_length_was_written_is_dropped() {
    let dir = dir();
    let (log, [.., start, end]) = three_batches(dir.path());
    let mut bytes = fs::read(&log).expect("readable");
    bytes[start..end].fill(0);
    fs::write(&log, &bytes).expect("written");
    let recovered = recover(dir.path()).expect("a crash is no damage");
    assert_eq!((recovered.records, recovered.torn_bytes), (records(3), (end - start) as u64));
}

#[test]
fn a_changed_byte_before_the_last_batch_is_refused_by_file_and_offset() {
    let dir = dir();
    let (log, starts) = three_batches(dir.path());
    let whole = fs::read(&log).expect("readable");
    for at in 0..starts[2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).expect("written");
        let expected = match at {
            at if at < starts[0] => 0,
            at if at < starts[1] => starts[0],
            _ => starts[1],
        };
        match recover(dir.path()) {
            Err(JournalError::Corrupt { path, offset, .. }) => {
                assert_eq!((path, offset), (log.clone(), expected as u64), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(fs::read(&log).expect("readable"), bytes, "what is refused is not touched");
    }
}

#[test]
fn the_directory_has_one_user() {
    let dir = dir();
    let first = Journal::open(dir.path()).expect("an empty directory");
    let error = Journal::open(dir.path()).expect_err("in use");
    assert!(matches!(&error, JournalError::Locked { dir: locked } if locked == dir.path()), "{error}");
    assert!(error.to_string().ends_with("is in use by another process"));
    drop(first);
    Journal::open(dir.path()).expect("free again");
}

/// A journal with four records, the first three of which a compaction replaces.
fn before_compaction(dir: &Path) -> Journal {
    let (mut journal, _) = Journal::open(dir).expect("an empty directory");
    journal.append_batch(&[b"one", b"two", b""]).expect("written");
    journal.append_batch(&[b"four"]).expect("written");
    journal
}

fn check_compacted(dir: &Path, when: &str) {
    let recovered = recover(dir).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(recovered.snapshot.as_deref(), Some(&b"state"[..]), "{when}");
    assert_eq!(recovered.snapshot_index, 3, "{when}");
    assert_eq!(recovered.records, [(4, b"four".to_vec())], "{when}");
}

#[test]
fn a_crash_at_any_step_of_a_compaction_loses_nothing() {
    let dir = dir();
    let mut journal = before_compaction(dir.path());

    let compaction = journal.start_compaction(3).expect("rotated");
    let rotated = crashed(dir.path());
    assert_eq!(recover(rotated.path()).expect("sound").records, records(4));
    // The same with the new segment's header only begun, or only its length written.
    let newest = files(rotated.path(), "log-").pop().expect("a segment");
    for head in [&b""[..], b"ENFJ", &[0; 32]] {
        fs::write(&newest, head).expect("written");
        let recovered = recover(rotated.path()).expect("sound");
        assert_eq!((recovered.records, recovered.torn_bytes), (records(4), head.len() as u64));
    }

    let unfinished = crashed(dir.path());
    fs::write(unfinished.path().join(format!("snapshot-{:020}.tmp", 3)), b"half").expect("written");
    assert_eq!(recover(unfinished.path()).expect("sound").records, records(4));
    assert_eq!(files(unfinished.path(), "snapshot-").len(), 0, "the half snapshot is gone");

    let written = compaction.write(b"state").expect("written");
    check_compacted(crashed(dir.path()).path(), "before the removal");
    journal.finish_compaction(written).expect("removed");
    drop(journal);
    check_compacted(dir.path(), "after the removal");
}

#[test]
fn compaction_removes_what_it_replaces_and_records_may_come_meanwhile() {
    let dir = dir();
    let mut journal = before_compaction(dir.path());
    let full = journal.log_bytes();
    let compaction = journal.start_compaction(4).expect("rotated");
    assert_eq!(journal.append_batch(&[b"five"]).expect("written"), 5);
    let written = compaction.write(b"state").expect("written");
    journal.finish_compaction(written).expect("removed");
    assert!(journal.log_bytes() < full);
    assert_eq!(journal.snapshot_bytes(), 5);
    journal.compact(b"state 5", 5).expect("again");
    drop(journal);
    assert_eq!((files(dir.path(), "log-").len(), files(dir.path(), "snapshot-").len()), (1, 1));
    let recovered = recover(dir.path()).expect("sound");
    assert_eq!((recovered.snapshot_index, recovered.records), (5, vec![]));
}

#[test]
fn a_snapshot_is_of_an_index_that_exists() {
    let dir = dir();
    let mut journal = before_compaction(dir.path());
    assert!(matches!(journal.compact(b"", 5), Err(JournalError::BadIndex { index: 5, last: 4 })));
    journal.compact(b"", 4).expect("the last");
    assert!(matches!(journal.compact(b"", 3), Err(JournalError::BadIndex { index: 3, .. })));
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let dir = dir();
    before_compaction(dir.path()).compact(b"state", 4).expect("compacted");
    let path = files(dir.path(), "snapshot-").remove(0);
    let whole = fs::read(&path).expect("readable");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("written");
        assert!(recover(dir.path()).is_err(), "byte {at}");
        fs::write(&path, &whole[..at]).expect("written");
        assert!(recover(dir.path()).is_err(), "cut at {at}");
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = dir();
    let mut journal = before_compaction(dir.path());
    drop(journal.start_compaction(1).expect("rotated"));
    journal.append_batch(&[b"five"]).expect("written");
    drop(journal);
    fs::remove_file(&files(dir.path(), "log-")[0]).expect("removed");
    assert!(matches!(recover(dir.path()), Err(JournalError::Corrupt { offset: 0, .. })));
}

#[test]
fn a_snapshot_alone_is_a_backup_that_starts() {
    let dir = dir();
    before_compaction(dir.path()).compact(b"state", 4).expect("compacted");
    fs::remove_file(&files(dir.path(), "log-")[0]).expect("removed");
    let (mut journal, recovered) = Journal::open(dir.path()).expect("sound");
    assert_eq!(recovered.snapshot_index, 4);
    assert_eq!(journal.append_batch(&[b"five"]).expect("written"), 5);
}

#[test]
fn newer_formats_are_refused_as_such() {
    let dir = dir();
    let mut head = b"ENFJRNAL\x02\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    fs::write(dir.path().join(format!("log-{:020}", 1)), head).expect("written");
    assert!(matches!(recover(dir.path()), Err(JournalError::Format { found: 2, .. })));
}

#[test]
fn bytes_of_format_1_are_read() {
    let dir = dir();
    let log = b"ENFJRNAL\x01\0\0\0\x03\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x31\x56\xa9\x30\
        \x4e\x6c\x4e\xc7\x0a\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0ab\0\0\0\0";
    let snapshot = b"ENFSNAPS\x01\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x94\x91\x6f\xe0state";
    fs::write(dir.path().join(format!("log-{:020}", 3)), log).expect("written");
    fs::write(dir.path().join(format!("snapshot-{:020}", 2)), snapshot).expect("written");
    let recovered = recover(dir.path()).expect("bytes of 0.1.0");
    assert_eq!(recovered.snapshot.as_deref(), Some(&b"state"[..]));
    assert_eq!(recovered.records, [(3, b"ab".to_vec()), (4, b"".to_vec())]);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<u8>>),
    Compact(prop::sample::Index),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let record = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        5 => proptest::collection::vec(record, 0..5).prop_map(Step::Append),
        2 => any::<prop::sample::Index>().prop_map(Step::Compact),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_reopened_is_what_was_written(steps in proptest::collection::vec(step(), 0..24)) {
        let dir = dir();
        let (mut journal, mut model) = Journal::open(dir.path()).expect("an empty directory");
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Append(records) => {
                    let borrowed: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    let first = journal.last_index() + 1;
                    prop_assert_eq!(journal.append_batch(&borrowed).expect("written") + 1, first + records.len() as u64);
                    model.records.extend((first..).zip(records));
                }
                Step::Compact(at) => {
                    let choices = journal.last_index() - model.snapshot_index + 1;
                    let index = model.snapshot_index + at.index(choices as usize) as u64;
                    let snapshot = index.to_string().into_bytes();
                    journal.compact(&snapshot, index).expect("compacted");
                    (model.snapshot, model.snapshot_index) = (Some(snapshot), index);
                    model.records.retain(|(n, _)| *n > index);
                }
                Step::Reopen => {
                    drop(journal);
                    let (again, mut recovered) = Journal::open(dir.path()).expect("sound");
                    let mut read = Vec::new();
                    for (first, place) in recovered.places.drain(..) {
                        let (at, records) = place.read(dir.path()).expect("there");
                        prop_assert_eq!(at, first);
                        read.extend((first..).zip(records));
                    }
                    read.retain(|(n, _)| *n > recovered.snapshot_index);
                    prop_assert_eq!(read, recovered.records.clone());
                    prop_assert_eq!(&recovered, &model);
                    journal = again;
                }
            }
        }
    }
}
