//! One file of the log: a header, then frames. Header: magic ‖ format (u32) ‖ first index (u64) ‖ salt (u64) ‖ crc (u32).
//! Only the last segment may end in a broken frame, which a crash leaves; any other damage is refused.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::JournalError;
use crate::error::Tried as _;
use crate::frame::{self, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ENFJRNAL";
const FORMAT: u32 = 1;
const HEAD_LEN: usize = 32;

/// A segment open for appending.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) first_index: u64,
    pub(crate) len: u64,
    salt: u64,
}

/// What a segment was found to hold.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) path: PathBuf,
    pub(crate) first_index: u64,
    /// The index of the last record; one less than the first if there is none.
    pub(crate) last_index: u64,
    pub(crate) records: Vec<(u64, Vec<u8>)>,
    /// The index of the first record of each batch, and where it is.
    pub(crate) frames: Vec<(u64, u64)>,
    /// Bytes of sound frames and header.
    pub(crate) sound_len: u64,
    /// Bytes after those: the trace of a crash.
    pub(crate) torn_bytes: u64,
    salt: u64,
}

impl Segment {
    /// A new, empty segment, durable with its name.
    pub(crate) fn create(path: PathBuf, first_index: u64) -> Result<Segment, JournalError> {
        // RandomState is seeded by the system; a salt must only differ between files.
        let salt = RandomState::new().hash_one(first_index);
        let mut head = [0; HEAD_LEN];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[12..20].copy_from_slice(&first_index.to_le_bytes());
        head[20..28].copy_from_slice(&salt.to_le_bytes());
        let crc = crc32fast::hash(&head[..28]);
        head[28..].copy_from_slice(&crc.to_le_bytes());
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path).tried("create", &path)?;
        file.write_all(&head).and_then(|()| file.sync_all()).tried("write", &path)?;
        Ok(Segment { file, path, first_index, len: HEAD_LEN as u64, salt })
    }

    /// Opens a scanned segment for appending, without its torn end.
    pub(crate) fn reopen(scanned: &Scanned) -> Result<Segment, JournalError> {
        let path = scanned.path.clone();
        let file = OpenOptions::new().append(true).open(&path).tried("open", &path)?;
        if scanned.torn_bytes > 0 {
            file.set_len(scanned.sound_len).and_then(|()| file.sync_all()).tried("truncate", &path)?;
        }
        Ok(Segment { file, path, first_index: scanned.first_index, len: scanned.sound_len, salt: scanned.salt })
    }

    /// Appends a batch and waits until it is on the disk.
    pub(crate) fn append(
        &mut self,
        scratch: &mut Vec<u8>,
        first_index: u64,
        records: &[&[u8]],
    ) -> Result<(), JournalError> {
        frame::encode(scratch, self.salt, first_index, records)?;
        self.file.write_all(scratch).tried("write", &self.path)?;
        self.file.sync_data().tried("sync", &self.path)?;
        self.len += scratch.len() as u64;
        Ok(())
    }
}

/// Reads a segment, keeping the records above `after`. `None`: a crash left it without a header,
/// so that nothing was ever written to it; only the last segment may be so.
pub(crate) fn scan(path: &Path, name_index: u64, after: u64, is_last: bool) -> Result<Option<Scanned>, JournalError> {
    let bytes = fs::read(path).tried("read", path)?;
    let Some((first_index, salt)) = read_head(path, &bytes)? else {
        // The first frame follows only once the header is synced.
        return if is_last && bytes.len() <= HEAD_LEN {
            Ok(None)
        } else {
            Err(JournalError::corrupt(path, 0, "the header is damaged"))
        };
    };
    if first_index != name_index {
        return Err(JournalError::corrupt(path, 12, "the file has another one's name"));
    }
    let mut scanned = Scanned {
        path: path.to_owned(),
        first_index,
        last_index: first_index.saturating_sub(1),
        records: Vec::new(),
        frames: Vec::new(),
        sound_len: 0,
        torn_bytes: 0,
        salt,
    };
    let mut at = HEAD_LEN;
    while let Some(frame) = frame::decode(salt, &bytes[at..]) {
        if frame.first_index != scanned.last_index + 1 {
            return Err(JournalError::corrupt(path, at, "records are missing"));
        }
        scanned.frames.push((frame.first_index, at as u64));
        for record in frame.records {
            scanned.last_index += 1;
            if scanned.last_index > after {
                scanned.records.push((scanned.last_index, record.to_vec()));
            }
        }
        at += frame.len;
    }
    let torn = &bytes[at..];
    if !torn.is_empty() && (!is_last || frame::any_later(salt, scanned.last_index, torn)) {
        return Err(JournalError::corrupt(path, at, "a batch does not match its checksum, and later ones follow"));
    }
    (scanned.sound_len, scanned.torn_bytes) = (at as u64, torn.len() as u64);
    Ok(Some(scanned))
}

/// Reads the one batch at `offset`.
pub(crate) fn read_batch(path: &Path, offset: u64) -> Result<(u64, Vec<Vec<u8>>), JournalError> {
    let file = File::open(path).tried("open", path)?;
    let mut head = [0; HEAD_LEN];
    file.read_exact_at(&mut head, 0).tried("read", path)?;
    let Some((_, salt)) = read_head(path, &head)? else {
        return Err(JournalError::corrupt(path, 0, "the header is damaged"));
    };
    let corrupt = || JournalError::corrupt(path, offset as usize, "a batch does not match its checksum");
    let mut bytes = vec![0; frame::HEAD_LEN];
    file.read_exact_at(&mut bytes, offset).tried("read", path)?;
    let len = frame::len(&bytes).ok_or_else(corrupt)?;
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, offset).tried("read", path)?;
    let frame = frame::decode(salt, &bytes).ok_or_else(corrupt)?;
    Ok((frame.first_index, frame.records.into_iter().map(<[u8]>::to_vec).collect()))
}

/// First index and salt, if the header is whole.
fn read_head(path: &Path, bytes: &[u8]) -> Result<Option<(u64, u64)>, JournalError> {
    let Some(head) = bytes.get(..HEAD_LEN) else { return Ok(None) };
    if u32_at(head, 28) != Some(crc32fast::hash(&head[..28])) {
        return Ok(None);
    }
    if &head[..8] != MAGIC {
        return Err(JournalError::corrupt(path, 0, "not a log"));
    }
    match u32_at(head, 8) {
        Some(FORMAT) => Ok(u64_at(head, 12).zip(u64_at(head, 20))),
        Some(found) => Err(JournalError::Format { path: path.to_owned(), found }),
        None => Ok(None),
    }
}
