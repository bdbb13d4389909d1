//! Between updates of the registry and the messages of proto/registry.proto. Rule: what cannot be read is refused as a
//! whole; records are JSON, as in snapshots.

use bytes::Bytes;
use enfilade_proto::registry as pb;
use enfilade_registry::watch::{Answers, Globals, Position, SlotSet, Update};
use enfilade_registry::{Counts, NodeId};
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::BadMessage;
use crate::submit::Lead;

/// About how large a part is.
const PART_BYTES: usize = 128 << 10;

pub(crate) fn request(position: &Position) -> Bytes {
    let Position { index, map_version, held } = position;
    let asked = pb::WatchRequest { index: *index, map_version: *map_version, held: held.to_bytes().into() };
    asked.encode_to_vec().into()
}

pub(crate) fn read_request(bytes: &[u8]) -> Result<Position, BadMessage> {
    let pb::WatchRequest { index, map_version, held } = pb::WatchRequest::decode(bytes)?;
    let held = SlotSet::from_bytes(&held).ok_or(BadMessage::Wrong("a set of slots"))?;
    Ok(Position { index, map_version, held })
}

/// An update on its way, part by part: each is made when it is wanted.
pub(crate) struct Parting {
    update: Update,
    lead: Lead,
    slots: usize,
    sessions: usize,
    ended: bool,
}

impl Parting {
    pub(crate) fn new(update: Update, lead: Lead) -> Parting {
        Parting { update, lead, slots: 0, sessions: 0, ended: false }
    }

    /// The next part; none after the last.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut part = pb::WatchPart::default();
        let mut bytes = 0;
        bytes += fill(&mut part.slots, &self.update.slots, &mut self.slots, bytes);
        bytes += fill(&mut part.sessions, &self.update.sessions, &mut self.sessions, bytes);
        if bytes < PART_BYTES {
            part.end = Some(self.end());
            self.ended = true;
        }
        Some(part.encode_to_vec().into())
    }

    fn end(&self) -> pb::WatchEnd {
        let update = &self.update;
        let answers = update.answers.iter();
        pb::WatchEnd {
            index: update.index,
            whole: update.whole,
            now_ms: update.now_ms,
            sessions: update.counts.sessions,
            principals: update.counts.principals,
            subscriptions: update.counts.subscriptions,
            map_version: update.map_version,
            globals: update.globals.as_ref().map(Globals::encode).unwrap_or_default().into(),
            ended: update.ended.iter().map(json).collect(),
            answers: answers
                .map(|one| pb::WatchAnswers { seq: one.seq, results: one.results.iter().map(json).collect() })
                .collect(),
            leader: self.lead.leader.map_or(0, |leader| leader.0),
            raft_term: self.lead.term,
        }
    }
}

/// Moves items into a part until it is large enough; gives the bytes that were added.
fn fill<T: Serialize>(part: &mut Vec<Bytes>, items: &[T], at: &mut usize, before: usize) -> usize {
    let mut bytes = 0;
    while before + bytes < PART_BYTES
        && let Some(item) = items.get(*at)
    {
        let item = json(item);
        bytes += item.len();
        part.push(item);
        *at += 1;
    }
    bytes
}

/// The parts of one update, put together again.
#[derive(Default)]
pub(crate) struct Gathering {
    update: Update,
}

/// Who leads, as the replica that is watched knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) leader: Option<NodeId>,
    pub(crate) raft_term: u64,
}

impl Gathering {
    /// Takes a part; gives the update if this was its last.
    pub(crate) fn add(&mut self, bytes: Bytes) -> Result<Option<(Update, Told)>, BadMessage> {
        let part = pb::WatchPart::decode(bytes)?;
        for slot in &part.slots {
            self.update.slots.push(parse(slot, "a slot")?);
        }
        for session in &part.sessions {
            self.update.sessions.push(std::sync::Arc::new(parse(session, "a session")?));
        }
        let Some(end) = part.end else { return Ok(None) };
        let mut update = std::mem::take(&mut self.update);
        (update.index, update.whole, update.now_ms) = (end.index, end.whole, end.now_ms);
        (update.counts, update.map_version) = (counts(&end), end.map_version);
        if !end.globals.is_empty() {
            let globals = Globals::decode(&end.globals);
            update.globals = Some(globals.map_err(|_| BadMessage::Wrong("a head of the registry"))?);
        }
        for ended in &end.ended {
            update.ended.push(parse(ended, "an end of a session")?);
        }
        for one in &end.answers {
            let results = one.results.iter().map(|result| parse(result, "an outcome"));
            update.answers.push(Answers { seq: one.seq, results: results.collect::<Result<_, _>>()? });
        }
        let leader = Some(end.leader).filter(|leader| *leader != 0).map(NodeId);
        Ok(Some((update, Told { leader, raft_term: end.raft_term })))
    }
}

