//! One entry of the second copy, and its bytes.
//!
//! Bytes: format (1), kind (1), session id (47), then the numbers as LEB128 and texts with their length in front; an
//! event's data is the rest. Released formats and kinds never change.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use enfilade_registry::{SessionId, SessionKeys};

/// The format that [`CopyEntry::encode`] writes.
const FORMAT: u8 = 1;
/// Most calls of one stream: a batch has at most 100.
const CALLS_MAX: u64 = 1_000;

/// Something that the second must know of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyEntry {
    /// The session; its id names the slot.
    pub session: SessionId,
    /// What happened.
    pub change: CopyChange,
}

/// What happened to a session's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyChange {
    /// A stream says something for the first time; 0 is the session's general stream. Told again with fewer calls it
    /// says which are open still.
    Open {
        /// The stream within its session.
        stream: u64,
        /// The term in which it was opened, which is part of its events' ids.
        term: u64,
        /// The requests that it answers.
        calls: Vec<OpenCall>,
    },
    /// An event of a stream.
    Event {
        /// The stream.
        stream: u64,
        /// Its number in the stream.
        seq: u64,
        /// May go when there is no room: progress and log lines.
        droppable: bool,
        /// It is the response to one of the stream's calls.
        answers: bool,
        /// The message; empty for a priming event.
        data: Bytes,
    },
    /// No more comes on a stream.
    Close {
        /// The stream.
        stream: u64,
    },
    /// The owner does not keep a stream any more.
    Forget {
        /// The stream.
        stream: u64,
    },
    /// The owner does not keep events of a stream below a number any more.
    Trim {
        /// The stream.
        stream: u64,
        /// The first number that is kept.
        before: u64,
    },
    /// The session has ended.
    End,
}

/// A request of the client that a stream will answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    /// Its JSON-RPC id, a JSON text.
    pub id: Box<str>,
    /// It may be sent again whatever became of it.
    pub safe: bool,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer release.
    #[error("copy entry format {0} is not known")]
    Format(u8),
    /// Cut off, or of a kind that the format does not have.
    #[error("not a copy entry")]
    Malformed,
    /// The session id is not of this cluster.
    #[error("a copy entry of a session that is not this cluster's")]
    Session,
}

impl CopyEntry {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + SessionId::TEXT_LEN + self.bytes());
        out.put_u8(FORMAT);
        out.put_u8(match &self.change {
            CopyChange::Open { .. } => 1,
            CopyChange::Event { .. } => 2,
            CopyChange::Close { .. } => 3,
            CopyChange::Forget { .. } => 4,
            CopyChange::Trim { .. } => 5,
            CopyChange::End => 6,
        });
        out.put_slice(self.session.to_string().as_bytes());
        match &self.change {
            CopyChange::Open { stream, term, calls } => {
                put(&mut out, &[*stream, *term, calls.len() as u64]);
                for call in calls {
                    put(&mut out, &[u64::from(call.safe), call.id.len() as u64]);
                    out.put_slice(call.id.as_bytes());
                }
            }
            CopyChange::Event { stream, seq, droppable, answers, data } => {
                put(&mut out, &[*stream, *seq, u64::from(*droppable) | u64::from(*answers) << 1]);
                out.put_slice(data);
            }
            CopyChange::Close { stream } | CopyChange::Forget { stream } => put(&mut out, &[*stream]),
            CopyChange::Trim { stream, before } => put(&mut out, &[*stream, *before]),
            CopyChange::End => {}
        }
        out.freeze()
    }

    /// The entry that `bytes` are; an event's data stays a part of them. `keys` prove the session id.
    ///
    /// # Errors
    /// [`EntryError`]
    pub fn decode(mut bytes: Bytes, keys: &SessionKeys) -> Result<Self, EntryError> {
        const HEAD: usize = 2 + SessionId::TEXT_LEN;
        if let Some(format) = bytes.first().filter(|format| **format != FORMAT) {
            return Err(EntryError::Format(*format));
        }
        let head = (bytes.len() >= HEAD).then(|| bytes.split_to(HEAD)).ok_or(EntryError::Malformed)?;
        let session = std::str::from_utf8(&head[2..]).map_err(|_| EntryError::Malformed)?;
        let session = keys.verify(session).map_err(|_| EntryError::Session)?;
        let change = change(head[1], &mut bytes).ok_or(EntryError::Malformed)?;
        Ok(Self { session, change })
    }

    /// Bytes of texts in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.change {
            CopyChange::Event { data, .. } => data.len(),
            CopyChange::Open { calls, .. } => calls.iter().map(|call| call.id.len() + 4).sum(),
            _ => 0,
        }
    }
}

