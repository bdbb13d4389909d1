//! Snapshots: the whole state as bytes that every release can check before it believes them.
//! Form: magic ‖ format (u32, big endian) ‖ digest (SHA-256 of the body) ‖ body, one JSON value a line: a head,
//! then each slot that is not as in a new registry, then each session.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sessions::Sessions;
use crate::{ClusterId, Configuration, Limits, Members, SessionRecord, Slot, SlotRecord, SlotTable, StateMachine};

/// Format of the snapshots that this release writes.
pub const SNAPSHOT_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"ENFSTATE";
const HEAD_LEN: usize = MAGIC.len() + 4 + 32;
/// What a line takes beside the texts of clients.
const LINE_BYTES_ABOUT: usize = 400;

/// The state at one index. Cheap to take (the sessions of a slot are shared until one of them changes), so that
/// encoding can happen on another thread while commands go on.
#[derive(Clone, Debug)]
pub struct Frozen {
    head: Head,
    slots: Arc<SlotTable>,
    sessions: Sessions,
}

/// What a registry without a cluster does not have is left out: such a snapshot reads as it always did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    applied: u64,
    now_ms: u64,
    limits: Limits,
    sessions: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    #[serde(default, skip_serializing_if = "Members::is_untouched")]
    members: Arc<Members>,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    map_version: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    slots: u64,
    #[serde(default, skip_serializing_if = "is_first")]
    version: u32,
    #[serde(default, skip_serializing_if = "Configuration::is_empty")]
    configuration: Arc<Configuration>,
}

fn is_first(version: &u32) -> bool {
    *version <= 1
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The slots that a snapshot names.
fn changed(slots: &SlotTable) -> impl Iterator<Item = (Slot, &SlotRecord)> {
    slots.iter().filter(|(_, record)| **record != SlotRecord::default())
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
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.bytes_about());
        bytes.resize(HEAD_LEN, 0);
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

    /// About how long the body is, and rather too much: what is not written takes no memory.
    fn bytes_about(&self) -> usize {
        let slots = changed(&self.slots).count();
        let texts: usize = self.sessions.iter().map(|record| record.text_bytes()).sum();
        (1 + slots + self.sessions.count() as usize) * LINE_BYTES_ABOUT + texts
    }

    fn each_line(&self, mut sink: impl FnMut(&[u8])) {
        let mut line = Vec::new();
        put_line(&mut line, &self.head);
        sink(&line);
        for slot in changed(&self.slots) {
            line.clear();
            put_line(&mut line, &slot);
            sink(&line);
        }
        for record in self.sessions.iter() {
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
            sessions: self.sessions.count(),
            map_version: self.map_version(),
            slots: changed(self.slots()).count() as u64,
            ..self.head()
        };
        Frozen { head, slots: self.slots().clone(), sessions: self.sessions.clone() }
    }

    /// What is neither a session nor a slot, nor changes with every command.
    pub(crate) fn head(&self) -> Head {
        Head {
            applied: 0,
            now_ms: 0,
            limits: self.limits,
            sessions: 0,
            cluster: self.cluster(),
            members: self.members().clone(),
            epoch: self.epoch(),
            map_version: 0,
            slots: 0,
            version: self.placement.version,
            configuration: self.configuration().clone(),
        }
    }

    /// Takes over what [`StateMachine::head`] gives.
    pub(crate) fn set_head(&mut self, head: &Head) {
        self.limits = head.limits;
        self.placement.cluster = head.cluster;
        self.placement.members = head.members.clone();
        self.placement.epoch = head.epoch;
        self.placement.version = head.version;
        self.placement.configuration = head.configuration.clone();
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
        (state.applied, state.now_ms) = (head.applied, head.now_ms);
        state.set_head(&head);
        state.placement.slots = Arc::new(restore_slots(head.map_version, lines.by_ref().take(head.slots as usize))?);
        if changed(state.slots()).count() as u64 != head.slots {
            return Err(RestoreError::Malformed("slots are missing".to_owned()));
        }
        let mut last = None;
        for line in lines {
            let record: SessionRecord = parse(line)?;
            if last.replace(record.id).is_some_and(|last| last >= record.id) {
                return Err(RestoreError::Malformed("sessions out of order".to_owned()));
            }
            let record = state.restored(record);
            state.insert(record);
        }
        if state.sessions.count() != head.sessions {
            return Err(RestoreError::Malformed("sessions are missing".to_owned()));
        }
        Ok(state)
    }
}

fn restore_slots<'a>(version: u64, lines: impl Iterator<Item = &'a [u8]>) -> Result<SlotTable, RestoreError> {
    let mut table = SlotTable::default();
    let mut last = None;
    for line in lines {
        let (slot, record): (Slot, SlotRecord) = parse(line)?;
        if last.is_some_and(|last| last >= slot) {
            return Err(RestoreError::Malformed("slots out of order".to_owned()));
        }
        last = Some(slot);
        table.restore(slot, record);
    }
    table.restore_version(version);
    Ok(table)
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
