//! Snapshots: the whole state as bytes that every release can check before it believes them.
//! Form: magic ‖ format (u32, big endian) ‖ digest (SHA-256 of the body) ‖ body: a head, then one session a line, JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Limits, SessionId, SessionRecord, StateMachine};

/// Format of the snapshots that this release writes.
pub const SNAPSHOT_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"ENFSTATE";
const HEAD_LEN: usize = MAGIC.len() + 4 + 32;

/// The state at one index. Cheap to take (the sessions are shared, not copied), so that encoding
/// can happen on another thread while commands go on.
#[derive(Clone, Debug)]
pub struct Frozen {
    head: Head,
    sessions: BTreeMap<SessionId, Arc<SessionRecord>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    applied: u64,
    now_ms: u64,
    limits: Limits,
    sessions: u64,
}

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Not a snapshot at all, or cut off within its head.
    #[error("not a snapshot of the registry")]
    NotASnapshot,
    /// Written by a newer release.
    #[error("snapshot format {0} is newer than this release")]
    UnknownFormat(u32),
    /// The body is not what was written.
    #[error("the snapshot does not match its digest")]
    Damaged,
    /// The body matches its digest and yet is not a state: a fault of whoever wrote it.
    #[error("the snapshot's content is wrong: {0}")]
    Malformed(String),
}

impl Frozen {
    /// The snapshot's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_LEN];
        self.each_line(|line| bytes.extend_from_slice(line));
        let digest = Sha256::digest(&bytes[HEAD_LEN..]);
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&SNAPSHOT_FORMAT.to_be_bytes());
        bytes[12..HEAD_LEN].copy_from_slice(&digest);
        bytes
    }

    /// The state's digest: equal states have equal digests, on every node.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.each_line(|line| hash.update(line));
        hash.finalize().into()
    }

    /// The index up to which the state is applied.
    pub fn applied(&self) -> u64 {
        self.head.applied
    }

    fn each_line(&self, mut sink: impl FnMut(&[u8])) {
        let mut line = Vec::new();
        put_line(&mut line, &self.head);
        sink(&line);
        for record in self.sessions.values() {
            line.clear();
            put_line(&mut line, &**record);
            sink(&line);
        }
    }
}

fn put_line(line: &mut Vec<u8>, value: &impl Serialize) {
    // Writing these types to memory cannot fail: string keys only, no failing serialisers.
    serde_json::to_writer(&mut *line, value).expect("a record is plain data");
    line.push(b'\n');
}

impl StateMachine {
    /// The state as it is now, unaffected by later commands.
    pub fn freeze(&self) -> Frozen {
        let head = Head {
            applied: self.applied,
            now_ms: self.now_ms,
            limits: self.limits,
            sessions: self.sessions.len() as u64,
        };
        Frozen { head, sessions: self.sessions.clone() }
    }

    /// The state's digest, to compare replicas at one index. Reads everything: not for every command.
    pub fn digest(&self) -> [u8; 32] {
        self.freeze().digest()
    }

    /// The state as bytes for [`StateMachine::restore`].
    pub fn snapshot(&self) -> Vec<u8> {
        self.freeze().encode()
    }

    /// The state that a snapshot holds.
    ///
    /// # Errors
    /// The bytes are damaged, of another format, or not a snapshot. There is no partial success.
    pub fn restore(bytes: &[u8]) -> Result<StateMachine, RestoreError> {
        let body = checked_body(bytes)?;
        let mut lines = body.split_inclusive(|byte| *byte == b'\n');
        let head: Head = parse(lines.next().unwrap_or_default())?;
        let mut state = StateMachine::default();
        (state.applied, state.now_ms, state.limits) = (head.applied, head.now_ms, head.limits);
        for line in lines {
            let record: SessionRecord = parse(line)?;
            let last = state.sessions.last_key_value().map(|(id, _)| *id);
            if last.is_some_and(|last| last >= record.id) {
                return Err(RestoreError::Malformed("sessions out of order".to_owned()));
            }
            let record = state.share(record);
            state.insert(Arc::new(record));
        }
        if state.sessions.len() as u64 != head.sessions {
            return Err(RestoreError::Malformed("sessions are missing".to_owned()));
        }
        Ok(state)
    }
}

fn checked_body(bytes: &[u8]) -> Result<&[u8], RestoreError> {
    let (head, body) = bytes.split_at_checked(HEAD_LEN).ok_or(RestoreError::NotASnapshot)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (format, digest) = rest.split_at(4);
    if magic != MAGIC {
        return Err(RestoreError::NotASnapshot);
    }
    let format = u32::from_be_bytes(format.try_into().map_err(|_| RestoreError::NotASnapshot)?);
    if format != SNAPSHOT_FORMAT {
        return Err(RestoreError::UnknownFormat(format));
    }
    if Sha256::digest(body).as_slice() != digest {
        return Err(RestoreError::Damaged);
    }
    Ok(body)
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, RestoreError> {
    serde_json::from_slice(line).map_err(|error| RestoreError::Malformed(error.to_string()))
}
