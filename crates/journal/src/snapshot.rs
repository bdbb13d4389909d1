//! A snapshot's file: magic ‖ format (u32) ‖ index (u64) ‖ length (u64) ‖ crc (u32) ‖ content.
//! It gets its name only once it is whole on the disk, so one that does not check is damage.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::JournalError;
use crate::error::Tried as _;
use crate::files;
use crate::frame::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ENFSNAPS";
const FORMAT: u32 = 1;
const HEAD_LEN: usize = 32;
/// Bytes that are written at once.
const PIECE_BYTES: usize = 4 << 20;

/// Writes a snapshot, whose content comes in parts; when it returns, it is durable under its name.
pub(crate) fn write(dir: &Path, index: u64, content: &[&[u8]]) -> Result<(), JournalError> {
    let len: usize = content.iter().map(|part| part.len()).sum();
    let mut head = [0; HEAD_LEN];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..20].copy_from_slice(&index.to_le_bytes());
    head[20..28].copy_from_slice(&(len as u64).to_le_bytes());
    let crc = checksum(&head, content);
    head[28..].copy_from_slice(&crc.to_le_bytes());

    let unfinished = files::unfinished_snapshot_path(dir, index);
    let mut file = File::create(&unfinished).tried("create", &unfinished)?;
    let pieces = content.iter().flat_map(|part| part.chunks(PIECE_BYTES));
    file.write_all(&head)
        .and_then(|()| write_pieces(&mut file, pieces))
        .and_then(|()| file.sync_all())
        .tried("write", &unfinished)?;
    fs::rename(&unfinished, files::snapshot_path(dir, index)).tried("rename", &unfinished)?;
    files::sync_dir(dir)
}

/// A piece is on the disk before the next is written: a log on this disk waits for a piece at most, not for all.
fn write_pieces<'a>(file: &mut File, pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    for piece in pieces {
        file.write_all(piece)?;
        if piece.len() == PIECE_BYTES {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Reads the snapshot at `path`, which its name says was taken at `index`.
pub(crate) fn read(path: &Path, index: u64) -> Result<Vec<u8>, JournalError> {
    let mut bytes = fs::read(path).tried("read", path)?;
    let corrupt = |why| JournalError::corrupt(path, 0, why);
    let (head, content) = bytes.split_at_checked(HEAD_LEN).ok_or_else(|| corrupt("the header is cut off"))?;
    if &head[..8] != MAGIC {
        return Err(corrupt("not a snapshot"));
    }
    match u32_at(head, 8) {
        Some(FORMAT) => {}
        found => return Err(JournalError::Format { path: path.to_owned(), found: found.unwrap_or(0) }),
    }
    if u64_at(head, 20) != Some(content.len() as u64) {
        return Err(corrupt("the content has another length"));
    }
    if u32_at(head, 28) != Some(checksum(head, &[content])) {
        return Err(corrupt("the content does not match its checksum"));
    }
    if u64_at(head, 12) != Some(index) {
        return Err(corrupt("the file has another one's name"));
    }
    bytes.drain(..HEAD_LEN);
    Ok(bytes)
}

fn checksum(head: &[u8], content: &[&[u8]]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&head[..28]);
    for part in content {
        hash.update(part);
    }
    hash.finalize()
}