fn counts(end: &pb::WatchEnd) -> Counts {
    Counts { sessions: end.sessions, principals: end.principals, subscriptions: end.subscriptions }
}

fn json(value: &impl Serialize) -> Bytes {
    // Writing these types to memory cannot fail: string keys only, no failing serialisers.
    serde_json::to_vec(value).expect("a record is plain data").into()
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, BadMessage> {
    serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!(%error, "{what} of another node cannot be read: do all nodes run the same release?");
        BadMessage::Wrong(what)
    })
}

#[cfg(test)]
mod tests {
    use enfilade_registry::watch::{Feed, Recent, Watched};
    use enfilade_registry::{Command, Generation, NewSession, Roles, Run, SessionKeys, Slot, StateMachine};

    use super::*;

    const ME: Run = Run { node: NodeId(5), generation: Generation(1) };

    /// A registry in which one node owns everything.
    fn registry(sessions: u16) -> (StateMachine, Recent) {
        let keys = SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough");
        let (mut state, mut recent) = (StateMachine::new(), Recent::default());
        let register =
            Command::Register { run: ME, name: "n".into(), link: "l:1".into(), roles: Roles::ALL, formats: 1 };
        let mut commands = vec![register, Command::Assign { live: vec![ME] }];
        commands.extend((0..sessions).map(|n| {
            let id = keys.mint(Slot::new(n).expect("a slot"), [3; 16]);
            let text = |text: &str| text.into();
            Command::CreateSession(NewSession {
                id,
                principal: text("p"),
                server: text("s"),
                version: text("v"),
                client_info: text("{}"),
                capabilities: text("{}"),
                log_level: None,
            })
        }));
        commands.push(Command::Tick { elapsed_ms: 10 });
        let results = state.apply_batch(1, &commands);
        recent.applied(1, &commands, &results, Some((ME, 9)));
        (state, recent)
    }

    #[test]
    fn an_update_survives_its_parts() {
        let (mut state, mut recent) = registry(2000);
        let mut watched = Watched::new(ME);
        let mut feed = Feed::new(ME, read_request(&request(&watched.position())).expect("a request"));
        let lead = Lead { leader: Some(NodeId(3)), is_me: false, term: 7 };
        let told = Told { leader: Some(NodeId(3)), raft_term: 7 };

        let update = feed.next(&state, 1, &recent);
        let (mut parting, mut gathering) = (Parting::new(update.clone(), lead), Gathering::default());
        let mut parts = Vec::new();
        while let Some(part) = parting.next() {
            parts.push(gathering.add(part).expect("a part"));
        }
        assert!(parts.len() > 5, "{} parts", parts.len());
        let last = parts.pop().flatten();
        assert_eq!(last, Some((update.clone(), told)));
        assert!(parts.iter().all(Option::is_none));
        watched.apply(&update);
        assert!(watched.state().page(None).eq(state.page(None)) && watched.state().slots() == state.slots());
        assert_eq!(watched.state().counts(), state.counts());

        // Every kind of outcome, and an end.
        let id = *state.page(None).map(|record| &record.id).next().expect("a session");
        let end = Command::EndSession { id, reason: enfilade_registry::EndReason::Client };
        let touch = Command::Touch { idle: vec![(id, 1)] };
        let commands = [Command::Tick { elapsed_ms: 1 }, end.clone(), end, touch, Command::Lead { epoch: 3 }];
        let results = state.apply_batch(2, &commands);
        recent.applied(2, &commands, &results, Some((ME, 10)));
        let update = feed.next(&state, 2, &recent);
        assert_eq!((update.answers[0].results.clone(), update.ended.len()), (results, 1));
        let part = Parting::new(update.clone(), lead).next().expect("a part");
        assert_eq!(gathering.add(part).expect("a part"), Some((update, told)));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(read_request(b"\xff"), Err(BadMessage::Bytes));
        assert_eq!(read_request(b""), Err(BadMessage::Wrong("a set of slots")));
        let part = pb::WatchPart { slots: vec![Bytes::from_static(b"{}")], ..Default::default() };
        let added = Gathering::default().add(part.encode_to_vec().into());
        assert_eq!(added, Err(BadMessage::Wrong("a slot")));
    }
}