fn change(kind: u8, rest: &mut Bytes) -> Option<CopyChange> {
    let change = match kind {
        1 => {
            let (stream, term, count) = (number(rest)?, number(rest)?, number(rest)?);
            let count = (count <= CALLS_MAX).then_some(count)?;
            let calls = (0..count).map(|_| call(rest)).collect::<Option<_>>()?;
            CopyChange::Open { stream, term, calls }
        }
        2 => {
            let (stream, seq, flags) = (number(rest)?, number(rest)?, number(rest)?);
            let data = std::mem::take(rest);
            CopyChange::Event { stream, seq, droppable: flags & 1 != 0, answers: flags & 2 != 0, data }
        }
        3 => CopyChange::Close { stream: number(rest)? },
        4 => CopyChange::Forget { stream: number(rest)? },
        5 => CopyChange::Trim { stream: number(rest)?, before: number(rest)? },
        6 => CopyChange::End,
        _ => return None,
    };
    rest.is_empty().then_some(change)
}

fn call(rest: &mut Bytes) -> Option<OpenCall> {
    let (safe, length) = (number(rest)? != 0, usize::try_from(number(rest)?).ok()?);
    let id = (length <= rest.len()).then(|| rest.split_to(length))?;
    Some(OpenCall { id: std::str::from_utf8(&id).ok()?.into(), safe })
}

fn put(out: &mut BytesMut, numbers: &[u64]) {
    for number in numbers {
        let mut left = *number;
        while left >= 0x80 {
            out.put_u8((left as u8) | 0x80);
            left >>= 7;
        }
        out.put_u8(left as u8);
    }
}

fn number(rest: &mut Bytes) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = if rest.has_remaining() { rest.get_u8() } else { return None };
        let part = u64::from(byte & 0x7f);
        value |= (shift < 63 || part < 2).then_some(part << shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::Slot;
    use proptest::prelude::*;

    fn keys() -> SessionKeys {
        SessionKeys::new(1, &[7; 32]).unwrap()
    }

    fn entry(change: CopyChange) -> CopyEntry {
        CopyEntry { session: keys().mint(Slot::new(77).unwrap(), [3; 16]), change }
    }

    fn changes() -> impl Strategy<Value = CopyChange> {
        let call = (any::<bool>(), "[\"a-z0-9é]{0,20}").prop_map(|(safe, id)| OpenCall { id: id.into(), safe });
        let calls = prop::collection::vec(call, 0..4);
        prop_oneof![
            (any::<u64>(), any::<u64>(), calls).prop_map(|(stream, term, calls)| CopyChange::Open {
                stream,
                term,
                calls
            }),
            (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..64))
                .prop_map(|(stream, seq, droppable, answers, data)| {
                    CopyChange::Event { stream, seq, droppable, answers, data: data.into() }
                }),
            any::<u64>().prop_map(|stream| CopyChange::Close { stream }),
            any::<u64>().prop_map(|stream| CopyChange::Forget { stream }),
            (any::<u64>(), any::<u64>()).prop_map(|(stream, before)| CopyChange::Trim { stream, before }),
            Just(CopyChange::End),
        ]
    }

    proptest! {
        #[test]
        fn entries_go_there_and_back(change in changes()) {
            let entry = entry(change);
            prop_assert_eq!(CopyEntry::decode(entry.encode(), &keys()), Ok(entry));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = CopyEntry::decode(bytes.into(), &keys());
        }

        #[test]
        fn a_cut_entry_is_refused(change in changes(), cut in 1usize..20) {
            let is_event = matches!(change, CopyChange::Event { .. });
            let whole = entry(change).encode();
            let cut = whole.slice(..whole.len().saturating_sub(cut));
            // An event's data has no length of its own: the frame that carries it has.
            prop_assert!(is_event || CopyEntry::decode(cut, &keys()).is_err());
        }
    }

    #[test]
    fn the_bytes_of_format_1_are_frozen() {
        let event = CopyChange::Event { stream: 3, seq: 300, droppable: true, answers: false, data: "{}".into() };
        let bytes = entry(event).encode();
        let session = entry(CopyChange::End).session.to_string();
        let expected = [&[1, 2][..], session.as_bytes(), &[3, 0xac, 2, 1], b"{}"].concat();
        assert_eq!(bytes, expected);
        let mut other = bytes.to_vec();
        other[0] = 2;
        assert_eq!(CopyEntry::decode(other.clone().into(), &keys()), Err(EntryError::Format(2)));
        (other[0], other[10]) = (1, b'!');
        assert_eq!(CopyEntry::decode(other.into(), &keys()), Err(EntryError::Session));
    }
}
