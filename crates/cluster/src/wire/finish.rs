//! What is said of calls that the former owner of a slot finishes for the new one.

use super::Unreadable;
use bytes::Bytes;
use enfilade_proto::owner as proto;
use enfilade_proto::owner::aside::Said as Wire;
use enfilade_registry::SessionKeys;
use enfilade_session::copy::CopyEntry;
use enfilade_session::finish::{Aside, Said};
use prost::Message;

/// From the former owner: one payload.
pub(crate) fn encode_finish(entries: &[CopyEntry]) -> Bytes {
    proto::Finish { entries: entries.iter().map(CopyEntry::encode).collect() }.encode_to_vec().into()
}

/// Reads what [`encode_finish`] wrote; data shares the memory of `bytes`.
pub(crate) fn decode_finish(bytes: Bytes, keys: &SessionKeys) -> Result<Vec<CopyEntry>, Unreadable> {
    let entries = proto::Finish::decode(bytes)?.entries.into_iter();
    entries.map(|entry| CopyEntry::decode(entry, keys).map_err(|_| Unreadable("not an entry"))).collect()
}

/// From the new owner: one payload.
pub(crate) fn encode_aside(aside: Aside) -> Bytes {
    let said = match aside.what {
        Said::Cancel(id) => Wire::Cancel(id.into()),
        Said::Message(text) => Wire::Message(text),
    };
    let aside = proto::Aside { session: aside.session.to_string(), said: Some(said) };
    proto::Asides { asides: vec![aside] }.encode_to_vec().into()
}

/// Reads what [`encode_aside`] wrote.
pub(crate) fn decode_asides(bytes: Bytes, keys: &SessionKeys) -> Result<Vec<Aside>, Unreadable> {
    let asides = proto::Asides::decode(bytes)?.asides.into_iter();
    let read = |aside: proto::Aside| {
        let session = keys.verify(&aside.session).map_err(|_| Unreadable("not a session of this cluster"))?;
        let what = match aside.said.ok_or(Unreadable("an aside that says nothing"))? {
            Wire::Cancel(id) => Said::Cancel(id.into()),
            Wire::Message(text) => Said::Message(text),
        };
        Ok(Aside { session, what })
    };
    asides.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::Slot;
    use enfilade_session::copy::CopyChange;

    #[test]
    fn both_ways_go_there_and_back() {
        let keys = SessionKeys::new(1, &[7; 32]).expect("keys");
        let session = keys.mint(Slot::new(5).expect("a slot"), [1; 16]);
        let event = CopyChange::Event { stream: 1, seq: 2, droppable: true, answers: false, data: "{}".into() };
        let entries = [event, CopyChange::Close { stream: 1 }].map(|change| CopyEntry { session, change });
        assert_eq!(decode_finish(encode_finish(&entries), &keys), Ok(entries.to_vec()));
        for what in [Said::Cancel("\"a\"".into()), Said::Message("{}".into())] {
            let aside = Aside { session, what };
            assert_eq!(decode_asides(encode_aside(aside.clone()), &keys), Ok(vec![aside]));
        }
        let other = SessionKeys::new(1, &[8; 32]).expect("keys");
        assert!(decode_finish(encode_finish(&entries), &other).is_err());
        assert!(decode_finish(Bytes::from_static(b"\xff"), &keys).is_err());
        let silent = proto::Asides { asides: vec![proto::Aside { session: session.to_string(), said: None }] };
        assert!(decode_asides(silent.encode_to_vec().into(), &keys).is_err());
    }
}
