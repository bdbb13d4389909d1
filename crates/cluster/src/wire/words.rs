//! What the nodes of a slot say to each other: copies of its logs, and that a move may end.

use super::Unreadable;
use bytes::Bytes;
use enfilade_proto::owner as proto;
use enfilade_registry::copy::{CopyAnswer, CopyMessage, CopyPart, CopySaid, Lane};
use enfilade_registry::duty::PeerMessage;
use enfilade_registry::{CopyId, Fence, Generation, MoveId, Slot, Term};
use prost::Message;
use proto::copy_answer::{Lane as AnswerLane, Said};
use proto::copy_message::{Lane as MessageLane, Part};

/// One thing to say. Entries are encoded already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    Copy(CopyMessage<Bytes>),
    Answer(CopyAnswer),
    Peer(Slot, PeerMessage),
}

impl Word {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Copy(CopyMessage { part: CopyPart::Entry(entry), .. }) => entry.len() + 32,
            Self::Copy(_) | Self::Answer(_) | Self::Peer(..) => 48,
        }
    }
}

/// One payload.
pub(crate) fn encode_words(words: Vec<Word>) -> Bytes {
    let mut out = proto::Words::default();
    for word in words {
        match word {
            Word::Copy(message) => out.copies.push(copy(message)),
            Word::Answer(said) => out.answers.push(answer(said)),
            Word::Peer(slot, PeerMessage::Ready { id, generation, digest }) => out.ready.push(proto::Ready {
                slot: u32::from(slot.get()),
                moving: id.0,
                generation: generation.0,
                digest: Bytes::copy_from_slice(&digest),
            }),
        }
    }
    out.encode_to_vec().into()
}

/// Reads what [`encode_words`] wrote; entries share the memory of `bytes`.
pub(crate) fn decode_words(bytes: Bytes) -> Result<Vec<Word>, Unreadable> {
    let words = proto::Words::decode(bytes)?;
    let copies = words.copies.into_iter().map(|message| Ok(Word::Copy(read_copy(message)?)));
    let answers = words.answers.into_iter().map(|answer| Ok(Word::Answer(read_answer(answer)?)));
    let ready = words.ready.into_iter().map(|ready| {
        let (id, generation) = (MoveId(ready.moving), Generation(ready.generation));
        let message = PeerMessage::Ready { id, generation, digest: digest(&ready.digest)? };
        Ok(Word::Peer(slot(ready.slot)?, message))
    });
    copies.chain(answers).chain(ready).collect()
}

fn copy(message: CopyMessage<Bytes>) -> proto::CopyMessage {
    proto::CopyMessage {
        slot: u32::from(message.fence.slot.get()),
        term: message.fence.term.0,
        lane: Some(match message.lane {
            Lane::Second(copy) => MessageLane::Second(copy.0),
            Lane::Move(id) => MessageLane::Moving(id.0),
        }),
        n: message.n,
        part: Some(match message.part {
            CopyPart::Begin => Part::Begin(true),
            CopyPart::Complete => Part::Complete(true),
            CopyPart::Sealed(digest) => Part::Sealed(Bytes::copy_from_slice(&digest)),
            CopyPart::Entry(entry) => Part::Entry(entry),
        }),
    }
}

fn read_copy(message: proto::CopyMessage) -> Result<CopyMessage<Bytes>, Unreadable> {
    Ok(CopyMessage {
        fence: Fence { slot: slot(message.slot)?, term: Term(message.term) },
        lane: match message.lane.ok_or(Unreadable("a copy without a lane"))? {
            MessageLane::Second(copy) => Lane::Second(CopyId(copy)),
            MessageLane::Moving(id) => Lane::Move(MoveId(id)),
        },
        n: message.n,
        part: match message.part.ok_or(Unreadable("a copy without a part"))? {
            Part::Begin(_) => CopyPart::Begin,
            Part::Complete(_) => CopyPart::Complete,
            Part::Sealed(bytes) => CopyPart::Sealed(digest(&bytes)?),
            Part::Entry(entry) => CopyPart::Entry(entry),
        },
    })
}

fn answer(answer: CopyAnswer) -> proto::CopyAnswer {
    proto::CopyAnswer {
        slot: u32::from(answer.fence.slot.get()),
        term: answer.fence.term.0,
        lane: Some(match answer.lane {
            Lane::Second(copy) => AnswerLane::Second(copy.0),
            Lane::Move(id) => AnswerLane::Moving(id.0),
        }),
        said: Some(match answer.said {
            CopySaid::Upto(n) => Said::Upto(n),
            CopySaid::Missing(n) => Said::Missing(n),
            CopySaid::Nothing => Said::Nothing(true),
            CopySaid::Stale => Said::Stale(true),
        }),
    }
}

fn read_answer(answer: proto::CopyAnswer) -> Result<CopyAnswer, Unreadable> {
    Ok(CopyAnswer {
        fence: Fence { slot: slot(answer.slot)?, term: Term(answer.term) },
        lane: match answer.lane.ok_or(Unreadable("an answer without a lane"))? {
            AnswerLane::Second(copy) => Lane::Second(CopyId(copy)),
            AnswerLane::Moving(id) => Lane::Move(MoveId(id)),
        },
        said: match answer.said.ok_or(Unreadable("an answer that says nothing"))? {
            Said::Upto(n) => CopySaid::Upto(n),
            Said::Missing(n) => CopySaid::Missing(n),
            Said::Nothing(_) => CopySaid::Nothing,
            Said::Stale(_) => CopySaid::Stale,
        },
    })
}

fn slot(number: u32) -> Result<Slot, Unreadable> {
    u16::try_from(number).ok().and_then(Slot::new).ok_or(Unreadable("no such slot"))
}

fn digest(bytes: &[u8]) -> Result<[u8; 32], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable("not a digest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_goes_there_and_back() {
        let slot = Slot::new(77).expect("a slot");
        let fence = Fence { slot, term: Term(5) };
        let (second, moving) = (Lane::Second(CopyId(8)), Lane::Move(MoveId(9)));
        let part = |lane, n, part| Word::Copy(CopyMessage { fence, lane, n, part });
        let said = |lane, said| Word::Answer(CopyAnswer { fence, lane, said });
        let words = vec![
            part(second, 1, CopyPart::Begin),
            part(second, 2, CopyPart::Entry(Bytes::from_static(b"entry"))),
            part(moving, 3, CopyPart::Complete),
            part(moving, 4, CopyPart::Sealed([7; 32])),
            said(second, CopySaid::Upto(4)),
            said(second, CopySaid::Missing(2)),
            said(moving, CopySaid::Nothing),
            said(moving, CopySaid::Stale),
            Word::Peer(slot, PeerMessage::Ready { id: MoveId(9), generation: Generation(2), digest: [1; 32] }),
        ];
        assert_eq!(decode_words(encode_words(words.clone())), Ok(words));
    }

    #[test]
    fn words_of_no_known_form_are_refused() {
        let bad = [
            proto::Words { copies: vec![proto::CopyMessage::default()], ..Default::default() },
            proto::Words {
                answers: vec![proto::CopyAnswer { slot: 4096, ..Default::default() }],
                ..Default::default()
            },
            proto::Words { ready: vec![proto::Ready::default()], ..Default::default() },
        ];
        for words in bad {
            assert!(decode_words(words.encode_to_vec().into()).is_err(), "{words:?}");
        }
    }
}
